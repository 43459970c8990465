"""Simulators that others wrote, and a recording of a real detector: REST and both streams, pixel by pixel."""

import json
import threading
from collections.abc import Generator
from contextlib import closing, contextmanager
from importlib.resources import files

import numpy as np
import pytest
import zmq
from conducting import Conducted
from dectris.compression import decompress
from dectris_peers import Peer, eiger_simulator, tickit
from support import LEGACY, put

from lima2_tango.cameras.dectris import PLUGIN, _chunks, _legacy, _stream2
from lima2_tango.cameras.dectris._messages import Image, SeriesEnd, SeriesStart
from lima2_tango.cameras.dectris._simplon import INITIALIZE_LIMIT, Simplon
from lima2_tango.cli.config import ConductorConfig, Member, SystemConfig, Topology
from lima2_tango.cli.system import System
from lima2_tango.core.errors import DetectorError
from lima2_tango.core.frame import Block
from lima2_tango.core.pool import Pool
from lima2_tango.core.series import Series
from lima2_tango.transport.topology import RoundRobin

BOUND = 20.0
"""No message takes so long [s]."""
RECORDED = files("tickit_devices.eiger") / "data"
SHAPE = (4362, 4148)
IMAGES = 3


@pytest.fixture(scope="module")
def real_image():
    """What the EIGER2 16M saw whose frame tickit-devices sends: decompressed by the vendor's library."""
    raw = decompress((RECORDED / "frame_sample").read_bytes(), "bslz4", elem_size=2)
    return np.frombuffer(raw, "<u2").reshape(SHAPE)


@pytest.fixture(scope="module")
def recorded_image():
    """What tickit-devices sends over stream 2, recorded from the same detector; found by the vendor's library alone."""
    message = (RECORDED / "stream2" / "image.cbor").read_bytes()
    begin = message.index(b"ebslz4") + len(b"ebslz4\x02")
    assert message[begin] == 0x5A  # a string of bytes, its length in four bytes
    length = int.from_bytes(message[begin + 1 : begin + 5], "big")
    raw = decompress(message[begin + 5 : begin + 5 + length], "bslz4", elem_size=2)
    return np.frombuffer(raw, "<u2").reshape(SHAPE)


@pytest.fixture(scope="module")
def tickit_peer(tmp_path_factory):
    with tickit(tmp_path_factory.mktemp("tickit")) as peer:
        yield peer


@contextmanager
def driven(peer: Peer) -> Generator[Simplon]:
    simplon = Simplon(peer.address)
    try:
        simplon.command("initialize", limit=INITIALIZE_LIMIT)
        yield simplon
    finally:
        simplon.close()


def series(simplon, address, decode):
    """Arm, trigger, and all messages of the series."""
    with zmq.Context() as context:
        socket = context.socket(zmq.PULL)
        socket.rcvtimeo = int(BOUND * 1000)
        socket.connect(address)
        simplon.command("arm", limit=BOUND)
        trigger = threading.Thread(target=simplon.command, args=("trigger",), kwargs={"limit": BOUND})
        trigger.start()
        try:
            messages = []
            while not messages or not isinstance(messages[-1], SeriesEnd):
                messages += decode(socket.recv_multipart())
            return messages
        finally:
            context.destroy(linger=0)
            trigger.join(BOUND)


def modern(parts):
    """tickit sends messages that it has at hand as the parts of one."""
    return [_stream2.decode(part) for part in parts]


def legacy(parts):
    return [_legacy.decode(parts)]


def set_up(simplon, **values):
    for key, value in values.items():
        simplon.put(key, value)


def check(messages, images):
    """A whole series of `images`."""
    start, *received, end = messages
    assert isinstance(start, SeriesStart)
    assert all(isinstance(message, Image) for message in received)
    assert [image.number for image in received] == list(range(len(images)))
    assert {message.series for message in messages} == {start.series} == {end.series}
    assert start.shape in {None, images[0].shape}
    for image, expected in zip(received, images, strict=True):
        (chunk,) = image.chunks
        pixels = _chunks.pixels(chunk)
        assert pixels.dtype == expected.dtype
        assert (pixels == expected).all()


def test_the_recorded_messages_of_a_real_detector_decode(recorded_image):
    start, image, end = (
        _stream2.decode((RECORDED / "stream2" / f"{name}.cbor").read_bytes()) for name in ("start", "image", "end")
    )
    assert (start.shape, start.channels, start.nb_images) == (SHAPE, ("threshold_1",), 1)
    assert start.series == image.series == end.series == 15614
    assert start.unique_id == image.unique_id == end.unique_id == "01HBV3JPF9T4ZDPADX6EMK6XMZ"
    (chunk,) = image.chunks
    pixels = _chunks.pixels(chunk)
    assert pixels.dtype == recorded_image.dtype
    assert (pixels == recorded_image).all()
    assert (pixels == 65535).sum() > 1_000_000  # between its modules


@pytest.mark.long
def test_tickit_s_stream_2(tickit_peer, recorded_image):
    with driven(tickit_peer) as simplon:
        assert simplon.version == "1.8.0"
        simplon.put("format", "cbor", module="stream")
        set_up(simplon, trigger_mode="ints", nimages=IMAGES, count_time=0.05)
        check(series(simplon, tickit_peer.stream2, modern), [recorded_image] * IMAGES)
        assert simplon.state == "idle"


