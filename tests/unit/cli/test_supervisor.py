"""What keeps a system up, part by part: its state file, its restarts, its dead, and what it refuses."""

import io
import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace

import psutil
import pytest
from rich.console import Console

from lima2_tango.cli import disk, preflight, rundir
from lima2_tango.cli.config import (
    ConductorConfig,
    DatabaseConfig,
    DatabaseKind,
    Member,
    RestartConfig,
    RestartPolicy,
    SystemConfig,
    Topology,
)
from lima2_tango.cli.database import Builtin
from lima2_tango.cli.events import Events
from lima2_tango.cli.guard import is_frozen, still_there, wake
from lima2_tango.cli.job import Job
from lima2_tango.cli.look import Look, Part
from lima2_tango.cli.process import Child, LaunchError, environment
from lima2_tango.cli.ranks import causes, last_log
from lima2_tango.cli.restarts import RestartBudget
from lima2_tango.cli.rundir import (
    NotUpError,
    Phase,
    Running,
    SystemState,
    check_awake,
    find_system,
    locked,
    read_state,
    write_state,
)
from lima2_tango.client.supervision import Reading
from lima2_tango.core.errors import Lima2Error

INSTANCES = ["ctl", "rcv1", "rcv2"]
SERVER = """
import signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN if "stubborn" in sys.argv else signal.SIG_DFL)
print("serves", flush=True)
time.sleep(60)
"""
LAUNCHER = """
import subprocess, sys
ranks = [subprocess.Popen([sys.executable, *line.split(":")], start_new_session=True) for line in sys.argv[1:]]
for rank in ranks:
    rank.wait()
"""


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv(rundir.HOME, str(tmp_path / "home"))
    return tmp_path / "home"


def me(name="lima2 up"):
    return Running.of(name, os.getpid())


def ended():
    """A process that has been: its number may belong to another one by now."""
    return Running("lima2 up", os.getpid(), 1.0)


def state(home, name="a", supervisor=None, **changes):
    folder = home / name
    folder.mkdir(parents=True, exist_ok=True)
    made = SystemState(name, "a.yaml", str(folder), supervisor or me(), Phase.UP, "localhost:1", "a/b/c", ["a/b/d"])
    write_state(replace(made, **changes))
    return replace(made, **changes)


class TestStateFile:
    def test_is_read_as_it_was_written(self, home):
        written = state(home, processes=[me("database")], restarts=3, event="up", devices={"a/b/c": "ctl"})
        assert read_state(home / "a") == written

    @pytest.mark.parametrize("text", ["", "{", "{}", '{"supervisor": 3}', "[]"])
    def test_one_that_is_not_ours_is_none(self, tmp_path, text):
        (tmp_path / "state.json").write_text(text)
        assert read_state(tmp_path) is None

    def test_a_process_is_not_taken_for_another_of_its_number(self):
        assert me().process() is not None
        assert ended().process() is None

    def test_a_zombie_does_not_run(self):
        with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
            running = Running.of("child", child.pid)
            assert running.process() is not None
            child.stdin.close()
            os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
            assert running.process() is None


class TestFindSystem:
    def test_the_only_one_needs_no_name(self, home):
        state(home, "b", ended())
        made = state(home)
        assert find_system() == made

    def test_by_name_by_configuration_and_by_folder(self, home, tmp_path):
        made = state(home)
        config = tmp_path / "some.yaml"
        config.write_text("name: a")
        assert find_system("a") == find_system(str(config)) == find_system(folder=home / "a") == made

    @pytest.mark.parametrize("name", [None, "a", "c"])
    def test_one_that_is_not_up_is_refused_with_what_there_is(self, home, name):
        state(home, "a", ended(), event="gave up", phase=Phase.FAILED)
        with pytest.raises(NotUpError, match="lima2 up CONFIG") as caught:
            find_system(name)
        assert ("it failed: gave up" in caught.value.what) == (name == "a")

    def test_one_whose_up_was_killed_says_so(self, home):
        state(home, "a", ended())
        with pytest.raises(NotUpError, match=rf"its lima2 up, process {os.getpid()}, was killed"):
            find_system("a")

    def test_several_have_to_be_told_apart(self, home):
        state(home, "a")
        state(home, "b")
        with pytest.raises(NotUpError, match=r"\(a, b\): name one"):
            find_system()


