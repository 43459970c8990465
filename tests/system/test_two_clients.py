"""Two clients at once, whatever they send: the control answers, refuses in a sentence, and works for the next one.

Sequences come from a seed, not from hypothesis: what real processes and threads do with the same commands is never
twice the same, so there is nothing that could be made smaller by trying again. A failure names its seed and says what
was sent and answered; with `LIMA2_SEED=<seed>` in the environment the short test begins there.
"""

import json
import os
from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Barrier, Lock

import h5py
import hdf5plugin  # noqa: F401  (the filter that the files are compressed with)
import numpy as np
import psutil
import pytest
import tango
from commanding import ACQ, HEIGHT, IMAGES, PEAK, READ_LIMIT, WIDTH, Client, Step, Story, sequences, take
from support import LEGACY, Json, launched
from watching import StateWatch, wait_for

from lima2_tango.cameras import _images
from lima2_tango.cli.system import System
from lima2_tango.control.drive import KEPT
from lima2_tango.control.runlog import LENGTH, RunState
from lima2_tango.core.state import TRANSITIONS, State

DRAIN_LIMIT = 10.0
"""A run whose acquisition is over has ended within [s]."""
POLL = 0.02
FIRST = int(os.environ.get("LIMA2_SEED", "0"))
WARM_UP = 10
"""Sequences after which a process has all that it keeps."""
BLOCK = 50
"""Sequences between two looks at the size of the processes."""
SPARE = 12
"""Threads and descriptors come and go with the connections of clients."""
ENDED = {RunState.DONE, RunState.STOPPED, RunState.FAILED}
LEGAL = {(before, after) for (before, _), after in TRANSITIONS.items()} | {(state, state) for state in State}


def images() -> np.ndarray:
    """What the simulator shows, [image, row, column]."""
    made = np.empty((IMAGES, 1, HEIGHT, WIDTH), np.uint16)
    gauss = _images.Gauss.parse(json.dumps({"peaks": [PEAK], "grow_factor": 0.1}))
    _images.fill(_images.Generator(gauss=gauss), np.arange(IMAGES), made)
    return made[:, 0]