@pytest.mark.long
def test_tickit_s_legacy_stream(tickit_peer, real_image):
    with driven(tickit_peer) as simplon:
        simplon.put("format", "legacy", module="stream")
        set_up(simplon, trigger_mode="ints", nimages=IMAGES, count_time=0.05)
        check(series(simplon, tickit_peer.legacy, legacy), [real_image] * IMAGES)


@pytest.mark.long
@pytest.mark.parametrize("compression", ["bslz4", "lz4"])
def test_eiger_simulator_s_legacy_stream(compression, tmp_path):
    random = np.random.default_rng(0)
    images = random.poisson(1.0, (IMAGES, 3269, 3110)).astype(np.uint16)
    with eiger_simulator(tmp_path, images, compression) as peer, driven(peer) as simplon:
        assert simplon.version == "1.6.0"
        set_up(simplon, trigger_mode="ints", nimages=IMAGES, count_time=0.05)
        check(series(simplon, peer.legacy, legacy), images)


@pytest.fixture
def second_arm(tmp_path):
    """tickit answers each arm with sequence id 2: who tells series by that, as in the legacy stream, fits its second.

    The first leaves a start and an end behind, which the camera must tell from its own.
    """
    with tickit(tmp_path) as peer:
        with driven(peer) as simplon:
            simplon.command("arm")
            simplon.command("abort")
        yield peer


@pytest.mark.long
@pytest.mark.parametrize("stream", ["stream2", "legacy"])
def test_the_camera_takes_a_run_from_tickit(second_arm, real_image, recorded_image, stream):
    address = second_arm.stream2 if stream == "stream2" else second_arm.legacy
    expected = recorded_image if stream == "stream2" else real_image
    frames = acquired(second_arm, stream, int(address.rpartition(":")[2]))
    assert sorted(frames) == list(range(IMAGES))
    for frame in frames.values():
        assert frame.shape == (1, *SHAPE)
        assert (frame[0] == expected).all()


def acquired(peer, stream, port):
    """Frames of a run of both halves of the camera, by number."""
    control, receiver = PLUGIN.control(), PLUGIN.receiver()
    with closing(control), closing(receiver):
        control.locate(peer.address)
        receiver.locate(peer.address)
        det = {"stream": stream, "stream_port": port, "overload": "abort"}
        acq = {"nb_frames": IMAGES, "expo_time": 50_000, "latency_time": 0}
        params = PLUGIN.params.parse(json.dumps({"acq": acq, "det": det}))
        control.prepare(params)
        receiver.prepare(params, 0, 1, Pool(1 << 29))
        series = Series(params.acq, RoundRobin(1), 0)
        series.tag = control.tag
        control.start(series.grant)
        frames = {}
        for item in receiver.blocks(series):
            if isinstance(item, Block):
                frames |= dict(zip(item.index.tolist(), item.data.copy(), strict=True))
                item.lease.release()
        return frames


@pytest.mark.long
def test_the_unmodified_conductor_takes_runs_from_tickit(real_image, recorded_image, tmp_path):
    """Both streams, the raw frames of the camera and those of the pipeline; the legacy run is the second arm."""
    with tickit(tmp_path) as peer, System(system_with(peer), tmp_path / "system") as system:
        system.wait_ready(30)
        for stream, expected in (("stream2", recorded_image), ("legacy", real_image)):
            address = peer.stream2 if stream == "stream2" else peer.legacy
            conducted(system, stream, address, [expected] * IMAGES, tmp_path / stream)


def conducted(system, stream, address, images, folder):
    """A run of which both master files have these images."""
    client, saving = Conducted.of(system), {"saving.enabled": True, "saving.base_path": str(folder)}
    acq = put(
        client.services.acquisition.default_params()[1],
        {"acq.nb_frames": IMAGES, "acq.expo_time": 50_000, "acq.latency_time": 0}
        | {"det.stream": stream, "det.stream_port": int(address.rpartition(":")[2])}
        | {**saving, "saving.filename_prefix": "raw"},
    )
    client.run(acq, put(client.services.pipeline.default_params(LEGACY), saving))
    for source in ("frame", "raw_frame"):
        frames = client.master(source)
        assert len(frames) == IMAGES
        assert all((frame == image).all() for frame, image in zip(frames, images, strict=True))


@pytest.mark.long
def test_the_unmodified_conductor_takes_runs_from_eiger_simulator(tmp_path):
    """It is in state ready for ever, has one threshold, and answers what it does not know with an error of its own."""
    images = np.random.default_rng(1).poisson(1.0, (IMAGES, 3269, 3110)).astype(np.uint16)
    with eiger_simulator(tmp_path, images, "bslz4") as peer, System(system_with(peer), tmp_path / "system") as system:
        system.wait_ready(30)
        for run in range(2):
            conducted(system, "legacy", peer.legacy, images, tmp_path / f"run{run}")


def system_with(peer):
    """One receiver that pulls from the peer, its control and a conductor."""
    at = {"detector": [peer.address]}
    return SystemConfig(
        name="peer",
        camera="Dectris",
        control=Member(device="id00/limacontrol/dectris", instance="dectris_ctl", properties=at),
        receivers=(Member(device="id00/limareceiver/dectris1", instance="dectris_rcv1", properties=at),),
        conductor=ConductorConfig(topology=Topology.SINGLE),
    )


@pytest.mark.long
def test_a_peer_says_what_it_does_not_know(tickit_peer):
    with driven(tickit_peer) as simplon, pytest.raises(DetectorError):
        simplon.put("no_such_parameter", 1)
