"""What Tango's own tools and people expect of a device server."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import tango
from support import FAST, SMALL, Rig, explained, launched
from watching import wait_for

from lima2_tango.cli.config import DatabaseKind
from lima2_tango.cli.process import free_port
from lima2_tango.cli.system import System
from lima2_tango.client.database import DeviceEntry, database_at, register
from lima2_tango.core.state import State

SERVER = str(Path(sys.executable).parent / "lima2_tango")
READY_S = 20.0
"""A job that has not answered by then does not [s]."""
EXIT_S = 1.0
"""The clients' fixture gives a job this long from SIGTERM to its end [s]."""


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[System]:
    """A system of its own: the test ends or kills its job."""
    with launched(tmp_path, "simulator") as running:
        yield running


def rig_of(system: System) -> Rig:
    return Rig(system.tango_host, system.control, system.receivers)


def ranks(system: System) -> list[psutil.Process]:
    """The processes of the job, with mpiexec and its helpers."""
    parent = psutil.Process(system.job.pid)
    return [parent, *parent.children(recursive=True)]


def run_server(*arguments: str, tango_host: str = "localhost:1") -> subprocess.CompletedProcess[str]:
    environment = dict(os.environ, TANGO_HOST=tango_host)
    return subprocess.run([SERVER, *arguments], env=environment, capture_output=True, text=True, timeout=20)


def test_help_names_our_options_and_tangos() -> None:
    done = run_server("--help")
    assert done.returncode == 0
    for word in ("INSTANCE", "--log-level", "--log-file-path", "--log-file-filename", "-nodb", "-ORBendPoint"):
        assert word in done.stdout


def test_a_question_mark_lists_the_instances_of_the_database(system: System) -> None:
    done = run_server("-?", tango_host=system.tango_host)
    text = done.stdout + done.stderr
    for instance in ("simulator_ctl", "simulator_rcv1", "simulator_rcv2"):
        assert instance in text


def test_an_unknown_instance_ends_with_a_sentence(system: System) -> None:
    done = run_server("nobody_knows_me", tango_host=system.tango_host)
    assert done.returncode != 0
    assert "nobody_knows_me" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_an_unreachable_database_ends_with_a_sentence() -> None:
    done = run_server("simulator_ctl", tango_host=f"localhost:{free_port('127.0.0.1')}")
    assert done.returncode != 0
    assert "database" in (done.stdout + done.stderr).lower()
    assert "Traceback" not in done.stderr


def answers(url: str) -> bool:
    try:
        tango.DeviceProxy(url).ping()
    except tango.DevFailed:
        return False
    return True


def test_it_runs_without_a_database_where_it_is_told(tmp_path: Path) -> None:
    """-nodb -dlist -ORBendPoint: for a first look, and for tests of other people."""
    port = free_port("127.0.0.1")
    devices = "LimaSimulatorControl::test/limacontrol/s,LimaSimulatorReceiver::test/limareceiver/s"
    arguments = [SERVER, "any", "-v4", "-nodb", "-dlist", devices, "-ORBendPoint", f"giop:tcp:127.0.0.1:{port}"]
    log = tmp_path / "log"
    with log.open("w") as output:
        server = subprocess.Popen(arguments, stdout=output, stderr=subprocess.STDOUT)
    try:
        for name in ("test/limacontrol/s", "test/limareceiver/s"):
            url = f"tango://127.0.0.1:{port}/{name}#dbase=no"
            wait_for(lambda url=url: server.poll() is not None or answers(url), 10, f"{name} answers")
            assert server.poll() is None, log.read_text()
            assert tango.DeviceProxy(url).read_attribute("acq_state").value == State.IDLE
    finally:
        server.terminate()
        server.wait(5)
    assert server.returncode == 0


def test_a_job_that_is_started_again_answers_without_a_hand(fresh: System) -> None:
    """How soon is for the clients' own suite to say, which allows three seconds on its own database."""
    fresh.stop_job()
    fresh.start_job()
    for name in (fresh.control, *fresh.receivers):
        url = f"tango://{fresh.tango_host}/{name}"
        wait_for(lambda url=url: answers(url), READY_S, f"{name} answers")


