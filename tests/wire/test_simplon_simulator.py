"""The simulated detector over its sockets, read by libraries that know nothing of ours: cbor2, json, the vendor's."""

import http.client
import json
import struct
import threading
import time
from contextlib import contextmanager
from datetime import datetime

import cbor2
import httpx
import numpy as np
import pytest
import zmq
from dectris.compression import decompress

from lima2_tango.cameras.dectris import _chunks, _legacy, _stream2
from lima2_tango.core.errors import ParamError
from lima2_tango.simulators.dectris import sender
from lima2_tango.simulators.dectris.faults import Faults
from lima2_tango.simulators.dectris.frames import Powder
from lima2_tango.simulators.dectris.models import find_model
from lima2_tango.simulators.dectris.options import Options
from lima2_tango.simulators.dectris.server import SimulatedDetector

SMALL = Powder(mean=3.0, shape=(30, 50))
BOUND = 10.0
"""Nothing here takes so long [s]."""
TYPES = {64: "u1", 69: "<u2", 70: "<u4", 85: "<f4"}


class Peer:
    """Speaks HTTP to a detector, and pulls from one of its streams."""

    def __init__(self, detector, form, context):
        self.detector = detector
        self.http = httpx.Client(base_url=detector.url, timeout=BOUND)
        self.legacy = form == "legacy"
        self.context = context
        self.socket = self.pull()
        self.command("initialize")
        self.stream(mode="enabled", format=form)

    def pull(self):
        socket = self.context.socket(zmq.PULL)
        socket.rcvtimeo = int(BOUND * 1000)
        socket.connect(f"tcp://127.0.0.1:{self.detector.stream_ports[self.legacy]}")
        return socket

    def put(self, path, value=None):
        answered = self.http.put(path, json=None if value is None else {"value": value})
        assert answered.status_code == 200, answered.text
        return answered.json()

    def command(self, name):
        return self.put(f"/detector/api/1.8.0/command/{name}")

    def config(self, **values):
        for key, value in values.items():
            self.put(f"/detector/api/1.8.0/config/{key.replace('__', '/')}", value)

    def stream(self, **values):
        for key, value in values.items():
            self.put(f"/stream/api/1.8.0/config/{key}", value)

    def status(self, path):
        return self.http.get(path).json()["value"]

    def series(self):
        """All messages of a series of internal triggers, as dictionaries."""
        self.command("arm")
        trigger = threading.Thread(target=self.command, args=("trigger",))
        trigger.start()
        messages = list(self.until_end())
        trigger.join()
        return messages

    def until_end(self):
        while True:
            message = self.message()
            yield message
            if message["type"] == "end":
                return

    def message(self, socket=None):
        parts = (socket or self.socket).recv_multipart()
        return read_legacy(parts) if self.legacy else read_cbor(parts)


def read_cbor(parts):
    (raw,) = parts
    assert raw[:3] == b"\xd9\xd9\xf7"
    return dict(cbor2.loads(raw, tag_hook=_tag))


def _tag(*given):
    (tag,) = [each for each in given if isinstance(each, cbor2.CBORTag)]  # beside it cbor2 5 has other things than 6
    if tag.tag == 56500:
        algorithm, size, data = tag.value
        return decompress(data, algorithm, elem_size=size)
    if tag.tag in TYPES:
        return np.frombuffer(tag.value, TYPES[tag.tag])
    assert tag.tag == 40
    shape, values = tag.value
    return values.reshape(shape)


def read_legacy(parts):
    """In the words of the newer stream."""
    head = json.loads(parts[0])
    if head["htype"] == "dseries_end-1.0":
        assert len(parts) == 1
        return {"type": "end", "series_id": head["series"]}
    if head["htype"] == "dheader-1.0":
        return {"type": "start", "series_id": head["series"], "parts": parts, "detail": head["header_detail"]}
    assert head["htype"] == "dimage-1.0"
    about, times = json.loads(parts[1]), json.loads(parts[3])
    assert (about["htype"], times["htype"]) == ("dimage_d-1.0", "dconfig-1.0")
    assert about["size"] == len(parts[2])
    shape, dtype = about["shape"][::-1], np.dtype(about["type"])
    raw = _undone(parts[2], about["encoding"], dtype, int(np.prod(shape)))
    assert raw is not None
    pixels = np.frombuffer(raw, dtype).reshape(shape)
    image = {"type": "image", "image_id": head["frame"], "series_id": head["series"], "times": times}
    return image | {"data": {"threshold_1": pixels}, "encoding": about["encoding"], "appendix": parts[4:]}


