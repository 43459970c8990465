"""A running system whose acquisitions the benchmark times, as the conductor's own client sees them."""

import json
import os
import shutil
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401 - to read what the writer compressed
import numpy as np
import tango
from lima2.client.services import AcquisitionSuccess, ConductorServices, init
from numpy.typing import NDArray

from lima2_tango.cli.config import ConductorConfig, Member, SystemConfig, Topology
from lima2_tango.cli.system import System
from lima2_tango.core.errors import DataLossError, Lima2Error

READY = 60.0
END = 120.0
"""From the start or stop of a run to its master file [s]."""
POLL = 0.02
"""Between two looks at the counters [s]."""

Json = dict[str, Any]


def memory_disk() -> str | None:
    """A folder in memory, where the system has one."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


@contextmanager
def pinned(cores: int) -> Generator[None]:
    """Let this thread, and all that it starts meanwhile, use only so many cores, where there are more."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:cores])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def folder_in_memory(needed: int) -> Generator[Path]:
    """An empty folder in memory with room for `needed` bytes, gone afterwards; raises Lima2Error without that room."""
    with tempfile.TemporaryDirectory(dir=memory_disk(), prefix="lima2_bench_") as name:
        if (free := shutil.disk_usage(name).free) < needed:
            raise Lima2Error(
                f"{name} has {free >> 20} MiB free, this needs {needed >> 20}: use --short, or more memory"
            )
        yield Path(name)


def configuration(camera: str = "Simulator", receivers: int = 2, workers: int = 0) -> SystemConfig:
    """A system on this machine; `workers` threads in each receiver, 0 for its share of the cores."""
    properties = {"workers": [str(workers)]} if workers else {}
    name = camera.lower()
    return SystemConfig(
        name="bench",
        camera=camera,
        control=Member(device=f"id00/limacontrol/{name}", instance=f"{name}_ctl"),
        receivers=tuple(
            Member(device=f"id00/limareceiver/{name}{n + 1}", instance=f"{name}_rcv{n + 1}", properties=properties)
            for n in range(receivers)
        ),
        conductor=ConductorConfig(topology=Topology.SINGLE if receivers == 1 else Topology.ROUND_ROBIN),
    )


@dataclass(frozen=True, slots=True)
class Timed:
    """A whole run."""

    nb_frames: int
    saved: float
    """From Start to the last frame in its file [s]."""
    ended: float
    """From Start to the end of the run, master file included [s]."""
    master: tuple[str, str]
    """File and dataset."""


class Rig:
    """One system, run again and again."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.client: ConductorServices = init(hostname=system.config.listen, port=system.conductor_port)

    @classmethod
    @contextmanager
    def running(cls, config: SystemConfig, folder: Path) -> Generator["Rig"]:
        """A system that answers, its kernels ready; stopped afterwards."""
        with System(config, folder / "system") as system:
            system.wait_ready(READY)
            yield cls(system)

    def parameters(self, folder: Path, nb_frames: int, detector: Json) -> Json:
        """Legacy as fast as it goes, bitshuffle-LZ4 into `folder`; `detector` changes `$.det`."""
        control, receiver = self.client.acquisition.default_params()
        for params in (control, receiver):
            params["acq"] |= {"nb_frames": nb_frames, "expo_time": 1, "latency_time": 0}
            params["det"] |= detector
        processing = self.client.pipeline.default_params("LimaProcessingLegacy")
        processing["saving"] |= {"base_path": str(folder), "compression": "bshuf_lz4", "nb_frames_per_file": 100}
        return {"control": control, "receiver": receiver, "processing": processing}

    def acquire(self, folder: Path, nb_frames: int, detector: Json) -> Timed:
        """A run of `nb_frames`, prepared beforehand; raises Lima2Error where it fails or does not end."""
        uuid = self.client.acquisition.prepare(**self.parameters(folder, nb_frames, detector))
        devices = [
            tango.DeviceProxy(f"tango://{self.system.tango_host}/id00/limaprocessing/{uuid}@{rank}")
            for rank in range(len(self.system.receivers))
        ]
        begin = time.monotonic()
        self.client.acquisition.start()
        saved = self._wait_saved(devices, nb_frames, begin) - begin
        self.wait_end(begin)
        master = self.client.pipeline.master_files()["frame"]
        return Timed(nb_frames, saved, time.monotonic() - begin, master)

    def wait_end(self, begin: float) -> None:
        """Until the conductor has closed the run; raises Lima2Error where that takes too long, or the run failed."""
        while self.client.system_state()["conductor"] == "RUNNING":
            if time.monotonic() > begin + END:
                raise Lima2Error(f"the run had not ended after {END:g} s")
            time.sleep(POLL)
        if not isinstance(result := self.client.acquisition.result(), AcquisitionSuccess):
            raise Lima2Error(f"the run failed: {result}")

    def _wait_saved(self, devices: Sequence[Any], nb_frames: int, begin: float) -> float:
        """When all frames are counted as saved."""
        while True:
            counts = [_counters(device)["nb_frames_saved"] for device in devices]
            now = time.monotonic()
            if sum(counts) >= nb_frames:
                return now
            if now > begin + END:
                raise Lima2Error(f"{sum(counts)} of {nb_frames} frames were saved within {END:g} s")
            time.sleep(POLL)


def _counters(device: Any) -> dict[str, int]:
    counts: dict[str, int] = json.loads(device.read_attribute("progress_counters").value)
    return counts


def deviations(master: tuple[str, str], nb_frames: int, expected: NDArray[np.generic]) -> int:
    """Frames that a master file has too few or too many; frame i must be `expected[i % len(expected)]`.

    `expected` is [frame, row, column]. Raises DataLossError for a frame with other pixels.
    """
    path, dataset = master
    with h5py.File(path) as file:
        frames = file[dataset]
        for index in range(len(frames)):  # several at once are slow: HDF5 works out what comes from which file
            if not np.array_equal(frames[index], expected[index % len(expected)]):
                raise DataLossError(f"frame {index} of {path} has other pixels than were acquired")
    return missing(master, nb_frames)


def missing(master: tuple[str, str], nb_frames: int) -> int:
    """Frames that a master file has too few or too many."""
    path, dataset = master
    with h5py.File(path) as file:
        return abs(len(file[dataset]) - nb_frames)


def frames_of(run: Timed, count: int) -> NDArray[np.generic]:
    """The first frames of a run, as its files have them; raises DataLossError where the next ones differ from them."""
    path, dataset = run.master
    with h5py.File(path) as file:
        frames: NDArray[np.generic] = np.stack([file[dataset][index] for index in range(count)])
    deviations(run.master, run.nb_frames, frames)
    return frames


def fresh(folder: Path) -> Path:
    """An empty folder for the files of a run."""
    target = folder / "run"
    if target.exists():
        shutil.rmtree(target)
    return target
