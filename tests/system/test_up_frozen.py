"""A system that shares its database with another, that is frozen, or that dies before it is up."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from supervised import LIMA2, UP_S, Supervised, kept_up, lima2, of_folder, write_config
from watching import wait_for

from lima2_tango.cli.ranks import find_ranks, shared_memory

INSTANCES = ["simulator_ctl", "simulator_rcv1", "simulator_rcv2"]


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supervised]:
    home = tmp_path_factory.mktemp("first")
    with kept_up(home / "home", write_config(home / "first.yaml", name="first")) as running:
        yield running


@pytest.fixture
def frozen(first: Supervised) -> Iterator[int]:
    """The control's process, which SIGSTOP holds."""
    control = first.pid("simulator_ctl")
    os.kill(control, signal.SIGSTOP)
    yield control
    os.kill(control, signal.SIGCONT)


def refused_second(first: Supervised, folder: Path) -> str:
    """What a second system with the same devices, on the database of the first, is told."""
    receivers = [{"device": device, "instance": f"b_{rank}"} for rank, device in enumerate(first.state.receivers)]
    others = {"control__instance": "b_ctl", "receivers": receivers}
    database = {"kind": "external", "port": int(first.state.tango_host.rpartition(":")[2])}
    second = write_config(folder / "second.yaml", name="second", database=database, **others)
    done = lima2("up", second, home=folder / "home")
    assert done.returncode == 2, done.stdout + done.stderr
    assert len(done.stderr.splitlines()) == 1
    return done.stderr


def test_a_second_system_does_not_take_the_devices_of_the_first(first: Supervised, tmp_path: Path) -> None:
    told = refused_second(first, tmp_path)
    pid = first.pid("simulator_rcv2")
    assert f"id00/limareceiver/simulator2 is served by lima2_tango/simulator_rcv2 (process {pid})" in told
    assert first.look().well


def test_nor_those_of_one_that_is_frozen(first: Supervised, frozen: int, tmp_path: Path) -> None:
    told = refused_second(first, tmp_path)
    assert f"id00/limacontrol/simulator is served by lima2_tango/simulator_ctl (process {frozen})" in told


@pytest.mark.parametrize("by", ["system", "device"])
def test_a_frozen_control_is_named_with_its_process(first: Supervised, frozen: int, by: str) -> None:
    where = ["first"] if by == "system" else ["--device", first.state.control, "--tango-host", first.state.tango_host]
    done = lima2("run", *where, "--frames", "3", home=first.home)
    assert done.returncode == 2
    assert f"process {frozen}" in done.stderr
    assert "lima2 down" in done.stderr


def test_a_receiver_is_no_control(first: Supervised) -> None:
    device = first.state.receivers[0]
    done = lima2("run", "--device", device, "--tango-host", first.state.tango_host, home=first.home)
    assert done.returncode == 2
    assert f"{device} is a receiver, which its control commands: name a control: {first.state.control}" in done.stderr


@pytest.mark.parametrize("name", ["simulator_ctl", "database"])
def test_what_is_frozen_is_ended_with_its_system(tmp_path: Path, name: str) -> None:
    with kept_up(tmp_path / "home", write_config(tmp_path / "a.yaml", name="a")) as running:
        os.kill(running.pid(name), signal.SIGSTOP)
        done = lima2("down", "a", home=running.home)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "had to be killed" not in done.stdout
        assert running.process.wait(UP_S) == 0


def test_a_start_that_fails_leaves_no_shared_memory(tmp_path: Path) -> None:
    config, home = write_config(tmp_path / "a.yaml", name="a", restart__policy="never"), tmp_path / "home"
    logs = home / "a" / "logs"
    with subprocess.Popen([LIMA2, "up", config], env={**os.environ, "LIMA2_HOME": str(home)}) as process:

        def mapped() -> tuple[list[psutil.Process], set[Path]]:
            ranks = list(find_ranks(logs, INSTANCES).values())
            segments = set(shared_memory(ranks))
            return (ranks, segments) if segments else ([], set())

        try:
            ranks, segments = wait_for(lambda: found if (found := mapped())[1] else None, UP_S, "a segment is mapped")
            ranks[-1].kill()
            assert process.wait(UP_S) == 1
        finally:
            process.terminate()
            process.wait(UP_S)
    assert not [path for path in segments if path.exists()]
    assert not of_folder(home)