def _undone(data, encoding, dtype, count):
    if encoding == "<":
        return data
    if encoding == "lz4<":  # a bare block; the vendor's library wants HDF5's framing
        framed = struct.pack(">QII", count * dtype.itemsize, count * dtype.itemsize, len(data)) + data
        return decompress(framed, "lz4")
    assert encoding == f"bs{8 * dtype.itemsize}-lz4<"
    return decompress(data, "bslz4", elem_size=dtype.itemsize)


@contextmanager
def running(form="cbor", options=None, source=SMALL, model="eiger2-1m"):
    options = options or Options(distinct=3, rate=2000)
    with SimulatedDetector(find_model(model), options, source=source) as detector, zmq.Context() as context:
        peer = Peer(detector, form, context)
        yield peer
        context.destroy(linger=0)
        peer.http.close()


@pytest.fixture(scope="module", params=["cbor", "legacy"])
def peer(request):
    with running(request.param) as made:
        yield made


@pytest.fixture(scope="module")
def modern():
    with running("cbor") as made:
        yield made


def kinds(messages):
    return [message["type"] for message in messages]


def numbers(messages):
    return [message["image_id"] for message in messages if message["type"] == "image"]


@pytest.mark.parametrize("compression", ["bslz4", "lz4", "none"])
@pytest.mark.parametrize("frame_time", [0.5, 0.01, 0.0003], ids=["32 bits", "16 bits", "8 bits"])
def test_every_pixel_arrives(peer, compression, frame_time):
    peer.config(compression=compression, frame_time=frame_time, nimages=5)
    messages = peer.series()
    assert kinds(messages) == ["start", *["image"] * 5, "end"]
    assert numbers(messages) == [0, 1, 2, 3, 4]
    series = peer.detector.detector.series
    assert {message["series_id"] for message in messages} == {series.number}
    for message in messages[1:-1]:
        expected = series.ring.pixels(message["image_id"], 0)
        found = message["data"]["threshold_1"]
        assert found.dtype == expected.dtype
        assert (found == expected).all()
    assert peer.status("/detector/api/1.8.0/status/state") == "idle"


def test_the_start_says_what_was_set(modern):
    modern.config(count_time=0.2, photon_energy=8041.0, nimages=3)
    modern.stream(header_appendix="mine", image_appendix="yours", header_detail="basic")
    start, image, *_, end = modern.series()
    series = modern.detector.detector.series
    assert (start["image_size_x"], start["image_size_y"]) == (50, 30)
    assert start["channels"] == ("threshold_1",)
    assert start["number_of_images"] == 3
    assert start["count_time"] == 0.2
    assert start["threshold_energy"]["threshold_1"] == 4020.5
    assert start["incident_energy"] == 8041.0
    assert start["pixel_size_x"] == 75e-6
    assert start["user_data"] == "mine"
    assert "flatfield" not in start
    assert isinstance(start["arm_date"], datetime)
    assert image["user_data"] == "yours"
    assert image["series_unique_id"] == end["series_unique_id"] == start["series_unique_id"] == series.unique_id
    assert image["series_date"] >= start["arm_date"]
    modern.stream(header_appendix="", image_appendix="")


def test_images_tell_their_times(modern):
    modern.config(count_time=0.0001, frame_time=0.01, nimages=4)
    images = modern.series()[1:-1]
    starts = [image["start_time"][0] / image["start_time"][1] for image in images]
    assert np.diff(starts) == pytest.approx([0.0005] * 3)  # at 2000 images a second
    for image in images:
        lasted = image["stop_time"][0] - image["start_time"][0]
        assert image["real_time"] == (lasted, 50_000_000)
        assert lasted == 5000


def test_all_detail_has_the_arrays(modern):
    modern.stream(header_detail="all")
    start = modern.series()[0]
    modern.stream(header_detail="basic")
    assert start["flatfield"]["threshold_1"].shape == (30, 50)
    assert start["pixel_mask"]["threshold_1"].dtype == np.uint32
    assert len(start["countrate_correction_lookup_table"]) == 1000


