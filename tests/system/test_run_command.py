"""`lima2 run` as a person types it, against a real system."""

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import pytest
from support import LEGACY, launched
from watching import wait_for

from lima2_tango.cli.process import program
from lima2_tango.cli.rundir import Phase, Running, SystemState, write_state
from lima2_tango.cli.system import System
from lima2_tango.client import Client, connect
from lima2_tango.core.state import State

SMALL = ("--set", 'img.roi={"topleft": {"x": 992, "y": 960}, "dimensions": {"x": 64, "y": 96}}')
TIMEOUT = 60
Popen = subprocess.Popen[str]


@pytest.fixture
def lima(system: System) -> Iterator[Client]:
    with connect(system.control, system.tango_host) as client:
        client.replace(acq={}, proc={"class_name": LEGACY, "saving": {"enabled": False}})
        yield client
        client.stop()
        client.reset()


@pytest.fixture
def start(lima: Client, tmp_path: Path, system: System) -> Iterator[Callable[..., Popen]]:
    """Starts `lima2 run` with these options; ends what is left."""
    started: list[Popen] = []

    def run(*options: str) -> Popen:
        where = () if "--device" in options else ("--device", system.control)
        command = [program("lima2"), "run", *where, "--tango-host", system.tango_host, *SMALL, *options]
        pipe = subprocess.PIPE
        started.append(subprocess.Popen(command, cwd=tmp_path, stdout=pipe, stderr=pipe, text=True))
        return started[-1]

    yield run
    for process in started:
        process.kill()
        process.communicate(timeout=TIMEOUT)


def saved_frames(lima: Client) -> int:
    run = lima.last_run()
    return 0 if run is None else run.result().nb_frames_saved


def images(path: str) -> int:
    with h5py.File(path) as file:
        return len(file["entry_0000/instrument/detector/data"])


def test_frames_are_saved_and_their_files_named(start: Callable[..., Popen], tmp_path: Path) -> None:
    process = start("--frames", "30", "--time", "0.002", "--save", "data", "--prefix", "test", "--roi", "0,0,9,9")
    files, said = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0, said
    assert files.splitlines() == [
        str(tmp_path / "data" / name) for name in ("test_master.h5", "test_0_00000.h5", "test_1_00000.h5")
    ]
    assert images(files.splitlines()[0]) == 30
    assert "30 of 30 frames acquired, 30 saved" in said


def test_ctrl_c_stops_and_keeps_the_data(start: Callable[..., Popen], lima: Client, tmp_path: Path) -> None:
    process = start("--frames", "0", "--time", "0.002", "--save", str(tmp_path), "--json")
    wait_for(lambda: lima.state() is State.RUNNING and saved_frames(lima) > 20, 30, "frames")
    process.send_signal(signal.SIGINT)
    text, said = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 130, said
    told = json.loads(text)
    assert told["interrupted"]
    assert told["state"] == "stopped"
    assert told["nb_frames_saved"] == images(told["files"][0]) > 20
    assert lima.state() is State.IDLE


def test_a_run_that_another_client_stops_is_exit_code_1(
    start: Callable[..., Popen], lima: Client, tmp_path: Path
) -> None:
    process = start("--frames", "100000", "--time", "0.002", "--save", str(tmp_path), "--json")
    wait_for(lambda: lima.state() is State.RUNNING and saved_frames(lima) > 20, 30, "frames")
    lima.stop()
    text, said = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 1, said
    told = json.loads(text)
    assert told["state"] == "stopped"
    assert f"stopped by another client after {told['nb_frames_acquired']} of 100000 frames" in said
    assert told["nb_frames_saved"] == images(told["files"][0]) > 20
    assert told["nb_files"] == len(told["files"])


def test_a_refusal_is_a_sentence(start: Callable[..., Popen]) -> None:
    process = start("--roi", "5000,0,4,4")
    _, said = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 2
    assert said.startswith("error: Prepare failed on receiver 0")
    assert "$.statistics.rect_rois[0]" in said
    assert len(said.splitlines()) == 1


def test_no_such_device_is_a_sentence(start: Callable[..., Popen]) -> None:
    process = start("--device", "id00/limacontrol/nobody")
    _, said = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 2
    assert "id00/limacontrol/nobody is not defined in this Tango database" in said


def test_a_system_goes_by_its_name(
    system: System, lima: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `lima2 up` writes it down."""
    monkeypatch.setenv("LIMA2_HOME", str(tmp_path))
    (tmp_path / "simulator").mkdir()
    supervisor = Running.of("lima2 up", os.getpid())
    state = SystemState(
        name="simulator",
        config="simulator.yaml",
        folder=str(tmp_path / "simulator"),
        supervisor=supervisor,
        phase=Phase.UP,
        tango_host=system.tango_host,
        control=system.control,
        receivers=system.receivers,
    )
    write_state(state)
    for name in ([], ["simulator"]):
        command = [program("lima2"), "run", *name, "--frames", "3", "--json", *SMALL]
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["nb_frames_processed"] == 3


def test_a_server_that_dies_is_exit_code_1_in_time(tmp_path: Path) -> None:
    with launched(tmp_path, "single") as own:
        command = [program("lima2"), "run", "--device", own.control, "--tango-host", own.tango_host, "--frames", "0"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        with connect(own.control, own.tango_host) as lima:
            wait_for(lambda: lima.state() is State.RUNNING and next(lima.last_run().frames()), 30, "frames")
        own.kill_job()
        _, said = process.communicate(timeout=TIMEOUT)
        assert process.returncode == 1
        assert f"{own.control} does not answer" in said
