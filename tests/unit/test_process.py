"""Processes that the launcher starts, and what becomes of them."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from lima2_tango.cli import process
from lima2_tango.cli.guard import is_frozen
from lima2_tango.cli.process import Child, LaunchError, environment, free_port, program

FAMILY = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
print(child.pid, flush=True)
time.sleep(60)
"""
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); signal.pause()"
PARENT = """
import sys, time
from pathlib import Path
from lima2_tango.cli.process import Child, environment
child = Child("sleeper", [sys.executable, "-c", "import time; time.sleep(60)"], environment(), Path(sys.argv[1]))
print(child.popen.pid, flush=True)
time.sleep(60)
"""


def wait_for(condition, timeout=10.0):
    """The first true value of `condition`."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)
    return value


def gone(pid):
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


@pytest.fixture
def start(tmp_path):
    """Starts Python code as a child, and waits for its first line where asked."""
    children = []

    def launch(code, wait=True):
        child = Child("the sleeper", [sys.executable, "-c", code], environment(), tmp_path / "logs" / "child.log")
        children.append(child)
        if wait:
            wait_for(lambda: child.log.read_text().endswith("\n"))
        return child

    yield launch
    for child in children:
        child.kill()


@pytest.mark.parametrize("end", [Child.stop, Child.kill])
def test_the_end_takes_descendants_of_other_sessions_along(start, end):
    child = start(FAMILY)
    grandchild = int(child.log.read_text())
    end(child)
    assert child.popen.poll() is not None
    wait_for(lambda: gone(grandchild))
    end(child)


def test_who_ignores_sigterm_is_killed(start, monkeypatch):
    monkeypatch.setattr(process, "STOP_TIMEOUT", 0.2)
    child = start(STUBBORN)
    child.stop()
    assert child.popen.poll() == -signal.SIGKILL


def test_who_is_frozen_hears_that_it_is_to_end(start):
    child = start("import time; print(1, flush=True); time.sleep(60)")
    child.popen.send_signal(signal.SIGSTOP)
    wait_for(lambda: is_frozen(psutil.Process(child.popen.pid)))
    child.stop()
    assert child.popen.poll() == -signal.SIGTERM


@pytest.mark.parametrize("host", ["a\0b", "a" * 300])
def test_an_address_that_is_none_is_a_sentence(host):
    with pytest.raises(LaunchError, match="give an IPv4 address"):
        free_port(host)


def test_a_child_that_ended_is_reported_with_the_end_of_its_log(start):
    child = start("print('one'); print('two'); raise SystemExit(7)")
    child.popen.wait(10)
    with pytest.raises(LaunchError, match=r"(?s)the sleeper ended with exit code 7.*child\.log.*one\ntwo"):
        child.check()


def test_a_running_child_is_fine(start):
    start(STUBBORN).check()


def test_a_missing_program_is_named():
    with pytest.raises(LaunchError, match=r"no program .*bin/no_such_program"):
        program("no_such_program")


def test_programs_of_this_environment_come_first():
    assert environment()["PATH"].startswith(os.path.join(sys.prefix, "bin"))
    assert environment(TANGO_HOST="a:1")["TANGO_HOST"] == "a:1"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_children_do_not_outlive_us_however_we_end(tmp_path, number):
    command = [sys.executable, "-c", PARENT, str(tmp_path / "child.log")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as parent:
        child = int(parent.stdout.readline())
        assert not gone(child)
        parent.send_signal(number)
        parent.wait(10)
    wait_for(lambda: gone(child))
