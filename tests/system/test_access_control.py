"""With read-only access, Tango refuses a client's writes and commands, and our system goes on."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
import tango
from access_control import Rules, access_control, missing
from support import LEGACY, launched

from lima2_tango.cli.system import System

pytestmark = pytest.mark.skipif(bool(missing()), reason=f"Debian's access control needs {', '.join(missing())}")

CLIENT = """
import sys, tango
device = tango.DeviceProxy(sys.argv[1])
device.set_timeout_millis(30_000)  # the first Acquire waits for kernels
for name in ("acq_state", "nb_frames", "last_error"):
    device.read_attribute(name)
device.ListCameras()
for call in (lambda: device.write_attribute("nb_frames", int(sys.argv[2])), lambda: device.Acquire()):
    try:
        call()
        print("allowed")
    except tango.DevFailed as error:
        print(error.args[0].reason)
print(device.nb_frames)
"""
"""A client asks once for its rights: each is a process of its own."""
FRAMES = 3


@pytest.fixture(scope="module")
def controlled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[System, Rules]]:
    """A system whose database names an access control, and its rules."""
    folder = tmp_path_factory.mktemp("controlled")
    with launched(folder, "simulator") as system:
        control = tango.DeviceProxy(f"tango://{system.tango_host}/{system.control}")
        control.proc_params = json.dumps({"class_name": LEGACY, "saving": {"enabled": False}})
        with access_control(system.tango_host, folder) as rules:
            yield system, rules


def asked(system: System, frames: int) -> list[str]:
    environment = dict(os.environ, TANGO_HOST=system.tango_host)
    environment.pop("SUPER_TANGO", None)
    command = [sys.executable, "-c", CLIENT, system.control, str(frames)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_a_reader_reads_and_is_refused_the_rest_and_a_writer_goes_on(controlled: tuple[System, Rules]) -> None:
    system, rules = controlled
    rules.let("id00/limacontrol/*", "read")
    assert asked(system, FRAMES)[:2] == ["API_ReadOnlyMode"] * 2
    rules.let("id00/limacontrol/*", "write")
    assert asked(system, FRAMES) == ["allowed", "allowed", str(FRAMES)]