class TestLock:
    def test_is_held_once_and_names_its_holder(self, home):
        state(home)
        with locked(home / "a", "a"), pytest.raises(Lima2Error, match=rf"\(process {os.getpid()}\).*lima2 down a"):
            locked(home / "a", "a").__enter__()

    def test_is_free_again_afterwards(self, home):
        for _ in range(2):
            with locked(home / "a", "a"):
                pass


class TestRestartBudget:
    def test_never_is_never(self):
        with pytest.raises(LaunchError, match=r"it died; restart\.policy is never"):
            RestartBudget(RestartConfig(policy=RestartPolicy.NEVER)).spend("it died")

    def test_so_many_within_a_time_and_no_more(self):
        clock = iter([0.0, 1.0, 2.0, 10.5, 10.6])
        budget = RestartBudget(RestartConfig(at_most=2, within=10.0), lambda: next(clock))
        budget.spend("one")
        budget.spend("two")
        with pytest.raises(LaunchError, match="more than 2 deaths within 10 s"):
            budget.spend("three")
        budget.spend("four, when the first is forgotten")
        assert budget.total == 3


class TestEvents:
    def test_each_is_one_line_with_its_time(self, tmp_path):
        shown = []
        events = Events(tmp_path, shown.append)
        events("one\n  thing")
        events("another")
        lines = events.file.read_text().splitlines()
        assert lines == shown
        assert [line.partition(" ")[2] for line in lines] == ["one thing", "another"]

    def test_a_terminal_that_is_gone_ends_nothing(self, tmp_path):
        def gone(line):
            raise BrokenPipeError(line)

        events = Events(tmp_path, gone)
        events("still here")
        assert "still here" in events.file.read_text()


@pytest.fixture
def job(tmp_path):
    """Starts a launcher with three programs that look like our servers; ends what is left of them."""
    server = tmp_path / "lima2_tango"
    server.write_text(SERVER)
    made = []

    def launch(*manners):
        logs = tmp_path / "logs"
        lines = [
            ":".join([str(server), name, "--log-file-path", str(logs), manner])
            for name, manner in zip(INSTANCES, manners, strict=True)
        ]
        child = Child("the job", [sys.executable, "-c", LAUNCHER, *lines], environment(), tmp_path / "job.log")
        started = Job(child, INSTANCES, logs)
        made.append(started)
        while child.log.read_text().count("serves") < len(INSTANCES):
            child.check()
        assert started.look()
        return started

    yield launch
    for started in made:
        started.child.kill()
        for rank in started.ranks.values():
            if rank.is_running():
                rank.kill()


class TestJob:
    def test_knows_its_ranks_by_instance(self, job):
        started = job("plain", "plain", "plain")
        assert sorted(started.ranks) == INSTANCES
        assert not started.look()
        assert started.death() == ""

    def test_names_who_died_and_lets_the_others_end(self, job, tmp_path):
        started = job("plain", "plain", "plain")
        (tmp_path / "logs").mkdir()
        (tmp_path / "logs" / "rcv2_0.log").write_text("first\nlast words\n")
        started.ranks["rcv2"].kill()
        assert still_there([started.ranks["rcv2"]], 5) == []
        pid, log = started.ranks["rcv2"].pid, tmp_path / "logs" / "rcv2_0.log"
        assert started.death() == f"rcv2 (process {pid}) died; the end of {log}: first | last words"
        assert started.bury().startswith("ctl, rcv1 ended by themselves within")

    def test_survivors_of_a_dead_launcher_are_told_and_the_stubborn_killed(self, job, monkeypatch):
        monkeypatch.setattr("lima2_tango.cli.job.GRACE", 0.3)
        started = job("plain", "stubborn", "plain")
        started.child.popen.kill()
        started.child.popen.wait(5)
        assert started.death() == "the job ended by the signal SIGKILL"
        told = started.bury()
        assert "ctl, rcv2 ended by themselves" in told
        assert "rcv1 did not end within 0.3 s and had to be killed" in told

    def test_shared_memory_is_remembered_from_each_look(self, job, monkeypatch, tmp_path):
        started = job("plain", "plain", "plain")
        early, late = tmp_path / "mpich_shm_1", tmp_path / "mpich_shm_2"
        for found in ([early], [late], []):  # the last look finds nobody alive to tell
            for path in found:
                path.write_bytes(b"")
            monkeypatch.setattr("lima2_tango.cli.job.shared_memory", lambda _, found=found: iter(found))
            started.note_segments()
        started.child.popen.kill()
        started.child.popen.wait(5)
        started.bury()
        assert not early.exists()
        assert not late.exists()