def test_a_device_that_is_renamed_does_not_stay_beside_its_new_name(system: System) -> None:
    server = "lima2_tango/renamed"
    for member in ("old", "new", "new"):
        register(system.tango_host, [DeviceEntry(f"test/limareceiver/{member}", "LimaSimulatorReceiver", server)])
    known = list(database_at(system.tango_host).get_device_class_list(server))
    assert [name for name in known if name.startswith("test/")] == ["test/limareceiver/new"]
    assert system.receivers[0] in database_at(system.tango_host).get_device_name("lima2_tango/simulator_rcv1", "*")


def test_the_schema_is_in_the_database_before_a_device_answers(tmp_path: Path) -> None:
    """Clients cache schemas from the moment that `acq_state` answers (contract section 1.3)."""
    with launched(tmp_path, "simulator") as system:
        rig = rig_of(system)
        system.stop_job()
        name = rig.db.get_device_info(system.receivers[0]).class_name
        rig.db.delete_class_attribute_property(name, {"acq_params": ["schema"]})
        rig.db.delete_class_property("LimaProcessingLegacy", ["Version"])
        system.start_job()
        wait_for(lambda: answers(f"tango://{system.tango_host}/{system.receivers[0]}"), 10, "the receiver answers")
        assert json.loads(rig.schema(name, "acq_params"))["type"] == "object"
        assert rig.db.get_class_property("LimaProcessingLegacy", "Version")["Version"][0].startswith("core-1.2")


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[System]:
    """A system whose job is started as the clients' own suite does it, by mpiexec."""
    with launched(tmp_path, "simulator", launcher="mpiexec") as running:
        yield running


