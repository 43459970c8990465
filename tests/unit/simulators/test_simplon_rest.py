"""The simulated detector through its REST interface, without a socket of HTTP: paths, answers, states."""

import json

import numpy as np
import pytest

from lima2_tango.simulators.dectris.detector import ALLOWED, ANY, Detector
from lima2_tango.simulators.dectris.faults import Faults
from lima2_tango.simulators.dectris.frames import Powder
from lima2_tango.simulators.dectris.models import find_model
from lima2_tango.simulators.dectris.options import Options
from lima2_tango.simulators.dectris.rest import answer
from lima2_tango.simulators.dectris.sender import Sender
from lima2_tango.simulators.dectris.values import darray

SMALL = Powder(shape=(16, 24))


class Client:
    def __init__(self, detector):
        self.detector = detector

    def get(self, path):
        return self._call("GET", path, b"")

    def put(self, path, value=None):
        return self._call("PUT", path, b"" if value is None else json.dumps({"value": value}).encode())

    def command(self, name, value=None):
        return self.put(f"detector/api/1.8.0/command/{name}", value)

    def config(self, key, value):
        return self.put(f"detector/api/1.8.0/config/{key}", value)

    @property
    def state(self):
        return self.get("detector/api/1.8.0/status/state")["value"]

    def _call(self, method, path, body):
        given = answer(self.detector, method, f"/{path}", body)
        if given.status == 200:
            return json.loads(given.body)
        assert given.content_type.startswith("text/plain")
        return given.status, given.body.decode()


@pytest.fixture
def make():
    """A detector that nobody pulls images from; its stream is disabled unless a test enables it."""
    senders = []

    def made(options=None, model="eiger2-1m", source=SMALL):
        options = options or Options(distinct=2)
        senders.append(Sender("127.0.0.1", (0, 0), options.faults, options.buffer))
        return Client(Detector(find_model(model), options, senders[-1], source))

    yield made
    for sender in senders:
        sender.close()


@pytest.fixture
def client(make):
    return make()


@pytest.fixture
def idle(client):
    client.command("initialize")
    client.config("frame_time", 0.001)
    return client


def test_the_version_is_told_and_asked_for(client):
    assert client.get("detector/api/version")["value"] == client.get("stream/api/version/")["value"] == "1.8.0"
    status, text = client.get("detector/api/1.6.0/config/nimages")
    assert status == 404
    assert "unknown path" in text


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""),
        ("GET", "detector"),
        ("GET", "detector/api/1.8.0"),
        ("GET", "detector/api/1.8.0/config/nimage"),
        ("GET", "detector/api/1.8.0/status/humidit"),
        ("PUT", "detector/api/1.8.0/status/state"),
        ("PUT", "detector/api/1.8.0/command/harm"),
        ("GET", "detector/api/1.8.0/command/arm"),
        ("PUT", "stream/api/1.8.0/command/arm"),
        ("GET", "camera/api/1.8.0/config/nimages"),
        ("POST", "detector/api/1.8.0/config/nimages"),
    ],
)
def test_other_paths_are_not_found(client, method, path):
    assert answer(client.detector, method, path, b"").status == 404


@pytest.mark.parametrize("body", [b"", b"{", b"3", b"[]", b"{}", b"\xff"])
def test_a_body_that_is_none_is_refused(client, body):
    given = answer(client.detector, "PUT", "/detector/api/1.8.0/config/nimages", body)
    assert given.status == 400


@pytest.mark.parametrize("module", ["detector", "stream", "filewriter", "monitor", "system"])
def test_every_key_can_be_read(client, module):
    for task in ("config", "status"):
        for key in client.get(f"{module}/api/1.8.0/{task}/keys"):
            assert "value" in client.get(f"{module}/api/1.8.0/{task}/{key}"), (module, task, key)


def test_several_parameters_at_once(client):
    body = json.dumps({"mode": {"value": "enabled"}, "format": {"value": "cbor"}}).encode()
    given = answer(client.detector, "PUT", "/stream/api/1.8.0/config", body)
    assert json.loads(given.body) == ["format", "mode"]
    assert client.get("stream/api/1.8.0/config/format")["value"] == "cbor"
    assert answer(client.detector, "PUT", "/stream/api/1.8.0/config", b"[]").status == 400


@pytest.mark.parametrize("command", sorted(ALLOWED))
def test_commands_are_taken_in_their_states_alone(make, command):
    taken = {}
    for state in ("na", "idle", "ready", "error"):
        client = make(Options(distinct=1, rate=1000, faults=Faults(error_at=0 if state == "error" else None)))
        for step in {"na": [], "idle": ["initialize"]}.get(state, ["initialize", "arm"]):
            client.command(step)
        if state == "error":
            client.command("trigger")
        assert client.state == state
        taken[state] = isinstance(client.command(command), dict)
        client.detector.close()
    assert taken == {state: state in ALLOWED[command] for state in taken}
    assert set(ALLOWED[command]) <= set(ANY)


