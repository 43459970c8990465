"""A program runs at most once, beside the data path, and its failure is told."""

import sys
import time

import pytest

from lima2_tango.core.errors import ParamError, ProcessingError
from lima2_tango.processing.command import OneShotCommand, allowed_command


def python(code, *args, timeout=10.0):
    return OneShotCommand([sys.executable, "-c", code, *args], timeout)


def test_command_that_was_never_triggered_has_not_failed():
    python("raise SystemExit(1)").check()


def test_trigger_does_not_wait_and_runs_once(tmp_path):
    command = python("import sys, time; time.sleep(0.3); open(sys.argv[1], 'a').write('x')", str(tmp_path / "calls"))
    begin = time.monotonic()
    for _ in range(3):
        command.trigger()
    assert time.monotonic() - begin < 0.2
    command.check()
    assert (tmp_path / "calls").read_text() == "x"


@pytest.mark.parametrize(
    ("code", "timeout", "message"),
    [
        ("raise SystemExit(3)", 10.0, "ended with exit status 3;"),
        ("raise SystemExit('no beam')", 10.0, "ended with exit status 1, saying: no beam;"),
        ("import time; time.sleep(60)", 0.2, "did not end within 0.2 s and was killed;"),
        ("import os, time; os.fork(); time.sleep(60)", 0.2, "did not end within 0.2 s and was killed;"),
    ],
)
def test_failure_is_told_by_every_check(code, timeout, message):
    command = python(code, timeout=timeout)
    command.trigger()
    for _ in range(2):
        with pytest.raises(ProcessingError, match=message):
            command.check()


def test_program_that_cannot_start_is_a_failure(tmp_path):
    broken = tmp_path / "broken"
    broken.write_text("not a program")
    broken.chmod(0o755)
    command = allowed_command("$.command", [str(broken)], [str(broken)])
    command.trigger()
    with pytest.raises(ProcessingError, match="could not be started"):
        command.check()


@pytest.mark.parametrize(
    ("allowed", "lists"), [([], "it lists none"), (["/bin/true", "/bin/false"], "/bin/true, /bin/false")]
)
def test_program_that_is_not_allowed_is_refused_with_what_is(allowed, lists):
    with pytest.raises(ParamError, match=lists) as caught:
        allowed_command("$.command", ["/bin/sh"], allowed)
    assert caught.value.path == "$.command"