@pytest.mark.parametrize("moment", ["idle", "running"])
def test_sigterm_ends_the_whole_job_within_a_second(plain: System, tmp_path: Path, moment: str) -> None:
    """... with nothing left exported and, in mid-run, with its files complete."""
    rig = rig_of(plain)
    folder = tmp_path / "data"
    if moment == "running":
        rig.prepare(rig.acq({"acq.nb_frames": 0, "acq.expo_time": 1_000} | SMALL), rig.legacy(folder))
        rig.start()
        rig.wait_counted("nb_frames_processed", 80)
    processes = ranks(plain)
    begin = time.monotonic()
    os.killpg(os.getpgid(plain.job.pid), signal.SIGTERM)
    psutil.wait_procs([p for p in processes if p.pid != plain.job.pid], EXIT_S)
    plain.job.wait(EXIT_S)
    assert time.monotonic() - begin < EXIT_S
    assert not [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
    for name in (plain.control, *plain.receivers):
        assert not rig.db.get_device_info(name).exported
    if moment == "running":
        import h5py

        for rank in range(2):
            saved = sorted(folder.glob(f"lima2_{rank}_*.h5"))
            counts = []
            for file in saved:
                with h5py.File(file, "r") as h5:
                    counts.append(h5["entry_0000/instrument/detector/data"].shape[0])
            assert sum(counts) >= 40


def test_kill_through_the_admin_device_leaves_nothing(fresh: System) -> None:
    rig = rig_of(fresh)
    processes = ranks(fresh)
    admins = [
        rig.device(f"dserver/lima2_tango/{name}") for name in ("simulator_rcv1", "simulator_rcv2", "simulator_ctl")
    ]
    admins[0].command_inout("Kill")
    for admin in admins[1:]:
        with suppress(tango.DevFailed):  # the job of a rank that was killed may have ended this one before
            admin.command_inout("Kill")
    psutil.wait_procs([p for p in processes if p.pid != fresh.job.pid], 5)
    fresh.job.wait(5)
    assert not [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
    fresh.start_job()
    fresh.wait_ready()
    assert rig.states() == [State.IDLE] * 3


def test_init_is_reset(rig: Rig) -> None:
    acq = rig.acq(FAST | SMALL | {"acq.nb_frames": 20, "det.failed_frame_idx": 3})
    rig.prepare(acq, rig.legacy())
    rig.start()
    wait_for(lambda: State.FAULT in rig.states(), 5, "FAULT")
    rig.stop()
    wait_for(lambda: set(rig.states()) <= {State.IDLE, State.FAULT}, 5, "every device done")
    rig.on_all("Init")
    assert rig.states() == [State.IDLE] * 3
    rig.run(rig.acq(FAST | SMALL | {"acq.nb_frames": 4}), rig.legacy())


def test_init_is_refused_while_running_and_harms_nothing(rig: Rig) -> None:
    rig.prepare(rig.acq({"acq.nb_frames": 100, "acq.expo_time": 10_000} | SMALL), rig.legacy())
    rig.start()
    for device in rig.devices:
        assert "Stop" in explained(device.command_inout, "Init")
    rig.wait_receivers(State.IDLE)
    assert sum(rig.xferred()) == 100


@pytest.mark.parametrize("command", ["DevRestart", "RestartServer"])
def test_a_restart_by_the_admin_device_keeps_the_server_usable(rig: Rig, system: System, command: str) -> None:
    rig.run(rig.acq(FAST | SMALL | {"acq.nb_frames": 4}), rig.legacy())
    processes = {process.pid for process in ranks(system)}
    for instance, device in zip(system.config.instances, rig.devices, strict=True):
        admin = rig.device(f"dserver/lima2_tango/{instance}")
        admin.command_inout(command, *([device.dev_name()] if command == "DevRestart" else []))
    wait_for(lambda: all(answers(f"tango://{system.tango_host}/{d.dev_name()}") for d in rig.devices), 10, "answers")
    assert {process.pid for process in ranks(system)} == processes
    assert rig.states() == [State.IDLE] * 3
    rig.run(rig.acq(FAST | SMALL | {"acq.nb_frames": 6}), rig.legacy())
    assert rig.xferred() == [3, 3]


def test_state_and_status_follow_the_acquisition(rig: Rig) -> None:
    def shown() -> set[tango.DevState]:
        return {device.State() for device in rig.devices}

    assert shown() == {tango.DevState.ON}
    rig.prepare(
        rig.acq({"acq.nb_frames": 0, "det.failed_frame_idx": 300, "acq.expo_time": 2_000} | SMALL), rig.legacy()
    )
    assert shown() == {tango.DevState.STANDBY}
    rig.start()
    assert shown() == {tango.DevState.RUNNING}
    wait_for(lambda: tango.DevState.FAULT in shown(), 5, "FAULT")
    faulty = next(device for device in rig.receivers if device.State() == tango.DevState.FAULT)
    assert "300" in faulty.Status()
    assert "Reset" in faulty.Status()


def test_the_log_level_is_read_and_set_by_its_label(rig: Rig) -> None:
    for device in rig.devices:
        before = device.log_level
        for label in ("trace", "debug", "info", "warning", "error", "fatal"):
            device.log_level = label
            assert device.log_level.name == label
        device.log_level = before


def test_every_attribute_and_command_of_a_device_is_documented(rig: Rig) -> None:
    own = {"State", "Status", "Init"}
    for device in (*rig.devices,):
        for info in device.attribute_list_query():
            assert info.name in own or info.description not in {"", "No description"}, info.name


def test_a_log_file_is_counted_and_never_overwritten(system: System, tmp_path: Path) -> None:
    """`%N` is a file counter (contract annex C)."""
    arguments = ["--log-level", "trace", "--log-file-path", str(tmp_path / "logs"), "--log-file-filename", "x.%N.log"]
    for _ in range(2):
        assert run_server(*arguments, "nobody_knows_me", tango_host=system.tango_host).returncode != 0
    assert sorted(file.name for file in (tmp_path / "logs").iterdir()) == ["x.0.log", "x.1.log"]


@pytest.mark.parametrize("kind", [DatabaseKind.BUILTIN, DatabaseKind.NOSQL], ids=str)
@pytest.mark.parametrize("name", ["simulator", "single"])
def test_it_runs_on_either_database_in_one_process_or_several(tmp_path: Path, kind: DatabaseKind, name: str) -> None:
    with launched(tmp_path, name, kind) as system:
        rig = rig_of(system)
        receivers = len(rig.receivers)
        assert len([p for p in ranks(system) if re.search("lima2_tango", " ".join(p.cmdline()))]) >= receivers
        rig.run(rig.acq(FAST | SMALL | {"acq.nb_frames": 12}), rig.legacy(tmp_path / "data"))
        assert rig.xferred() == [12 // receivers] * receivers
        assert len(list((tmp_path / "data").iterdir())) == receivers
