"""`lima2 up`, `down` and `status`, as people type them."""

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401  (the filter that the files are compressed with)
import pytest
import tango
from supervised import LIMA2, Supervised, kept_up, lima2, of_folder, printed, write_config
from support import FAST, SMALL, Rig
from watching import wait_for

from lima2_tango.cli.config import SERVER
from lima2_tango.client.supervision import processing_devices
from lima2_tango.core.state import State

DEFAULTS = {
    "acq_params": {"acq": {"nb_frames": 7, "expo_time": 2000}},
    "proc_params": {"class_name": "LimaProcessingLegacy", "saving": {"filename_prefix": "begin"}},
}


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supervised]:
    """Control and two receivers, no conductor, parameters to begin with."""
    home = tmp_path_factory.mktemp("up")
    with kept_up(home / "home", write_config(home / "kept.yaml", name="kept", **DEFAULTS)) as system:
        yield system


def single(folder: Path, **changes: Any) -> Path:
    """One process with control and receiver."""
    return write_config(folder / "one.yaml", "single", name="one", **changes)


def rig_of(system: Supervised) -> Rig:
    state = system.state
    return Rig(state.tango_host, state.control, state.receivers)


def begin_run(system: Supervised, data: Path) -> Rig:
    """An endless saved run that has closed its first files."""
    data.mkdir()
    rig = rig_of(system)
    endless = {**FAST, **SMALL, "acq.expo_time": 1000, "acq.nb_frames": 0}
    rig.prepare(rig.acq(endless), rig.legacy(data, {"saving.nb_frames_per_file": 40}))
    rig.start()
    wait_for(lambda: len(list(data.glob("*.h5"))) >= 2 * len(rig.receivers), 20, "files are closed")
    return rig


def check_closed(data: Path) -> None:
    """No file is hidden any more, and all can be read."""
    assert [name for name in os.listdir(data) if name.startswith(".")] == []
    for path in data.glob("*.h5"):
        with h5py.File(path, "r") as file:
            assert len(file["entry_0000/measurement/data"]) > 0


def test_status_shows_a_system_that_is_well(kept: Supervised) -> None:
    look = lima2("status", "--json", home=kept.home)
    assert look.returncode == 0, look.stdout + look.stderr
    content = printed(look)
    assert content["well"]
    assert [device["state"] for device in content["devices"]] == ["idle"] * 3
    shown = lima2("status", "kept", home=kept.home)
    assert shown.returncode == 0
    for word in (kept.state.tango_host, "simulator_rcv2", "id00/limareceiver/simulator2", "0 restarts"):
        assert word in shown.stdout


