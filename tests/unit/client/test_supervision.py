"""What keeps a system sees of its devices: those that are silent, and those that are another's."""

import subprocess
import sys
import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import tango

from lima2_tango.cli.process import free_port
from lima2_tango.client import UnreachableError, supervision
from lima2_tango.client.device import TangoDevice, write_attribute

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
