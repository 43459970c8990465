"""The command line of the device server: its own options, and Tango's."""

import logging
import subprocess
import sys

import pytest

from lima2_tango.devices import server
from lima2_tango.transport.channel import WorldOfOne

QUICK = 20


@pytest.fixture
def logger():
    """The package's logger as it was before the test."""
    log = logging.getLogger("lima2_tango")
    before, level = list(log.handlers), log.level
    yield log
    for handler in [handler for handler in log.handlers if handler not in before]:
        log.removeHandler(handler)
        handler.close()
    log.setLevel(level)


@pytest.mark.parametrize(
    ("arguments", "instance", "passed_on"),
    [
        (["one"], "one", []),
        (["one", "-v4"], "one", ["-v4"]),
        (["--log-level", "trace", "one", "-nodb", "-dlist", "a/b/c"], "one", ["-nodb", "-dlist", "a/b/c"]),
        (["one", "-ORBendPoint", "giop:tcp::10001"], "one", ["-ORBendPoint", "giop:tcp::10001"]),
        (["-?"], "-?", []),
    ],
)
def test_own_options_are_taken_and_the_rest_is_passed_on(arguments, instance, passed_on):
    options, rest = server._parse(arguments)
    assert (options.instance, rest) == (instance, passed_on)


@pytest.fixture
def launcher(monkeypatch):
    """Gives this process an MPI rank, as launchers do; None takes it away."""

    def started(rank):
        for mark in ("PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_RANK"):
            monkeypatch.delenv(mark, raising=False)
        if rank is not None:
            monkeypatch.setenv("PMI_RANK", str(rank))

    return started


@pytest.mark.parametrize(("rank", "instance"), [(0, "ctl"), (1, "rcv1"), (2, "rcv2")])
def test_of_several_instances_the_mpi_rank_chooses(launcher, rank, instance):
    launcher(rank)
    options, rest = server._parse(["ctl", "rcv1", "rcv2", "--log-level", "trace", "-ORBendPoint", "giop:tcp::1"])
    assert (options.instance, options.instances) == (instance, ["ctl", "rcv1", "rcv2"])
    assert rest == ["-ORBendPoint", "giop:tcp::1"]


def test_one_instance_is_it_whatever_the_rank(launcher):
    launcher(2)
    options, _ = server._parse(["rcv2"])
    assert options.instance == "rcv2"


@pytest.mark.parametrize(
    ("rank", "reason"), [(None, "start them with mpiexec -n 2"), (2, "MPI rank 2 has no instance, 2 are named")]
)
def test_several_instances_without_a_rank_for_each_are_refused(launcher, capsys, rank, reason):
    launcher(rank)
    with pytest.raises(SystemExit):
        server._parse(["ctl", "rcv1"])
    assert reason in capsys.readouterr().err


def test_fewer_ranks_than_instances_are_refused(logger, capsys):
    server._log_to("info", None, "")
    with pytest.raises(SystemExit):
        server._check_roles(WorldOfOne(), ["ctl", "rcv1"])
    assert "2 instances are named (ctl, rcv1), but the job has 1 ranks: mpiexec -n 2" in capsys.readouterr().err


def test_a_level_that_there_is_not_is_refused_with_the_choice(capsys):
    with pytest.raises(SystemExit):
        server._parse(["--log-level", "loud", "one"])
    assert "trace" in capsys.readouterr().err


def test_the_pattern_counts_files(tmp_path):
    names = []
    for _ in range(3):
        file = server._next_file(tmp_path, "ctl.%N.log")
        file.touch()
        names.append(file.name)
    assert names == ["ctl.0.log", "ctl.1.log", "ctl.2.log"]


def test_a_pattern_without_a_counter_is_one_file(tmp_path):
    (tmp_path / "a.log").touch()
    assert server._next_file(tmp_path, "a.log").name == "a.log"


@pytest.mark.parametrize(("level", "seen"), [("debug", True), ("warning", False), ("trace", True)])
def test_messages_reach_the_file_from_the_level_on(tmp_path, logger, level, seen):
    server._log_to(level, str(tmp_path / "new folder"), "x.%N.log")
    logging.getLogger("lima2_tango.somewhere").debug("a small thing")
    assert ("a small thing" in (tmp_path / "new folder" / "x.0.log").read_text()) is seen


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_and_version_need_no_database(option):
    command = [sys.executable, "-c", "from lima2_tango.devices.launch import main; main()", option]
    done = subprocess.run(command, capture_output=True, text=True, timeout=QUICK)
    assert "lima2_tango" in done.stdout
    assert done.returncode == 0


def test_a_database_that_is_down_is_one_sentence(monkeypatch):
    monkeypatch.setenv("TANGO_HOST", "127.0.0.1:1")
    command = [sys.executable, "-c", "from lima2_tango.devices.launch import main; main()", "nobody"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=QUICK)
    assert done.returncode == 1
    assert "Tango cannot serve nobody" in done.stderr
    assert "127.0.0.1:1" in done.stderr
    assert "Traceback" not in done.stderr