def test_a_series_of_triggers(idle):
    idle.config("nimages", 3)
    idle.config("ntrigger", 2)
    first = idle.command("arm")["sequence id"]
    assert idle.state == "ready"
    status, text = idle.config("nimages", 4)
    assert status == 400
    assert "state ready" in text
    idle.command("trigger")
    assert idle.state == "ready"
    idle.command("trigger")
    assert idle.state == "idle"
    assert idle.detector.series.exposed == idle.detector.series.nb_images == 6
    assert idle.command("arm")["sequence id"] == first + 1 == idle.detector.series.number
    idle.command("initialize")
    assert idle.command("arm")["sequence id"] == 1 == idle.detector.series.number


def test_enabled_exposures_have_an_image_each(idle):
    for key, value in (("trigger_mode", "inte"), ("nimages", 7), ("ntrigger", 2)):
        idle.config(key, value)
    idle.command("arm")
    assert idle.detector.series.nb_images == 2
    assert idle.command("trigger", -1.0)[0] == 400
    idle.command("trigger", 0.002)
    idle.command("trigger")
    assert idle.state == "idle"
    assert idle.detector.series.exposed == 2


def test_external_triggers_do_not_come_from_the_command(idle):
    idle.config("trigger_mode", "exts")
    idle.command("arm")
    assert idle.command("trigger")[0] == 400
    assert idle.put("simulator/pulse") == {"taken": True}
    assert idle.detector.series.stopped.wait(5)
    assert idle.put("simulator/pulse") == {"taken": False}
    assert idle.state == "idle"


def test_external_triggers_come_by_themselves(make):
    client = make(Options(distinct=1, pulse_period=0.001, rate=1000))
    client.command("initialize")
    for key, value in (("trigger_mode", "exte"), ("ntrigger", 5)):
        client.config(key, value)
    client.command("arm")
    assert client.detector.series.stopped.wait(5)
    assert client.detector.series.exposed == 5


@pytest.mark.parametrize(("nimages", "ntrigger", "taken"), [(4, 1, True), (3, 1, False), (4, 2, False)])
def test_double_gates_need_an_even_number(idle, nimages, ntrigger, taken):
    for key, value in (("trigger_mode", "extg"), ("nimages", nimages), ("ntrigger", ntrigger)):
        idle.config(key, value)
    assert isinstance(idle.command("arm"), dict) is taken


def test_without_a_channel_it_does_not_arm(idle):
    idle.config("threshold/1/mode", "disabled")
    status, text = idle.command("arm")
    assert status == 400
    assert "threshold" in text


@pytest.mark.parametrize("command", ["abort", "cancel", "disarm"])
def test_a_series_can_be_ended_early(make, command):
    client = make(Options(distinct=1, pulse_period=0))
    client.command("initialize")
    for key, value in (("trigger_mode", "exts"), ("nimages", 1000), ("frame_time", 1.0)):
        client.config(key, value)
    client.command("arm")
    client.put("simulator/pulse")
    assert client.state == "acquire"
    client.command(command)
    assert client.state == "idle"
    series = client.detector.series
    assert series.stopped.is_set()
    assert series.discarded.is_set() is (command == "abort")
    assert series.exposed <= 1
    assert isinstance(client.command(command), dict)


def test_a_broken_detector_wants_to_be_initialised(make):
    client = make(Options(distinct=1, rate=1000, faults=Faults(error_at=2, high_temperature=True)))
    client.command("initialize")
    client.config("nimages", 5)
    client.command("arm")
    client.command("trigger")
    assert client.state == "error"
    assert client.get("detector/api/1.8.0/status/error")["value"]
    assert client.detector.series.exposed == 2
    client.command("abort")
    assert client.state == "error"
    temperature = client.get("detector/api/1.8.0/status/temperature")
    assert temperature["state"] == "critical"
    assert temperature["value"] > 40
    client.command("initialize")
    assert client.state == "idle"


def test_a_mask_can_be_set_and_is_seen_in_the_images(make):
    client = make(Options(distinct=1), source=Powder())
    client.command("initialize")
    shape = client.get("detector/api/1.8.0/config/pixel_mask")["value"]["shape"]
    assert shape == [1062, 1028]
    mask = np.zeros(shape, np.uint32)
    mask[3, 5] = 1
    client.config("pixel_mask", darray(mask))
    client.command("arm")
    image = client.detector.series.ring.pixels(0, 0)
    assert image[3, 5] == np.iinfo(image.dtype).max
    assert image[512:550].max() < 1000


def test_a_restart_forgets_everything(idle):
    idle.put("system/api/1.8.0/command/restart")
    assert idle.state == "na"
    assert idle.get("detector/api/1.8.0/config/frame_time")["value"] > 0.1


def test_a_stream_that_has_died_is_an_error_and_no_wait_for_ever(make):
    client = make(Options(distinct=1, flat_out=True))
    client.command("initialize")
    client.put("stream/api/1.8.0/config/mode", "enabled")
    client.command("arm")
    client.detector._sender.close()
    client.command("trigger")
    assert client.state == "error"
