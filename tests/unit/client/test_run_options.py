"""`lima2 run` on a control that behaves: options, what is told at the end, exit codes, Ctrl-C."""

import json
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from click.testing import Result
from fake_control import FakeControl
from typer.testing import CliRunner

from lima2_tango.cli import run as module
from lima2_tango.cli.main import app
from lima2_tango.client import Client
from lima2_tango.core.state import Event
from lima2_tango.core.storage import SavingParams
from lima2_tango.saving.master import check_master

DEVICE = ("--device", FakeControl.name)
Lima2 = Callable[..., Result]


@pytest.fixture
def lima2(control: FakeControl, monkeypatch: pytest.MonkeyPatch) -> Lima2:
    """Runs `lima2 run` with these options on the control."""
    monkeypatch.setattr(module, "check_control", lambda name, host: None)
    monkeypatch.setattr(module, "connect", lambda name, host: Client(control))
    runner = CliRunner()
    return lambda *options: runner.invoke(app, ["run", *DEVICE, *options])


def test_frames_are_acquired_and_files_named(control: FakeControl, lima2: Lima2, tmp_path: Path) -> None:
    control.files = ["/data/a_master.h5", "/data/a_0.h5"]
    result = lima2("--frames", "20", "--time", "0.002", "--save", str(tmp_path), "--prefix", "a")
    assert result.exit_code == 0, result.output
    assert result.stdout == "/data/a_master.h5\n/data/a_0.h5\n"
    assert "20 of 20 frames acquired, 20 saved, in " in result.stderr
    assert control.acq.acq.expo_time == 2000
    saving = json.loads(control.choice.params.json_text())["saving"]
    assert (saving["enabled"], saving["base_path"], saving["filename_prefix"]) == (True, str(tmp_path), "a")