class TestLauncherLog:
    def test_the_forking_launcher_names_the_rank(self, tmp_path):
        log = tmp_path / "job.log"
        log.write_text("[0]1:Return code = 0, signaled with Killed\nnow:\n")
        offset = log.stat().st_size
        with log.open("a") as file:
            file.write("[0]0:Return code = 1\n[0]2:Return code = 0, signaled with Segmentation fault\n")
        assert causes(log, offset, INSTANCES) == [("rcv2", "rcv2 was ended by the signal Segmentation fault")]

    def test_the_other_one_does_not(self, tmp_path):
        log = tmp_path / "job.log"
        log.write_text("YOUR APPLICATION TERMINATED WITH THE EXIT STRING: Killed (signal 9)\n")
        assert causes(log, 0, INSTANCES) == [(None, "the launcher says of the job: Killed (signal 9)")]

    def test_the_newest_log_of_a_rank_is_the_last(self, tmp_path):
        for number in (0, 1):
            (tmp_path / f"ctl_{number}.log").write_text("")
            os.utime(tmp_path / f"ctl_{number}.log", (number, number))
        assert last_log(tmp_path, "ctl") == tmp_path / "ctl_1.log"
        assert last_log(tmp_path, "rcv1") is None


class TestLook:
    @pytest.mark.parametrize(
        ("changes", "well"),
        [
            ({}, True),
            ({"state": {"phase": Phase.RESTARTING}}, False),
            ({"state": {"supervisor": ended()}}, False),
            ({"parts": [Part("database", 3, False)]}, False),
            ({"devices": [Reading("a/b/c")]}, False),
        ],
    )
    def test_is_well_when_nothing_is_down(self, home, changes, well):
        look = Look(state(home), [Part("database", 3, True)], [Reading("a/b/c", True, "idle", 0)])
        values = {**changes, "state": replace(look.state, **changes["state"])} if "state" in changes else changes
        look = replace(look, **values)
        assert look.well is well
        assert json.loads(json.dumps(look.as_json()))["well"] is well
        assert len(list(look.tables())) == 3

    def test_brackets_are_no_markup(self, home):
        event, error = "said [/usr/lib/python]: give [x, y] :smile:", "frame 3 in [/data/a]"
        look = Look(state(home, event=event), [Part("[/b]", 3, True)], [Reading("a/b/c", True, "idle", 0, error)])
        console = Console(width=200, file=io.StringIO())
        console.print(*look.tables())
        for text in (event, error, "[/b]"):
            assert text in console.file.getvalue()


def two(**changes):
    receivers = tuple(Member(device=f"id00/limareceiver/s{i}", instance=f"rcv{i}") for i in (1, 2))
    values = {"receivers": receivers, "conductor": ConductorConfig(enabled=False, topology=Topology.ROUND_ROBIN)}
    return SystemConfig(**{**values, **changes})


