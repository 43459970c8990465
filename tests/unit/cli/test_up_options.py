"""`lima2 up` and `lima2 status` where they cannot do what is asked for, and what their tables show."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from lima2_tango.cli import detached, output, rundir, up
from lima2_tango.cli.main import app

CONFIG = Path(__file__).parents[3] / "config" / "single.yaml"
Lima2 = Callable[..., Result]


@pytest.fixture
def lima2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lima2:
    monkeypatch.setenv(rundir.HOME, str(tmp_path / "home"))
    runner = CliRunner()
    return lambda *arguments: runner.invoke(app, [str(argument) for argument in arguments])


@pytest.mark.parametrize("options", [[], ["--detach"]], ids=["", "detached"])
@pytest.mark.parametrize("folder", ["/proc/nodir", "a file"])
def test_a_folder_that_cannot_be_used_is_one_sentence(
    lima2: Lima2, tmp_path: Path, folder: str, options: list[str]
) -> None:
    (tmp_path / "a file").write_text("")
    result = lima2("up", CONFIG, "--dir", tmp_path / folder, *options)
    assert result.exit_code == 2, result.output
    assert len(result.stderr.splitlines()) == 1
    assert f"error: {tmp_path / folder} cannot be used (" in result.stderr
    assert "choose another with --dir or LIMA2_HOME" in result.stderr


@pytest.mark.parametrize("command", ["status", "down"])
def test_a_configuration_that_cannot_be_read_is_bad_input(lima2: Lima2, tmp_path: Path, command: str) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text("camra: Simulator")
    result = lima2(command, broken)
    assert result.exit_code == 2
    assert "$.camra" in result.stderr


def test_a_second_detached_one_leaves_the_log_of_the_first(
    lima2: Lima2, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    (folder / "logs").mkdir(parents=True)
    log = folder / "logs" / "up.log"
    log.write_text("the first one goes on\n")
    refusing = tmp_path / "refusing"
    refusing.write_text(f"#!{sys.executable}\nprint('it is up already')\nraise SystemExit(2)\n")
    refusing.chmod(0o755)
    monkeypatch.setattr(detached, "program", lambda name: str(refusing))
    result = lima2("up", CONFIG, "--dir", folder, "--detach")
    assert result.exit_code == 2
    assert result.stderr == "it is up already\n"
    assert log.read_text() == "the first one goes on\nit is up already\n"


STARTING = """#!{python}
import os, signal, sys, time
def end(*_):
    print("ended: nothing was running", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
print("starting", flush=True)
os.kill(os.getppid(), signal.SIGINT)
time.sleep(60)
"""


def test_ctrl_c_calls_off_what_is_not_up_yet(lima2: Lima2, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = tmp_path / "slow"
    slow.write_text(STARTING.format(python=sys.executable))
    slow.chmod(0o755)
    monkeypatch.setattr(detached, "program", lambda name: str(slow))
    result = lima2("up", CONFIG, "--dir", tmp_path / "run", "--detach")
    assert result.exit_code == 130
    assert result.stderr.splitlines() == [
        "starting",
        "ended: nothing was running",
        "interrupted: single was not up yet, and was ended",
    ]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(28, "No space left on device", "/data/a"), "'/data/a' cannot be used: No space left on device"),
        (OSError("no such thing"), "no such thing"),
        (UnicodeDecodeError("utf-8", b"\xe9", 0, 1, "invalid"), "cannot be read as UTF-8"),
        (RecursionError("deep"), "nested too deep"),
    ],
)
def test_what_the_system_refuses_is_one_sentence(
    lima2: Lima2, monkeypatch: pytest.MonkeyPatch, error: Exception, told: str
) -> None:
    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr(up, "load_config", refuse)
    result = lima2("up", CONFIG)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert len(result.stderr.splitlines()) == 1
    assert told in result.stderr


def test_what_the_system_refuses_a_system_that_runs_is_exit_code_1(
    lima2: Lima2, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: object) -> None:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(up.Supervisor, "run", refuse)
    result = lima2("up", CONFIG)
    assert result.exit_code == 1
    assert "Cannot allocate memory" in result.stderr


@pytest.mark.parametrize("command", ["up", "status", "down", "run"])
def test_a_name_too_long_for_a_file_is_one_sentence(lima2: Lima2, command: str) -> None:
    result = lima2(command, "a" * 300)
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1


def test_brackets_in_a_table_are_no_markup(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    output.print_rows([{"what": "takes [x, y] or [/data]"}], False)
    assert "takes [x, y] or [/data]" in capsys.readouterr().out
    output.print_rows([{"what": "[/data]"}], True)
    assert json.loads(capsys.readouterr().out) == [{"what": "[/data]"}]