def test_several_thresholds_are_several_channels(modern):
    modern.config(threshold__2__mode="enabled", nimages=2)
    start, *images, _ = modern.series()
    assert start["channels"] == ("threshold_1", "threshold_2")
    series = modern.detector.detector.series
    for image in images:
        for channel, name in enumerate(start["channels"]):
            assert (image["data"][name] == series.ring.pixels(image["image_id"], channel)).all()
    modern.config(threshold__difference__mode="enabled")
    start, image, *_ = modern.series()
    assert start["channels"] == tuple(image["data"]) == ("difference",)
    modern.config(threshold__1__mode="enabled")


@pytest.mark.parametrize(("detail", "parts"), [("none", 1), ("basic", 2), ("all", 8)])
def test_the_legacy_header_has_its_parts(detail, parts):
    with running("legacy") as peer:
        peer.stream(header_detail=detail, header_appendix="mine", image_appendix="yours")
        start, image, _ = peer.series()
        assert start["detail"] == detail
        assert len(start["parts"]) == parts + 1
        assert start["parts"][-1] == b"mine"
        assert image["appendix"] == [b"yours"]
        assert image["times"]["stop_time"] - image["times"]["start_time"] == image["times"]["real_time"] > 0
        if detail == "all":
            heads = [json.loads(part) for part in start["parts"][2:8:2]]
            assert [head["htype"] for head in heads] == ["dflatfield-1.0", "dpixelmask-1.0", "dcountrate_table-1.0"]
            for head, blob in zip(heads, start["parts"][3:8:2], strict=True):
                assert len(blob) == np.prod(head["shape"]) * np.dtype(head["type"]).itemsize
        if detail != "none":
            assert json.loads(start["parts"][1])["nimages"] == 1


def test_several_receivers_share_the_images():
    with running(options=Options(distinct=3, flat_out=True)) as peer:
        peer.config(nimages=30)
        sockets = [peer.socket, peer.pull(), peer.pull()]
        poller = zmq.Poller()
        for socket in sockets:
            poller.register(socket, zmq.POLLIN)
        trigger = threading.Thread(target=lambda: (peer.command("arm"), peer.command("trigger")))
        trigger.start()
        found = {socket: [] for socket in sockets}
        while sum(map(len, found.values())) < 32:
            for socket, _ in poller.poll(BOUND * 1000):
                found[socket].append(peer.message(socket))
        trigger.join()
        assert sorted(number for each in found.values() for number in numbers(each)) == list(range(30))
        assert all(found.values())
        for each in found.values():
            assert numbers(each) == sorted(numbers(each))


@pytest.mark.parametrize(
    ("faults", "sent"),
    [
        (Faults(drop=frozenset({1, 3})), [0, 2, 4]),
        (Faults(duplicate=frozenset({2})), [0, 1, 2, 2, 3, 4]),
        (Faults(reorder=frozenset({1})), [0, 2, 1, 3, 4]),
        (Faults(stall=(2, 0.2)), [0, 1, 2, 3, 4]),
    ],
)
@pytest.mark.parametrize("form", ["cbor", "legacy"])
def test_what_goes_wrong_on_request_is_seen(form, faults, sent):
    with running(form, Options(distinct=2, rate=2000, faults=faults)) as peer:
        peer.config(nimages=5)
        begin = time.monotonic()
        messages = peer.series()
        assert numbers(messages) == sent
        assert time.monotonic() - begin >= (faults.stall or (0, 0))[1]
        for message in messages[1:-1]:
            expected = peer.detector.detector.series.ring.pixels(message["image_id"], 0)
            assert (message["data"]["threshold_1"] == expected).all()


def test_images_of_another_series_and_no_end():
    with running(
        options=Options(distinct=2, rate=2000, faults=Faults(wrong_series=frozenset({1}), no_end=True))
    ) as peer:
        peer.config(nimages=3)
        peer.command("arm")
        peer.command("trigger")
        assert [peer.message()["series_id"] for _ in range(4)] == [1, 1, 0, 1]
        peer.command("arm")
        assert peer.message()["type"] == "start"