class Changes:
    """The states of the control, as its events tell them."""

    def __init__(self, control: tango.DeviceProxy) -> None:
        self._control, self._states, self._lock = control, [], Lock()

    def __enter__(self) -> "Changes":
        self._identity = self._control.subscribe_event("acq_state", tango.EventType.CHANGE_EVENT, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        self._control.unsubscribe_event(self._identity)

    def _note(self, event: tango.EventData) -> None:
        with self._lock:
            self._states.append(None if event.err else State(int(event.attr_value.value)))

    def illegal(self) -> list[str]:
        """Changes that the table does not have, since the last call."""
        with self._lock:
            states, self._states = self._states, self._states[-1:]
        pairs = zip(states, states[1:], strict=False)
        return [f"state went from {before} to {after}" for before, after in pairs if (before, after) not in LEGAL]


@dataclass(frozen=True)
class Size:
    descriptors: int
    threads: int


class Bench:
    """The system, its two clients, and what holds after each sequence."""

    def __init__(self, system: System, folder: Path) -> None:
        self.system, self.folder, self.shown = system, folder, images()
        self.clients = [Client(system, folder) for _ in range(2)]
        self.watched = [self.clients[0].control, *self.clients[0].receivers]
        self.changes = Changes(self.clients[0].control)
        self.before = self.sizes()

    def sizes(self) -> dict[int, Size]:
        """Of each device server, by process id."""
        family = [psutil.Process(self.system.job.pid), *psutil.Process(self.system.job.pid).children(recursive=True)]
        servers = [process for process in family if "lima2_tango" in " ".join(process.cmdline())]
        return {process.pid: Size(process.num_fds(), process.num_threads()) for process in servers}

    def play(self, seed: int) -> Story:
        """One sequence, and the proof that the system is well after it."""
        story, barrier = Story(seed), Barrier(2)
        for client in self.clients:
            client.folder = self.folder / str(seed)

        def run(who: int, steps: list[Step]) -> None:
            barrier.wait()
            for step in steps:
                take(self.clients[who], who, step, story)

        with StateWatch(self.watched, POLL) as watch, ThreadPoolExecutor(2) as pool:
            for future in [pool.submit(run, who, steps) for who, steps in enumerate(sequences(seed))]:
                future.result()
        story.faults += watch.errors
        if watch.slowest() > READ_LIMIT:
            story.faults.append(f"a state took {watch.slowest():.1f} s")
        try:
            self.prove(story)
        except (AssertionError, tango.DevFailed) as error:
            story.faults.append(f"afterwards: {error}")
        story.faults += self.changes.illegal()
        return story

    def prove(self, story: Story) -> None:
        """Abort brings IDLE, a normal run is exact, and the log of runs is consistent."""
        client = self.clients[0]
        take(client, 0, Step(0.0, "Abort", 0), story)
        assert State(int(client.read("acq_state"))) is State.IDLE, "not IDLE after Abort"
        client.write("acq_params", json.dumps(ACQ))
        saving = {"base_path": str(client.folder), "filename_prefix": "normal", "file_exists_policy": "overwrite"}
        client.write("proc_params", json.dumps({"class_name": LEGACY, "saving": saving}))
        identity = client.call("Acquire")
        wait_for(lambda: self.live() == [], DRAIN_LIMIT, f"the end of all runs after {identity}")
        self.check_runs(identity)
        for receiver in client.receivers:
            assert len(receiver.read_attribute("pipelines").value) <= KEPT + 1, "old runs are not erased"

    def live(self) -> list[Json]:
        return [run for run in map(json.loads, self.clients[0].read("runs")) if run["state"] not in ENDED]

    def check_runs(self, identity: str) -> None:
        runs = [json.loads(run) for run in self.clients[0].read("runs")]
        assert len(runs) <= LENGTH
        assert [run["begin"] for run in runs] == sorted((run["begin"] for run in runs), reverse=True)
        assert len({run["uuid"] for run in runs}) == len(runs)
        for run in runs:
            assert run["begin"] <= run["end"], run
            assert (run["state"] == RunState.FAILED) == bool(run["error"]), run
        newest = runs[0]
        assert (newest["uuid"], newest["state"], newest["nb_frames_saved"]) == (identity, RunState.DONE, 4), newest
        with h5py.File(newest["files"][0]) as file:
            assert np.array_equal(file["entry_0000/instrument/detector/data"][...], self.shown)

    def check_sizes(self) -> None:
        """The processes are those of the beginning, and have not grown."""

        def grown() -> list[str]:
            now = self.sizes()
            assert now.keys() == self.before.keys(), "a process has ended"
            pairs = [(pid, self.before[pid], size) for pid, size in now.items()]
            return [
                f"{pid}: {old} became {new}"
                for pid, old, new in pairs
                if new.descriptors > old.descriptors + SPARE or new.threads > old.threads + SPARE
            ]

        wait_for(lambda: not grown(), 5, f"the size of {self.before}, now {self.sizes()}")


@contextmanager
def running(folder: Path) -> Generator[Bench]:
    """A system of its own, with all its events heard."""
    with launched(folder / "system", "simulator") as system:
        bench = Bench(system, folder)
        bench.prove(Story(-1))  # the first Prepare of a server waits for its kernels
        with bench.changes:
            yield bench


def play_all(bench: Bench, seeds: Iterable[int]) -> None:
    for number, seed in enumerate(seeds, 1):
        story = bench.play(seed)
        assert not story.faults, str(story)
        if number == WARM_UP:
            bench.before = bench.sizes()
        if number % BLOCK == 0:
            bench.check_sizes()


def test_two_clients_cannot_break_the_system(tmp_path: Path) -> None:
    with running(tmp_path) as bench:
        play_all(bench, range(FIRST, FIRST + BLOCK // 2))
        bench.check_sizes()


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("first", range(1000, 2000, 250))
def test_two_clients_cannot_break_two_systems_that_share_the_cores(tmp_path: Path, first: int) -> None:
    """A thousand sequences in all; mostly they wait, so two systems play at the same time."""
    with running(tmp_path / "even") as even, running(tmp_path / "odd") as odd, ThreadPoolExecutor(2) as pool:
        played = [
            pool.submit(play_all, bench, range(FIRST + first + offset, FIRST + first + 250, 2))
            for offset, bench in enumerate((even, odd))
        ]
        for future in played:
            future.result()
