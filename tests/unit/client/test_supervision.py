"""What keeps a system sees of its devices: those that are silent, and those that are another's."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from threading import Event, Thread
from types import SimpleNamespace

import pytest
import tango

from lima2_tango.cli.process import free_port
from lima2_tango.client import RefusedError, UnreachableError, reach, supervision
from lima2_tango.client.device import TangoDevice, write_attribute
from lima2_tango.client.proxies import bounded

SERVER = """
import sys
from tango.server import Device, attribute, run

class Control(Device):
    written = ""

    @attribute(dtype=str)
    def acq_params(self):
        return self.written

    @acq_params.write
    def acq_params(self, text):
        self.written = text

run([Control], ["Control", "one", "-nodb", "-port", sys.argv[1], "-dlist", "a/control/b"])
"""
BOUND = 20.0
"""The server answers within [s]."""


class Server:
    """A device without a database; `proxy` is a fresh one each time, which has not written before."""

    def __init__(self) -> None:
        self.port = free_port("127.0.0.1")
        self.process = subprocess.Popen([sys.executable, "-c", SERVER, str(self.port)], stdout=subprocess.DEVNULL)

    def proxy(self) -> tango.DeviceProxy:
        """Returns once the device answers."""
        deadline = time.monotonic() + BOUND
        while True:
            try:
                proxy = tango.DeviceProxy(f"tango://127.0.0.1:{self.port}/a/control/b#dbase=no")
                proxy.ping()
            except tango.DevFailed:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            else:
                return proxy

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(BOUND)


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.kill()


def test_a_first_write_to_a_silent_device_is_a_tango_error(server: Server) -> None:
    proxy = server.proxy()
    server.kill()
    with pytest.raises(tango.DevFailed):
        write_attribute(proxy, "acq_params", "{}")


def test_a_first_write_to_a_device_that_answers_is_written(server: Server) -> None:
    proxy = server.proxy()
    write_attribute(proxy, "acq_params", "{}")
    assert proxy.read_attribute("acq_params").value == "{}"


def test_a_client_says_who_does_not_answer_its_first_write(server: Server) -> None:
    device = TangoDevice("a/control/b", server.proxy(), server.proxy())
    server.kill()
    with pytest.raises(UnreachableError, match=r"a/control/b does not answer.*write acq_params"):
        device.write("acq_params", "{}")


def test_parameters_for_a_silent_control_are_a_sentence(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who keeps the system up goes on, and starts the control again."""
    proxy = server.proxy()
    monkeypatch.setattr(supervision, "_proxy", lambda host, name: proxy)
    assert supervision.write_parameters("host:1", "a/control/b", "{}", "") == ""
    fresh = server.proxy()
    monkeypatch.setattr(supervision, "_proxy", lambda host, name: fresh)
    server.kill()
    assert "a/control/b does not answer" in supervision.write_parameters("host:1", "a/control/b", "{}", "")


def test_a_frozen_device_holds_up_no_other_thread(server: Server) -> None:
    assert server.proxy()
    name = f"tango://127.0.0.1:{server.port}/a/control/b#dbase=no"
    server.process.send_signal(signal.SIGSTOP)
    os.waitpid(server.process.pid, os.WUNTRACED)  # until it is stopped
    over, longest = Event(), [0.0]

    def work() -> None:
        last = time.monotonic()
        while not over.wait(0.01):
            longest[0], last = max(longest[0], time.monotonic() - last), time.monotonic()

    thread = Thread(target=work)
    thread.start()
    try:
        with suppress(tango.DevFailed):
            bounded(tango.DeviceProxy(name), 1000)
    finally:
        over.set()
        thread.join()
    assert longest[0] < 2  # it was 3 s


class Site:
    """A Tango database that several systems share."""

    servers = {
        "a/limaprocessing/1": "lima2_tango/Ours_1",
        "a/limaprocessing/2": "lima2_tango/ours_2",
        "b/limaprocessing/1": "lima2_tango/theirs",
        "c/limaprocessing/1": "Lima2/ours_1",
    }

    def get_device_exported(self, pattern: str) -> list[str]:
        assert pattern == "*/limaprocessing/*"
        return [*self.servers, "a/limaprocessing/erased"]

    def get_device_info(self, name: str) -> SimpleNamespace:
        if name not in self.servers:
            raise tango.DevFailed
        return SimpleNamespace(ds_full_name=self.servers[name])


def test_the_processing_of_other_systems_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervision, "database_at", lambda host: Site())
    ours = ["lima2_tango/ours_1", "lima2_tango/ours_2"]
    assert supervision.processing_devices("host:1", ours) == ["a/limaprocessing/1", "a/limaprocessing/2"]