def test_what_nobody_takes_is_given_up_at_the_next_arm(monkeypatch):
    monkeypatch.setattr(sender, "FORGOTTEN", 0.05)
    with running() as peer:
        peer.socket.close(0)
        peer.config(nimages=4)
        peer.command("arm")
        peer.command("trigger")
        time.sleep(0.1)  # the time that it is given to be taken
        assert peer.status("/detector/api/1.8.0/status/state") == "idle"
        peer.command("arm")
        peer.socket = peer.pull()
        assert peer.message()["series_id"] == 2
        assert peer.status("/stream/api/1.8.0/status/dropped") == 4


def test_what_does_not_fit_the_buffer_is_dropped():
    with running(options=Options(distinct=2, rate=5000, buffer=10), source=Powder(50.0, shape=(600, 600))) as peer:
        peer.config(nimages=500, compression="none")
        peer.command("arm")
        peer.command("trigger")
        messages = list(peer.until_end())
        dropped = peer.status("/stream/api/1.8.0/status/dropped")
        assert len(numbers(messages)) + dropped == 500
        assert dropped > 0
        assert numbers(messages) == sorted(set(numbers(messages)))


@pytest.mark.parametrize("command", ["abort", "cancel", "disarm"])
def test_the_end_follows_a_series_that_is_ended_early(command):
    with running(options=Options(distinct=2, rate=100)) as peer:
        peer.config(nimages=500)
        peer.command("arm")
        trigger = threading.Thread(target=peer.command, args=("trigger",))
        trigger.start()
        assert [peer.message()["type"] for _ in range(3)] == ["start", "image", "image"]
        peer.command(command)
        trigger.join(BOUND)
        assert not trigger.is_alive()
        messages = list(peer.until_end())
        assert len(messages) < 400
        assert peer.status("/detector/api/1.8.0/status/state") == "idle"


@pytest.mark.parametrize("form", ["cbor", "legacy"])
@pytest.mark.parametrize("compression", ["bslz4", "lz4", "none"])
def test_the_plugin_reads_the_same(form, compression):
    """Two implementations of the protocol, which share nothing, agree."""
    decode = (lambda parts: _stream2.decode(parts[0])) if form == "cbor" else _legacy.decode
    with running(form) as peer:
        peer.config(compression=compression, nimages=3, frame_time=0.01, threshold__2__mode="enabled")
        peer.stream(header_detail="all", header_appendix="mine", image_appendix="yours")
        peer.command("arm")
        peer.command("trigger")
        start, *images, end = [decode(peer.socket.recv_multipart()) for _ in range(5)]
        series = peer.detector.detector.series
        assert {message.series for message in (start, *images, end)} == {series.number}
        assert start.shape == (30, 50)
        assert start.nb_images == 3
        names = ["threshold_1", "threshold_2"] if form == "cbor" else ["threshold_1"]
        for number, image in enumerate(images):
            assert image.number == number
            assert image.real_time == pytest.approx(0.0005)
            assert [chunk.channel for chunk in image.chunks] == names
            for channel, chunk in enumerate(image.chunks):
                assert (_chunks.pixels(chunk) == series.ring.pixels(number, channel)).all()


def test_a_disabled_stream_sends_nothing(modern):
    modern.stream(mode="disabled")
    assert modern.status("/stream/api/1.8.0/status/state") == "disabled"
    modern.command("arm")
    modern.command("trigger")
    modern.stream(mode="enabled")
    modern.config(nimages=1)
    assert modern.series()[0]["series_id"] == modern.detector.detector.series.number


def test_a_port_in_use_is_a_sentence():
    model = find_model("eiger2-1m")
    with SimulatedDetector(model, source=SMALL) as one:
        with pytest.raises(ParamError, match="--port"):
            SimulatedDetector(model, source=SMALL, port=one.port).__enter__()
        with pytest.raises(ParamError, match="--stream-port"):
            SimulatedDetector(model, source=SMALL, stream_ports=one.stream_ports).__enter__()


def test_a_request_too_large_is_refused(modern):
    connection = http.client.HTTPConnection("127.0.0.1", modern.detector.port, timeout=BOUND)
    connection.putrequest("PUT", "/detector/api/1.8.0/config/nimages")
    connection.putheader("Content-Length", str(1 << 40))
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()
