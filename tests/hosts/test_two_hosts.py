"""A system over two hosts: its frames cross the cable, and what a cut of the cable does to a run."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from spread import FRAME_BYTES, HEIGHT, RUN_S, WIDTH, Spread, check_files_of, check_master, spread_system
from two_hosts import Hosts, two_hosts

from lima2_tango.cli.config import load_config
from lima2_tango.client.errors import RefusedError, RunFailedError
from lima2_tango.client.run import Run
from lima2_tango.control.runlog import RunState

ROOT = Path(__file__).parents[2]
HALF = HEIGHT // 2
MODULES = [{"x": 0, "y": top, "width": WIDTH, "height": HALF} for top in (0, HALF)]
"""One for each receiver, without a gap between them."""
TOPOLOGIES = {
    "scattered": {"det.topology": "distributed_processing", "det.modules": []},
    "assembled": {"det.topology": "partial_frames", "det.modules": MODULES},
}
CROSSING = {"scattered": (30, 0), "assembled": (15, 15)}
"""Of 60 frames, what crosses there and back: the far receiver gets every other one, whole, or the half that it has not
itself, and then it gives the near one as much."""
SHORT_CUT = 1.0
"""[s]"""
LOST_WITHIN = 25.0
"""A run whose receivers are out of reach has ended within [s]: 5 s until its partners give one up, 10 s until the
control does, and 6 s at most for the others to end."""
READY_WITHIN = 40.0
"""After the cable is whole again [s]: TCP tries as long again as it has tried before."""


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    with two_hosts(tmp_path_factory.mktemp("hosts")) as made:
        yield made


@pytest.fixture(scope="module")
def spread(hosts: Hosts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spread]:
    """A control and receiver 0 on this host, receiver 1 on the far one; by the launcher that people use."""
    config = load_config(ROOT / "config" / "simulator.yaml")
    command = [str(ROOT / "servers" / "lima2-job"), *config.instances]
    mpiexec = " ".join(hosts.mpiexec("-hosts", hosts.list_of(near=2, far=1)))
    with spread_system(hosts, config, tmp_path_factory.mktemp("spread"), command, MPIEXEC=mpiexec) as running:
        yield running


def wait_frames(run: Run, least: int) -> None:
    for progress in run.watch():
        if progress.nb_frames_saved >= least:
            return
    pytest.fail("the run is over too soon")


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_the_bytes_of_the_frames_cross_the_cable(spread: Spread, tmp_path: Path, topology: str) -> None:
    sent, received = spread.hosts.sent(), spread.hosts.received()
    record = spread.acquire(TOPOLOGIES[topology], tmp_path, 60).wait(RUN_S)
    assert (record.state, record.nb_frames_saved) == (RunState.DONE, 60)
    assert check_master(tmp_path) == 60
    there, back = CROSSING[topology]
    assert spread.hosts.sent() - sent >= there * FRAME_BYTES
    assert spread.hosts.received() - received >= back * FRAME_BYTES


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_a_short_cut_of_the_cable_loses_nothing(spread: Spread, tmp_path: Path, topology: str) -> None:
    run = spread.acquire(TOPOLOGIES[topology], tmp_path, 200)
    wait_frames(run, 20)
    spread.hosts.cut()
    time.sleep(SHORT_CUT)  # the cut itself
    spread.hosts.heal()
    record = run.wait(RUN_S)
    assert (record.state, record.error, record.nb_frames_saved) == (RunState.DONE, "", 200)
    assert check_master(tmp_path) == 200


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_a_lasting_cut_ends_the_run_and_the_system_is_ready_when_it_is_mended(
    spread: Spread, tmp_path: Path, topology: str
) -> None:
    det = TOPOLOGIES[topology]
    run = spread.acquire(det, tmp_path / "cut", 0)
    wait_frames(run, 20)
    spread.hosts.cut()
    try:
        with pytest.raises(RunFailedError) as failed:
            run.wait(LOST_WITHIN)
    finally:
        spread.hosts.heal()
    what = failed.value.what
    assert "receiver 1 (id00/limareceiver/simulator2): it has not answered" in what
    assert "no sign of life from" in what
    assert "[2] for 5 s" in what, "the MPI rank of the far receiver"
    assert "frames from " in what or "the last frame that came from there is " in what
    assert check_files_of(0, 2, tmp_path / "cut") >= 10
    wait_ready(spread, det, tmp_path)


def wait_ready(spread: Spread, det: dict[str, Any], folder: Path) -> None:
    """The same processes acquire again."""
    deadline, attempt = time.monotonic() + READY_WITHIN, 0
    while True:
        spread.job.check()
        attempt += 1
        try:
            spread.lima.reset()
            record = spread.acquire(det, folder / str(attempt), 30).wait(RUN_S)
            break
        except (RefusedError, RunFailedError):
            assert time.monotonic() < deadline, "the system does not recover"
    assert record.nb_frames_saved == check_master(folder / str(attempt)) == 30
