"""Acquisition after acquisition: memory, descriptors, threads and devices stay what they were."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from conducting import Conducted
from support import Rig, launched
from watching import wait_for

from lima2_tango.cli.system import System

WARM_UP = 10
SPARE = 3
"""Tango's threads and sockets come and go with the connections of clients."""
GROWTH = 50_000
"""Most that a process may grow by in each acquisition [byte]."""


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with launched(tmp_path_factory.mktemp("endurance"), "simulator", conductor=True) as running:
        yield running


@dataclass(frozen=True)
class Size:
    memory: int
    """Unique to the process [byte]."""
    descriptors: int
    threads: int


def sizes(system: System) -> dict[int, Size]:
    """Of each device server of the job, by process id."""
    children = psutil.Process(system.job.pid).children(recursive=True)
    servers = [p for p in children if "lima2_tango" in " ".join(p.cmdline())]
    return {p.pid: Size(p.memory_full_info().uss, p.num_fds(), p.num_threads()) for p in servers}


def acquire(client: Conducted, folder: Path, number: int) -> None:
    regions = {"statistics.rect_rois": [{"topleft": {"x": 0, "y": 0}, "dimensions": {"x": 32, "y": 32}}]}
    saving = {"saving.filename_prefix": f"run{number:03d}"}
    client.run(client.acq({"acq.nb_frames": 20}), client.proc(folder, regions | saving))
    assert len(client.rows("roi_stats", 0)) == 20


def compare(before: dict[int, Size], after: dict[int, Size], runs: int) -> list[str]:
    assert before.keys() == after.keys(), "a server was replaced"
    faults = []
    for pid, old in before.items():
        new = after[pid]
        if new.descriptors > old.descriptors + SPARE or new.threads > old.threads + SPARE:
            faults.append(f"{pid}: {old} became {new}")
        if (new.memory - old.memory) / runs > GROWTH:
            faults.append(f"{pid} grew by {(new.memory - old.memory) / runs / 1000:.0f} kB in each of {runs} runs")
    return faults


@pytest.mark.parametrize("runs", [10, pytest.param(100, marks=[pytest.mark.long, pytest.mark.timeout(600)])])
def test_acquisitions_in_a_row_leave_nothing_behind(rig: Rig, system: System, tmp_path: Path, runs: int) -> None:
    client = Conducted.of(system)
    for number in range(WARM_UP):
        acquire(client, tmp_path, number)
    before = sizes(system)
    for number in range(WARM_UP, WARM_UP + runs):
        acquire(client, tmp_path, number)
    # Ten runs say little about memory: allocators keep what they got.
    counted = runs if runs >= 50 else 50 * runs
    wait_for(lambda: not compare(before, sizes(system), counted), 3, f"{before} became {sizes(system)}")
    assert [len(receiver.read_attribute("pipelines").value) for receiver in rig.receivers] == [1, 1]