def test_watching_sees_the_database_go_and_come(kept: Supervised) -> None:
    """Tango keeps a process waiting that has asked a dead database, but not for longer than a look."""
    environment = {**os.environ, "LIMA2_HOME": str(kept.home)}
    command = [LIMA2, "status", "kept", "--watch", "--json"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        restarts = kept.state.restarts
        assert json.loads(watching.stdout.readline())["well"]
        kept.kill("database")
        for line in watching.stdout:
            if json.loads(line)["restarts"] > restarts and json.loads(line)["well"]:
                break
        watching.send_signal(signal.SIGINT)
        assert watching.wait(10) == 0


def test_a_second_one_is_refused_with_the_way_out(kept: Supervised) -> None:
    second = lima2("up", kept.state.config, home=kept.home)
    assert second.returncode == 2
    assert second.stderr.startswith(f"error: the system kept is up already (process {kept.process.pid})")
    assert "lima2 down kept" in second.stderr


def test_an_instance_that_runs_elsewhere_is_not_started_twice(kept: Supervised, tmp_path: Path) -> None:
    port = int(kept.state.tango_host.rsplit(":", 1)[1])
    database = {"kind": "external", "host": "localhost", "port": port}
    twice = lima2("up", write_config(tmp_path / "twice.yaml", name="twice", database=database), home=kept.home)
    assert twice.returncode == 2
    assert f"lima2_tango/simulator_ctl (process {kept.pid('simulator_ctl')})" in twice.stderr
    assert "runs already" in twice.stderr


def test_the_control_has_the_parameters_of_the_configuration_after_each_start(kept: Supervised) -> None:
    check_parameters(kept)
    restarts = kept.state.restarts
    kept.kill("simulator_rcv1")
    kept.wait_up(restarts + 1)
    check_parameters(kept)
    assert "died" in kept.wait_event("simulator_rcv1 (process")
    kept.wait_event("simulator_ctl, simulator_rcv2 ended by themselves")
    assert "Killed" in kept.wait_event("simulator_rcv1 was ended by the signal")


def check_parameters(kept: Supervised) -> None:
    control = rig_of(kept).control
    assert '"nb_frames": 7' in control.read_attribute("acq_params").value
    assert '"filename_prefix": "begin"' in control.read_attribute("proc_params").value


def test_what_a_dead_job_mapped_is_cleared(kept: Supervised) -> None:
    """No device of it is exported meanwhile, and its shared memory is gone."""
    restarts = kept.state.restarts
    pid = kept.pid("simulator_ctl")
    maps = Path(f"/proc/{pid}/maps").read_text().splitlines()
    segments = {Path(line.split()[-1]) for line in maps if "/dev/shm/mpich_shm" in line}
    kept.kill("simulator_ctl")
    kept.wait_up(restarts + 1)
    assert segments
    assert not [path for path in segments if path.exists()]


def test_ctrl_c_ends_a_run_with_its_files_closed(tmp_path: Path) -> None:
    with kept_up(tmp_path / "home", write_config(tmp_path / "two.yaml", name="two")) as system:
        begin_run(system, tmp_path / "data")
        servers = [f"{SERVER}/{instance}" for instance in system.state.devices.values()]
        assert len(processing_devices(system.state.tango_host, servers)) == 2
        assert not processing_devices(system.state.tango_host, [f"{SERVER}/another"])
        assert system.end(signal.SIGINT) == 0
    assert "stopped the run, its data are complete" in system.output
    assert "Traceback" not in system.output
    check_closed(tmp_path / "data")


def test_detached_it_lives_until_it_is_told_to_end(tmp_path: Path) -> None:
    home = tmp_path / "home"
    config = single(tmp_path)
    try:
        started = lima2("up", config, "--detach", home=home)
        assert started.returncode == 0, started.stdout + started.stderr
        assert lima2("status", home=home).returncode == 0
        log = home / "one" / "logs" / "up.log"
        before = log.read_text()
        assert "all devices answer" in before
        again = lima2("up", config, "--detach", home=home)
        assert again.returncode == 2
        assert again.stderr.startswith("error: the system one is up already")
        assert log.read_text().startswith(before), "the log of the one that runs goes on"
    finally:
        ended = lima2("down", config, home=home)
    assert ended.returncode == 0
    assert "ended: database, one" in ended.stdout.replace("simulator", "one")
    assert not of_folder(home)
    for again in ("status", "down"):
        result = lima2(again, "one", home=home)
        assert result.returncode == 2
        assert "the system one is not up" in result.stderr


def test_what_a_killed_up_left_ends_and_the_next_one_starts(tmp_path: Path) -> None:
    config = write_config(tmp_path / "two.yaml", name="two")
    with kept_up(tmp_path / "home", config) as system:
        begin_run(system, tmp_path / "data")
        system.end(signal.SIGKILL)
        assert lima2("status", "two", home=system.home).returncode == 2
        with kept_up(tmp_path / "home", config):
            status = lima2("status", "two", home=system.home)
            assert status.returncode == 0, status.stdout
    check_closed(tmp_path / "data")


@pytest.mark.parametrize(
    ("restart", "deaths", "reason"),
    [({"policy": "never"}, 1, "restart.policy is never"), ({"at_most": 1, "within": 60.0}, 2, "more than 1 deaths")],
    ids=["never", "too often"],
)
def test_it_gives_up_as_the_configuration_says(
    tmp_path: Path, restart: dict[str, Any], deaths: int, reason: str
) -> None:
    with kept_up(tmp_path / "home", single(tmp_path, restart=restart)) as system:
        for death in range(deaths):
            system.wait_up(death)
            system.kill("simulator")
        assert system.process.wait(20) == 1
        last = system.output.splitlines()[-1]
        assert last.startswith("error: simulator (process ")
        assert reason in last
        status = lima2("status", "one", home=system.home)
    assert status.returncode == 2
    assert reason in status.stderr


def test_a_database_that_forgets_takes_the_devices_along(tmp_path: Path) -> None:
    """NosqlTangoDB keeps no addresses: devices have to register again."""
    with kept_up(tmp_path / "home", single(tmp_path, database__kind="nosql")) as system:
        system.kill("database")
        system.wait_event("the Tango database ended by the signal SIGKILL")
        system.wait_up(1)
        control = rig_of(system).control
        assert State(int(control.read_attribute("acq_state").value)) is State.IDLE


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"camra": "Simulator"}, ["$.camra", "there is no such parameter"]),
        ({"database__port": "taken"}, ["$.database.port", "cannot be listened on", "by process"]),
        ({"conductor__enabled": True, "conductor__port": "taken"}, ["$.conductor.port", "cannot be listened on"]),
        ({"control__host": "far"}, ["$.control.host", "this computer only"]),
        ({"listen": "203.0.113.7"}, ["203.0.113.7", "address of this machine"]),
        ({"database": {"kind": "external", "port": 1}}, ["localhost:1", "does not answer", "kind: builtin"]),
        (
            {"database": {"kind": "external", "host": "no-such-host.invalid", "port": 1}},
            ["no-such-host.invalid:1", "does not answer"],
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_cannot_work_is_one_sentence(tmp_path: Path, changes: dict[str, Any], words: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        config = single(tmp_path, **{key: port if value == "taken" else value for key, value in changes.items()})
        result = lima2("up", config, home=tmp_path / "home")
    assert result.returncode == 2, result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not result.stdout
    for word in words:
        assert word in result.stderr
    assert not of_folder(tmp_path / "home")


def test_a_system_that_cannot_start_says_why(tmp_path: Path) -> None:
    """A second receiver in one process: the server refuses it, and would again."""
    receivers = [{"device": f"id00/limareceiver/s{i}", "instance": "simulator"} for i in range(2)]
    config = single(tmp_path, receivers=receivers, conductor__topology="round_robin")
    result = lima2("up", config, home=tmp_path / "home")
    assert result.returncode == 1
    assert "cannot start" in result.stderr
    assert "second receiver in one process" in result.stderr
    assert not of_folder(tmp_path / "home")


def test_no_one_hears_of_devices_that_are_dead(tmp_path: Path) -> None:
    """While the system is down for good, the database of a site does not say that it runs."""
    with kept_up(tmp_path / "site", single(tmp_path)) as site:
        port = int(site.state.tango_host.rsplit(":", 1)[1])
        members = {
            "control": {"device": "id01/limacontrol/s", "instance": "guest"},
            "receivers": [{"device": "id01/limareceiver/s", "instance": "guest"}],
            "database": {"kind": "external", "port": port},
            "restart": {"policy": "never"},
        }
        config = write_config(tmp_path / "guest.yaml", "single", name="guest", **members)
        with kept_up(tmp_path / "guest", config) as guest:
            database = tango.Database("localhost", port)
            assert set(database.get_device_exported("id01/*")) == {"id01/limacontrol/s", "id01/limareceiver/s"}
            guest.kill("guest")
            guest.process.wait(20)
            assert list(database.get_device_exported("id01/*")) == []