class Shared:
    """A Tango database in which other systems have some of our devices; `answers`: how a server that lives refuses."""

    exported = {
        "dserver/lima2_tango/ours": "lima2_tango/ours",
        "a/limareceiver/1": "lima2_tango/theirs",
        "a/limareceiver/2": "lima2_tango/Ours",
        "a/limareceiver/3": "lima2_tango/dead",
        "a/limareceiver/4": "lima2_tango/slow",
        "a/limareceiver/5": "lima2_tango/ended",
    }
    answers = {"ours": "", "theirs": "", "Ours": "", "dead": "API_CantConnectToDevice", "slow": "API_DeviceTimedOut"}

    def get_device_info(self, name: str) -> SimpleNamespace:
        if name not in self.exported:
            raise tango.DevFailed
        server = self.exported[name]
        return SimpleNamespace(name=name, ds_full_name=server, pid=7, exported=server.partition("/")[2] in self.answers)

    def proxy(self, name: str) -> SimpleNamespace:
        device = name.removeprefix("tango://host:1/")
        ping = partial(self._ping, self.answers[self.exported[device].partition("/")[2]])
        return SimpleNamespace(ping=ping, set_timeout_millis=lambda _: None)

    def _ping(self, reason: str) -> int:
        if reason:
            tango.Except.throw_exception(reason, "as a test wants it", "ping")
        return 100


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> Shared:
    made = Shared()
    monkeypatch.setattr(supervision, "database_at", lambda host: made)
    monkeypatch.setattr(tango, "DeviceProxy", made.proxy)
    return made


def test_devices_of_another_system_that_answer_or_are_slow_are_told_with_their_server(shared: Shared) -> None:
    devices = [f"a/limareceiver/{number}" for number in range(7)]
    assert supervision.served_elsewhere("host:1", devices, ["lima2_tango/ours"], BOUND) == {
        "a/limareceiver/1": "lima2_tango/theirs (process 7)",
        "a/limareceiver/4": "lima2_tango/slow (process 7)",
    }


def test_instances_that_run_already_are_told_with_their_process(shared: Shared) -> None:
    servers = ["lima2_tango/ours", "lima2_tango/new"]
    assert supervision.running_instances("host:1", servers, BOUND) == {"lima2_tango/ours": "process 7"}


@pytest.mark.parametrize(("instance", "runs"), [("theirs", True), ("another", False)])
def test_a_process_of_this_computer_that_keeps_the_question_runs(
    monkeypatch: pytest.MonkeyPatch, instance: str, runs: bool
) -> None:
    """Frozen by SIGSTOP it answers nobody, and its devices are its own; a number given to another process is not it."""
    command = [sys.executable, "-c", "input()", "lima2_tango", "theirs"]
    released = Event()
    with subprocess.Popen(command, stdin=subprocess.PIPE) as frozen:
        info = SimpleNamespace(name="a/b/c", ds_full_name=f"lima2_tango/{instance}", pid=frozen.pid, exported=True)
        monkeypatch.setattr(supervision, "database_at", lambda host: SimpleNamespace(get_device_info=lambda name: info))
        monkeypatch.setattr(supervision, "_takes_ping", lambda host, name: released.wait(BOUND))
        found = supervision.served_elsewhere("host:1", ["a/b/c"], [], 0.1)
        frozen.kill()
    released.set()
    assert found == ({"a/b/c": f"lima2_tango/theirs (process {frozen.pid})"} if runs else {})


class Controlled(Shared):
    """A database with a control and a receiver."""

    classes = {"a/limacontrol/1": "LimaSimulatorControl", "a/limareceiver/1": "LimaSimulatorReceiver"}

    def get_device_info(self, name: str) -> SimpleNamespace:
        return SimpleNamespace(class_name=self.classes[name], pid=7, exported=True)

    def get_class_list(self, pattern: str) -> list[str]:
        assert pattern == "Lima*Control"
        return ["LimaSimulatorControl"]

    def get_device_exported_for_class(self, name: str) -> list[str]:
        return [device for device, device_class in self.classes.items() if device_class == name]


def test_a_receiver_is_refused_with_the_controls_that_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "database_at", lambda host: Controlled())
    with pytest.raises(
        RefusedError, match=r"1 is a receiver, which its control commands: name a control: a/limacontrol/1"
    ):
        reach.check_control("a/limareceiver/1", "host:1")


def test_a_control_that_keeps_a_question_is_named_with_its_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "PATIENCE", 0.05)
    monkeypatch.setattr(reach, "database_at", lambda host: Controlled())
    released = Event()
    monkeypatch.setattr(reach, "_ping", lambda host, name: released.wait(BOUND))
    with pytest.raises(UnreachableError, match=r"a/limacontrol/1 does not answer .*process 7, is frozen"):
        reach.check_control("a/limacontrol/1", "host:1")
    released.set()


def test_a_database_that_keeps_a_question_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "PATIENCE", 0.05)
    with (
        socket.create_server(("127.0.0.1", 0)) as frozen,
        pytest.raises(UnreachableError, match=r"database at 127.0.0.1:\d+ does not answer .*frozen"),
    ):
        reach.check_control("a/limacontrol/1", f"127.0.0.1:{frozen.getsockname()[1]}")


@pytest.mark.parametrize("host", ["nonsense", "127.0.0.1:1", ""])
def test_what_connect_says_better_is_left_to_it(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TANGO_HOST", raising=False)
    reach.check_control("a/limacontrol/1", host)