class TestPreflight:
    def test_what_can_work_passes(self, home):
        preflight.check(two(), home.parent)

    def test_without_an_mpi_library_the_remedy_is_named(self, home, monkeypatch):
        monkeypatch.setattr(preflight, "find_spec", lambda name: None)
        with pytest.raises(LaunchError, match=r"3 instances .*no mpi4py: pip install 'lima2_tango\[mpich\]'"):
            preflight.check(two(), home.parent)

    def test_without_a_launcher_the_remedy_is_named(self, home):
        with pytest.raises(LaunchError, match=r"no program .*no-such-mpiexec.*pip install 'lima2_tango\[mpich\]'"):
            preflight.check(two(launcher="no-such-mpiexec"), home.parent)

    def test_one_instance_needs_no_mpi(self, home, monkeypatch):
        monkeypatch.setattr(preflight, "find_spec", lambda name: None)
        preflight.check(SystemConfig(conductor=ConductorConfig(enabled=False)), home.parent)

    @pytest.mark.parametrize("part", ["database", "conductor"])
    def test_a_port_that_is_taken_is_refused_with_who_has_it(self, home, part):
        with socket.create_server(("127.0.0.1", 0)) as listening:
            port = listening.getsockname()[1]
            made = {
                "database": two(database=DatabaseConfig(port=port)),
                "conductor": two(conductor=ConductorConfig(topology=Topology.ROUND_ROBIN, port=port)),
            }[part]
            with pytest.raises(LaunchError, match=rf"\$\.{part}\.port = {port}: .*by process {os.getpid()}"):
                preflight.check(made, home.parent)
        preflight.check(made, home.parent)

    def test_an_external_database_that_is_down_is_refused(self, home):
        down = DatabaseConfig(kind=DatabaseKind.EXTERNAL, port=1)
        with pytest.raises(LaunchError, match=r"localhost:1 does not answer .*kind: builtin"):
            preflight.check(two(database=down), home.parent)

    def test_something_else_on_the_port_is_no_database(self, home, monkeypatch):
        monkeypatch.setattr(preflight, "DATABASE_TIMEOUT", 0.1)
        with socket.create_server(("127.0.0.1", 0)) as listening:
            external = DatabaseConfig(kind=DatabaseKind.EXTERNAL, port=listening.getsockname()[1])
            with pytest.raises(LaunchError, match="does not answer"):
                preflight.check(two(database=external), home.parent)

    @pytest.mark.parametrize("host", ["a" * 300, "a\0b"])
    def test_a_database_host_that_is_no_name_is_a_sentence(self, home, host):
        external = DatabaseConfig(kind=DatabaseKind.EXTERNAL, host=host, port=1)
        with pytest.raises(LaunchError, match=r"does not answer .*kind: builtin"):
            preflight.check(two(database=external), home.parent)

    def test_a_device_that_another_system_serves_is_refused_with_who_does(self, home, monkeypatch):
        served = {"id00/limareceiver/s1": "lima2_tango/other (process 12)"}
        monkeypatch.setattr(preflight, "database_answers", lambda *_: True)
        monkeypatch.setattr(preflight, "running_instances", lambda *_: {})
        monkeypatch.setattr(preflight, "served_elsewhere", lambda *_: served)
        with socket.create_server(("127.0.0.1", 0)) as listening:
            external = DatabaseConfig(kind=DatabaseKind.EXTERNAL, port=listening.getsockname()[1])
            told = r"^id00/limareceiver/s1 is served by lima2_tango/other \(process 12\), .*end that system first"
            with pytest.raises(LaunchError, match=told):
                preflight.check(two(database=external), home.parent)

    def test_a_full_disk_is_refused_before_the_database_dies_of_it(self, home, monkeypatch):
        monkeypatch.setattr(preflight, "LEAST_FREE", 1 << 70)
        with pytest.raises(LaunchError, match=rf"the disk of {home.parent} has .* free, too little.*--dir"):
            preflight.check(two(), home.parent)


class TestDisk:
    def test_room_is_no_sentence(self, tmp_path):
        assert disk.shortage(tmp_path, 1) == disk.suspicion(tmp_path) == ""

    def test_a_database_that_ends_on_a_full_disk_is_told_with_the_disk(self, tmp_path, monkeypatch):
        monkeypatch.setattr(disk, "FULL", 1 << 70)
        monkeypatch.setattr(Builtin, "command", lambda self: [sys.executable, "-c", "raise SystemExit(3)"])
        with pytest.raises(LaunchError, match=rf"exit code 3; the disk of {tmp_path} has .* free, which may be why"):
            Builtin(DatabaseConfig(), tmp_path, []).start_again()


class TestFrozen:
    @pytest.fixture
    def frozen(self):
        with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
            child.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
            yield child.pid
            child.kill()

    @pytest.mark.parametrize("name", ["database", "ctl"])
    def test_who_a_run_needs_is_named_with_the_remedy(self, home, frozen, name):
        with pytest.raises(NotUpError, match=rf"{name} \(process {frozen}\).*kill -CONT {frozen} .*lima2 down a "):
            check_awake(state(home, processes=[me("rcv"), Running.of(name, frozen)]))

    @pytest.mark.parametrize("name", ["conductor", "launcher"])
    def test_who_a_run_does_not_need_may_be_frozen(self, home, frozen, name):
        check_awake(state(home, processes=[Running.of(name, frozen)]))

    def test_all_that_is_woken_goes_on(self, frozen):
        wake([psutil.Process(frozen)])
        assert not is_frozen(psutil.Process(frozen))