def test_a_relative_folder_is_the_callers(
    control: FakeControl, lima2: Lima2, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert lima2("--save", "data").exit_code == 0
    assert json.loads(control.choice.params.json_text())["saving"]["base_path"] == str(tmp_path / "data")


def test_without_save_nothing_is_saved(control: FakeControl, lima2: Lima2) -> None:
    assert lima2().exit_code == 0
    assert not json.loads(control.choice.params.json_text())["saving"]["enabled"]


def test_parameters_and_regions_are_set(control: FakeControl, lima2: Lima2) -> None:
    options = ["--roi", "1,2,3,4", "--roi", "5,6,7,8", "--set", "det.width=99", "--set", "acq.trigger_mode=software"]
    assert lima2(*options, "--set", 'statistics.arc_rois=[{"r2": 4.5}]').exit_code == 0
    statistics = json.loads(control.choice.params.json_text())["statistics"]
    assert [roi["topleft"]["x"] for roi in statistics["rect_rois"]] == [1, 5]
    assert [arc["r2"] for arc in statistics["arc_rois"]] == [4.5]
    assert control.acq.det.width == 99
    assert control.acq.acq.trigger_mode == "software"


@pytest.mark.parametrize("keys", [("control", "processing"), ("acq_params", "proc_params")], ids=" ".join)
def test_a_file_of_parameters_comes_first(control: FakeControl, lima2: Lima2, tmp_path: Path, keys) -> None:
    acq, proc = keys
    saving = {"enabled": True, "base_path": "/data"}
    content = {acq: {"acq": {"nb_frames": 9}}, proc: {"class_name": "LimaProcessingLegacy", "saving": saving}}
    file = tmp_path / "params.yaml"
    file.write_text(yaml.safe_dump(content))
    assert lima2("--params", str(file), "--time", "0.5").exit_code == 0
    assert (control.acq.acq.nb_frames, control.acq.acq.expo_time) == (9, 500_000)
    assert json.loads(control.choice.params.json_text())["saving"]["base_path"] == "/data"


def test_json_is_one_object(lima2: Lima2) -> None:
    result = lima2("--frames", "5", "--json")
    told = json.loads(result.stdout)
    assert (told["state"], told["nb_frames_saved"], told["interrupted"], told["error"]) == ("done", 5, False, "")
    assert told["seconds"] > 0


def test_a_run_that_fails_is_exit_code_1_with_its_sentence(control: FakeControl, lima2: Lima2) -> None:
    control.fail_at = 4
    result = lima2("--frames", "20", "--json")
    assert result.exit_code == 1
    assert "error: run run-0 failed: rank 1: frame 4 hurts" in result.stderr
    assert json.loads(result.stdout)["nb_frames_saved"] == 4


def test_a_control_that_dies_is_exit_code_1(control: FakeControl, lima2: Lima2) -> None:
    polls: list[str] = []

    def dies(name: str) -> None:
        polls.append(name)
        control.gone = polls.count("Run") > 3

    control.before = dies
    result = lima2("--frames", "0")
    assert result.exit_code == 1
    assert "does not answer" in result.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interruption_stops_the_run_and_says_what_is_saved(control: FakeControl, lima2: Lima2, number: int) -> None:
    def interrupts(name: str) -> None:
        if name == "Run" and control.current.made == 9:
            os.kill(os.getpid(), number)

    control.before = interrupts
    handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    result = lima2("--frames", "1000", "--json")
    assert result.exit_code == 130
    assert control.current.state == "stopped"
    told = json.loads(result.stdout)
    assert told["interrupted"]
    assert 9 <= told["nb_frames_saved"] < 100
    assert handlers == [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]


def test_an_interruption_is_told_to_people(control: FakeControl, lima2: Lima2) -> None:
    control.before = lambda name: os.kill(os.getpid(), signal.SIGINT) if name == "Acquire" else None
    result = lima2("--frames", "1000")
    assert result.exit_code == 130
    assert "stopped: " in result.stderr
    assert " of 1000 frames acquired, " in result.stderr


def test_after_an_interruption_the_last_line_is_whole_and_says_what_is_saved_and_where(
    control: FakeControl, lima2: Lima2, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # a bar as on a terminal
    monkeypatch.setenv("COLUMNS", "80")
    control.files = ["/data/today/a_master.h5", "/data/today/a_0_00000.h5"]

    def interrupts(name: str) -> None:
        if name == "Run" and control.current.made == 9:
            os.kill(os.getpid(), signal.SIGINT)

    control.before = interrupts
    said = lima2("--frames", "1000").stderr
    made = control.current.made
    *_, bar, end = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", said).replace("\r", "\n").splitlines()
    assert end.startswith(f"stopped: {made} of 1000 frames acquired, {made} saved, in ")
    assert end.endswith(", to /data/today")
    assert bar.startswith("stopped ")
    assert f" {made}/1000 frames, {made} saved " in bar
    assert len(bar.rstrip()) <= 80 - len("^C^C")


def test_a_second_interruption_leaves_at_once(control: FakeControl, lima2: Lima2) -> None:
    def interrupts(name: str) -> None:
        if name == "Acquire" or (name == "Run" and "Stop" in control.commands):
            os.kill(os.getpid(), signal.SIGINT)

    control.before = interrupts
    result = lima2("--frames", "0")
    assert result.exit_code == 130
    assert control.current.state == "stopped"
    assert "acquires no more, and may still be closing its files" in result.stderr


def test_a_second_interruption_before_the_stop_was_sent_stops_the_run_too(control: FakeControl, lima2: Lima2) -> None:
    def interrupts(name: str) -> None:
        if name == "Run":
            control.before = lambda _: None
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGINT)

    control.before = interrupts
    result = lima2("--frames", "0")
    assert result.exit_code == 130
    assert control.current.state == "stopped"


def test_who_leaves_before_the_control_has_stopped_is_told_so(control: FakeControl, lima2: Lima2) -> None:
    control.before = lambda name: os.kill(os.getpid(), signal.SIGINT) if name in {"Acquire", "Stop"} else None
    result = lima2("--frames", "0")
    assert result.exit_code == 130
    assert control.current.state == "running"
    assert "may go on" in result.stderr
    assert "told to stop" not in result.stderr


def stopped_by_another(control: FakeControl) -> Callable[[str], None]:
    def stop(name: str) -> None:
        if name == "Run" and control.current.made == 9:
            control.current.state = "stopped"

    return stop


def test_a_run_that_another_client_stops_is_exit_code_1(control: FakeControl, lima2: Lima2) -> None:
    control.before = stopped_by_another(control)
    result = lima2("--frames", "20", "--json")
    assert result.exit_code == 1
    assert "was stopped by another client after 9 of 20 frames" in result.stderr
    told = json.loads(result.stdout)
    assert (told["state"], told["nb_frames_saved"], told["interrupted"]) == ("stopped", 9, False)


def test_an_endless_run_may_be_ended_by_another_client(control: FakeControl, lima2: Lima2) -> None:
    control.before = stopped_by_another(control)
    assert lima2("--frames", "0").exit_code == 0


def test_files_that_are_not_named_are_counted(control: FakeControl, lima2: Lima2) -> None:
    def many(name: str) -> None:
        if name == "Run":
            control.current.nb_files = 1500

    control.files, control.before = ["/data/a_0.h5"], many
    result = lima2("--frames", "20")
    assert result.stdout == "/data/a_0.h5\n"
    assert "and 1499 more files" in result.stderr


BAD = {
    "unknown parameter": (["--set", "acq.nb_framse=3"], "did you mean acq.nb_frames"),
    "wrong type": (["--set", "acq.nb_frames=many"], "give a whole number"),
    "no value": (["--set", "acq.nb_frames"], "give path=value"),
    "no path": (["--set", "=3"], "give path=value"),
    "half a region": (["--roi", "1,2,3"], "give x,y,width,height"),
    "a region of words": (["--roi", "a,b,c,d"], "give x,y,width,height"),
    "no time": (["--time", "0"], "give seconds"),
    "not a time": (["--time", "nan"], "give seconds"),
    "a prefix without files": (["--prefix", "x"], "say with --save"),
    "no such pipeline": (["--pipeline", "Magic"], "choose one of"),
    "no such file": (["--params", "/nowhere.json"], "cannot be read"),
    "system and device": (["simulator"], "not both"),
    "frames twice": (["--frames", "3", "--set", "acq.nb_frames=5"], "--frames says this already"),
    "frames within a whole": (["--frames", "3", "--set", 'acq={"nb_frames": 5}'], "--frames says this already"),
    "time twice": (["--time", "1", "--set", "$.acq.expo_time=5"], "--time says this already"),
    "a folder twice": (["--save", "/a", "--set", "saving.base_path=/b"], "--save says this already"),
    "a prefix twice": (
        ["--save", "/a", "--prefix", "b", "--set", "saving.filename_prefix=c"],
        "--prefix says this already",
    ),
    "a region twice": (["--roi", "1,2,3,4", "--set", "statistics.rect_rois[0].topleft.x=5"], "--roi says this already"),
    "a pipeline twice": (["--pipeline", "Legacy", "--set", "class_name=LimaProcessingFai"], "--pipeline says this"),
    "a parameter twice": (["--set", "det.width=5", "--set", "det.width=6"], "another --set says this already"),
    "no folder": (["--save", ""], "name a folder"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence_and_exit_code_2(control: FakeControl, lima2: Lima2, case: str) -> None:
    options, remedy = BAD[case]
    result = lima2(*options)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert len(result.stderr.splitlines()) == 1
    assert remedy in result.stderr
    assert "Prepare" not in control.commands


def test_saving_may_be_changed_beside_its_folder(control: FakeControl, lima2: Lima2, tmp_path: Path) -> None:
    assert lima2("--save", str(tmp_path), "--set", "saving.filename_prefix=b").exit_code == 0
    assert json.loads(control.choice.params.json_text())["saving"]["filename_prefix"] == "b"


def failed(control: FakeControl) -> None:
    for event in (Event.PREPARE, Event.START, Event.FAIL):
        control.machine.fire(event)


def test_a_control_in_fault_says_what_to_type(control: FakeControl, lima2: Lima2) -> None:
    failed(control)
    result = lima2("--frames", "5")
    assert result.exit_code == 2
    assert "is in fault" in result.stderr
    assert "rank 1: frame 3 hurts" in result.stderr
    assert "lima2 run with --reset" in result.stderr
    assert "Acquire" not in control.commands


def test_what_it_says_to_type_clears_the_fault_and_acquires(control: FakeControl, lima2: Lima2) -> None:
    failed(control)
    result = lima2("--frames", "5", "--reset")
    assert result.exit_code == 0, result.stderr
    assert control.current.made == 5


def test_reset_stops_nobody_elses_run(control: FakeControl, lima2: Lima2) -> None:
    control.command("Acquire")
    result = lima2("--frames", "5", "--reset")
    assert result.exit_code == 2
    assert "Reset" not in control.commands
    assert "cannot prepare while running" in result.stderr


def test_files_that_exist_are_refused_with_the_options_that_help(
    control: FakeControl, lima2: Lima2, tmp_path: Path
) -> None:
    (tmp_path / "lima2_master.h5").write_text("of last year")
    control.before = lambda name: (
        check_master(SavingParams(base_path=str(tmp_path)), "$.saving_raw") if name == "Acquire" else None
    )
    result = lima2("--save", str(tmp_path))
    assert result.exit_code == 2
    assert f"{tmp_path}/lima2_master.h5 exists; give another --prefix or --save, or --set " in result.stderr
    option = result.stderr.split("or --set ")[1].split(",")[0]
    assert option == "saving_raw.file_exists_policy=overwrite"


def test_what_it_says_to_type_replaces_the_files(control: FakeControl, lima2: Lima2, tmp_path: Path) -> None:
    assert lima2("--save", str(tmp_path), "--set", "saving.file_exists_policy=overwrite").exit_code == 0
    assert json.loads(control.choice.params.json_text())["saving"]["file_exists_policy"] == "overwrite"


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xfe\xff",
        b"[1",
        b"[]",
        b"3",
        b"{}",
        b"acq: {}",
        b"{control: {}, extra: 1}",
        b"{control: {}, receiver: {acq: {}}}",
    ],
    ids=str,
)
def test_a_file_that_is_no_file_of_parameters_is_refused(lima2: Lima2, tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "params.yaml"
    file.write_bytes(content)
    result = lima2("--params", str(file))
    assert result.exit_code == 2
    assert str(file) in result.stderr


def test_a_refusal_with_json_is_json_too(lima2: Lima2) -> None:
    result = lima2("--set", "acq.expo_time=0", "--json")
    assert result.exit_code == 2
    assert json.loads(result.stdout)["error"].startswith("$.acq.expo_time = 0")


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ([], "no system is up"),
        (["simulator"], "the system simulator is not up"),
        (["--tango-host", "localhost:1"], "--device"),
        (["--device", "id00/limacontrol/simulator", "--tango-host", "localhost:1"], "no Tango database answers"),
        (["--device", "simulator", "--tango-host", "nonsense"], "HOST:PORT"),
    ],
)
def test_nobody_there_is_exit_code_2(
    options: list[str], why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIMA2_HOME", str(tmp_path))
    result = CliRunner().invoke(app, ["run", *options])
    assert result.exit_code == 2
    assert why in result.stderr


def test_help_has_an_example() -> None:
    assert "Example: lima2 run" in CliRunner().invoke(app, ["run", "--help"]).output
