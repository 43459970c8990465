"""kill -9 in mid-run: what decision 10 promises holds, status tells the truth, the next run needs no hand."""

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

import h5py
import hdf5plugin  # noqa: F401  (the filter that the files are compressed with)
import numpy as np
import pytest
import requests
from conducting import Conducted
from lima2.client.services import init
from lima2.client.session import ConductorConnectionError
from lima2.common.exceptions import Lima2BackendError, Lima2BadCommand, Lima2DeviceError, Lima2Error
from supervised import Supervised, kept_up, write_config
from support import Json
from watching import wait_for

from lima2_tango.cli.config import Topology
from lima2_tango.client import RunState, connect
from lima2_tango.core import errors

ROWS = 39
"""Frames in a file; no multiple of what the images repeat after, so that a missing file shows."""
RECEIVERS = 2
IMAGES = 8
TRUTH_S = 2.0
"""`lima2 status` knows of a death within [s]."""
NEXT_S = 10.0
"""The next run is over within, from the death on [s]."""
NOT_YET = (
    requests.RequestException,  # the conductor ended in the middle of an answer
    ConductorConnectionError,
    Lima2BackendError,
    Lima2BadCommand,
    Lima2DeviceError,
    Lima2Error,
    errors.Lima2Error,  # of the control's own client
)
"""What a client hears while the system is not back: it asks again."""
VICTIMS = {
    "receiver": ["simulator_rcv2"],
    "control": ["simulator_ctl"],
    "job": ["launcher", "simulator_ctl", "simulator_rcv1", "simulator_rcv2"],
    "database": ["database"],
}
DEAD_RECEIVERS = {"receiver": {1}, "control": set(), "job": {0, 1}, "database": set()}
"""Whose file under way is lost."""


class ByConductor:
    """A user who drives through the conductor."""

    def __init__(self, system: Supervised) -> None:
        port = int(system.state.conductor_url.rsplit(":", 1)[1])
        self.conducted = Conducted(init("localhost", port), Topology.ROUND_ROBIN)

    def begin(self, acq: Json, proc: Json) -> None:
        self.conducted.prepare(acq, proc)
        self.conducted.start()

    def end(self) -> None:
        """End a run that went on whatever was killed."""
        wait_for(self._stops, NEXT_S, "the run, which went on, is stopped")
        self.conducted.wait_end()
        self.conducted.check_success()

    def acquire(self, acq: Json, proc: Json) -> None:
        """A whole run, as a script would: whatever the last one has left."""
        self.conducted.recover()
        self.conducted.run(acq, proc)

    def _stops(self) -> bool:
        try:
            self.conducted.stop()
        except NOT_YET:
            return False
        return True


class ByControl:
    """A user who knows the control device only."""

    def __init__(self, system: Supervised) -> None:
        self._where = system.state.control, system.state.tango_host

    def begin(self, acq: Json, proc: Json) -> None:
        with connect(*self._where) as client:
            client.replace(acq, proc)
            client.begin()

    def end(self) -> None:
        wait_for(self._stops, NEXT_S, "the run, which went on, is stopped")

    def _stops(self) -> bool:
        try:
            with connect(*self._where) as client:
                run = client.last_run()
                assert run is not None
                return run.stop().state is RunState.STOPPED
        except NOT_YET:
            return False

    def acquire(self, acq: Json, proc: Json) -> None:
        with connect(*self._where) as client:
            client.reset()
            client.replace(acq, proc)
            assert client.begin().wait(NEXT_S).state is RunState.DONE


USERS = {"conductor": ByConductor, "control": ByControl}


@dataclass
class Bench:
    """The system under test, its parameters, and what every image must be."""

    system: Supervised
    conducted: Conducted
    """Knows good parameters."""
    random: random.Random
    images: list[np.ndarray] = field(default_factory=list)
    took: dict[str, list[float]] = field(default_factory=dict)

    def frames(self, folder: Path) -> dict[int, np.ndarray]:
        """Every frame that the named files hold, by global index; their rows follow each other without a hole."""
        found: dict[int, np.ndarray] = {}
        for receiver in range(RECEIVERS):
            local, files = 0, sorted(folder.glob(f"lima2_{receiver}_*.h5"))
            assert [int(path.stem.rsplit("_", 1)[1]) for path in files] == list(range(len(files)))
            for path in files:
                for frame in read(path):
                    found[RECEIVERS * local + receiver] = frame
                    local += 1
        return found


def read(path: Path) -> np.ndarray:
    with h5py.File(path, "r") as file:
        return np.asarray(file["entry_0000/measurement/data"])


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    home = tmp_path_factory.mktemp("kills")
    restart = {"at_most": 1000, "within": 1.0}
    config = write_config(home / "kills.yaml", name="kills", conductor__enabled=True, restart=restart)
    with kept_up(home / "home", config) as system:
        made = Bench(system, ByConductor(system).conducted, random.Random(4))
        made.conducted.run(made.conducted.acq(), saving(made, home))
        frames = made.frames(home)
        made.images = [frames[index] for index in range(IMAGES)]
        assert not np.array_equal(made.images[0], made.images[1])
        yield made


def saving(bench: Bench, folder: Path) -> Json:
    return bench.conducted.proc(folder, {"saving.nb_frames_per_file": ROWS})


def killed_in_mid_run(bench: Bench, driver: str, victim: str, folder: Path) -> None:
    system, user = bench.system, USERS[driver](bench.system)
    folder.mkdir()
    user.begin(bench.conducted.acq({"acq.nb_frames": 0, "acq.expo_time": 1000}), saving(bench, folder))
    wait_for(lambda: all(list(folder.glob(f"lima2_{r}_*.h5")) for r in range(RECEIVERS)), 10, "files are closed")
    Event().wait(bench.random.uniform(0.0, 0.5))
    before = system.state.restarts
    system.kill(*VICTIMS[victim])
    wait_for(lambda: knows(system, before), TRUTH_S, "status tells the truth")
    if victim == "database":
        user.end()
    wait_for(lambda: runs_again(bench, user), NEXT_S, "the next run")
    system.wait_up(before + 1)
    check_files(bench, folder, DEAD_RECEIVERS[victim])


def knows(system: Supervised, before: int) -> bool:
    """Status shows the death, or that it is repaired."""
    return not (look := system.look()).well or look.state.restarts > before


def runs_again(bench: Bench, user: ByConductor | ByControl) -> bool:
    """A whole run; False while the system is not back."""
    try:
        user.acquire(bench.conducted.acq(), bench.conducted.proc())
    except (*NOT_YET, AssertionError):
        return False
    return True


def check_files(bench: Bench, folder: Path, dead: set[int]) -> None:
    for index, frame in bench.frames(folder).items():
        assert np.array_equal(frame, bench.images[index % IMAGES]), f"frame {index}"
    hidden = [name for name in os.listdir(folder) if name.endswith(".part")]
    assert {int(name.split("_")[1]) for name in hidden} <= dead, hidden


@pytest.mark.parametrize("driver", USERS)
@pytest.mark.parametrize("victim", VICTIMS)
def test_killed_twice(bench: Bench, driver: str, victim: str, tmp_path: Path) -> None:
    for number in range(2):
        killed_in_mid_run(bench, driver, victim, tmp_path / str(number))


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("driver", USERS)
@pytest.mark.parametrize("victim", VICTIMS)
def test_killed_twenty_times(bench: Bench, driver: str, victim: str, tmp_path: Path) -> None:
    for number in range(20):
        killed_in_mid_run(bench, driver, victim, tmp_path / str(number))
