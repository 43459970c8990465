"""With read-only access, Tango refuses a client's writes and commands, and our system goes on."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import tango
from support import launched
from watching import wait_for

from lima2_tango.cli.system import System
from lima2_tango.client.database import DeviceEntry, register

SERVER = Path(__file__).with_name("access_control.py")
DEVICE = "sys/access_control/1"
READY_S = 20.0
CLIENT = """
import sys, tango
device = tango.DeviceProxy(sys.argv[1])
for name in ("acq_state", "nb_frames", "last_error"):
    device.read_attribute(name)
device.command_inout("State")
for call in (lambda: device.write_attribute("nb_frames", 7), lambda: device.command_inout("Acquire")):
    try:
        call()
        print("allowed")
    except tango.DevFailed as error:
        print(error.args[0].reason)
"""
"""A client asks once for its rights: each is a process of its own."""


@pytest.fixture
def controlled(tmp_path: Path) -> Iterator[tuple[System, Path]]:
    """A system whose database names an access control, and the file with its rule."""
    rule = tmp_path / "rule"
    rule.write_text("write")
    with launched(tmp_path, "single") as system:
        entry = DeviceEntry(DEVICE, "AccessControl", "AccessControl/1", {"rule": [str(rule)]})
        register(system.tango_host, [entry])
        environment = dict(os.environ, TANGO_HOST=system.tango_host)
        process = subprocess.Popen([sys.executable, str(SERVER), "1"], env=environment)
        try:
            wait_for(lambda: answers(system), READY_S, "the access control")
            host, port = system.tango_host.split(":")
            tango.Database(host, int(port)).register_service("AccessControl", "tango", DEVICE)
            yield system, rule
        finally:
            process.terminate()
            process.wait(10)


def answers(system: System) -> bool:
    try:
        return tango.DeviceProxy(f"tango://{system.tango_host}/{DEVICE}").ping() > 0
    except tango.DevFailed:
        return False


def asked(system: System) -> list[str]:
    environment = dict(os.environ, TANGO_HOST=system.tango_host)
    environment.pop("SUPER_TANGO", None)
    command = [sys.executable, "-c", CLIENT, system.control]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_a_reader_reads_and_is_refused_the_rest(controlled: tuple[System, Path]) -> None:
    system, rule = controlled
    rule.write_text("read")
    assert asked(system) == ["API_ReadOnlyMode"] * 2
    control = tango.DeviceProxy(f"tango://{system.tango_host}/{system.control}")
    assert control.nb_frames != 7
    assert psutil.pid_exists(system.job.pid)


def test_a_writer_writes(controlled: tuple[System, Path]) -> None:
    system, _ = controlled
    assert asked(system) == ["allowed"] * 2
