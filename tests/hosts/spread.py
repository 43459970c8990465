"""A system over two hosts: a database on the near one, and an MPI job on both, driven by its control."""

import json
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401 (tells HDF5 how the frames are compressed)
import numpy as np
from two_hosts import Hosts

from lima2_tango.cameras._images import Gauss, fill
from lima2_tango.cameras._images import Generator as Images
from lima2_tango.cli.config import DatabaseConfig, SystemConfig
from lima2_tango.cli.database import Builtin
from lima2_tango.cli.process import Child
from lima2_tango.client import connect
from lima2_tango.client.connection import Client
from lima2_tango.client.database import wait_for_devices
from lima2_tango.client.run import Run

UP_S, RUN_S = 30.0, 20.0
WIDTH, HEIGHT, IMAGES = 512, 256, 8
FRAME_BYTES = 2 * WIDTH * HEIGHT
PEAK = {"x0": 200.0, "y0": 100.0, "fwhm": 150.0, "max": 1000.0}
DETECTOR = {
    "det.width": WIDTH,
    "det.height": HEIGHT,
    "det.nb_prefetch_frames": IMAGES,
    "det.generator": {"gauss": {"peaks": [PEAK], "grow_factor": 0.1}},
}


@dataclass(frozen=True)
class Spread:
    """A system that answers."""

    hosts: Hosts
    lima: Client
    job: Child
    tango_host: str

    def acquire(self, det: Mapping[str, Any], folder: Path, nb_frames: int) -> Run:
        """A run of frames that `expected` gives, 10 ms each, saved to a folder."""
        changes = {**DETECTOR, **det}
        return self.lima.acquire(nb_frames=nb_frames, expo_time=0.01, latency_time=0, saving=folder, changes=changes)


@contextmanager
def spread_system(
    hosts: Hosts, config: SystemConfig, folder: Path, command: Sequence[str], **settings: str
) -> Generator[Spread]:
    """Start the job with this command and these settings of the environment; all ends with the context."""
    database = Builtin(DatabaseConfig(host=hosts.near), folder, list(config.entries()))
    database.start()
    try:
        job = Child("the job", command, hosts.environment(TANGO_HOST=database.tango_host, **settings), folder / "log")
        try:
            wait_for_devices(database.tango_host, config.devices, UP_S, job.check)
            with connect(config.control.device, database.tango_host) as lima:
                yield Spread(hosts, lima, job, database.tango_host)
        finally:
            job.stop()
    finally:
        database.stop()


def expected(index: int) -> np.ndarray:
    image = np.empty((1, 1, HEIGHT, WIDTH), np.uint16)
    images = Images(gauss=Gauss.parse(json.dumps({"peaks": [PEAK], "grow_factor": 0.1})))
    fill(images, np.array([index % IMAGES]), image)
    return image[0, 0]


def check_master(folder: Path) -> int:
    """How many frames the master file shows; each is compared."""
    with h5py.File(folder / "lima2_master.h5") as file:
        frames = file["entry_0000/measurement/data"][...]
    for index, frame in enumerate(frames):
        assert np.array_equal(frame, expected(index)), f"frame {index}"
    return len(frames)


def check_files_of(receiver: int, step: int, folder: Path) -> int:
    """How many frames a receiver has saved, every `step`-th of the series; each is compared."""
    count = 0
    for path in sorted(folder.glob(f"lima2_{receiver}_*.h5")):
        with h5py.File(path) as file:
            frames = file["entry_0000/measurement/data"][...]
        for local, frame in enumerate(frames, count):
            index = receiver + step * local
            assert np.array_equal(frame, expected(index)), f"frame {index}"
        count += len(frames)
    return count
