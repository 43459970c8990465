"""P11: `acq_state` answers, memory stands still and no frame is lost while both receivers run flat out."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401 - to read what the writer compressed
import numpy as np
import psutil
from lima2.client.services import ConductorServices
from numpy.typing import NDArray

from lima2_tango.cli.process import environment
from lima2_tango.cli.system import System
from lima2_tango.core.errors import DataLossError, Lima2Error

from .rig import Json, Rig, configuration, folder_in_memory
from .row import Row, Tell

Times = NDArray[np.float64]
GOAL_MS = 20.0
"""Bound of the 99th percentile of a read of `acq_state` [ms]."""
GOAL_GROWTH = 0.5
"""Bound of the slope of the job's resident memory [MB/min]."""
SETTLED = 10.0
"""Memory is looked at from here on [s]."""
ROOM = 2 << 30
"""In memory, for the files [byte]."""
SHORT, LONG = 8.0, 60.0


def measure(short: bool, tell: Tell) -> list[Row]:
    """Run the Simulator as fast as it goes for 60 s (8 s in short form), saving to memory, conductor attached."""
    seconds = SHORT if short else LONG
    with folder_in_memory(ROOM) as folder, Rig.running(configuration(), folder) as rig:
        return _measure(rig, folder, seconds, tell)


def _measure(rig: Rig, folder: Path, seconds: float, tell: Tell) -> list[Row]:
    client, system = rig.client, rig.system
    client.acquisition.prepare(**flat_out(rig, folder))
    client.acquisition.start()
    tell(f"flat out for {seconds:g} s")
    with polling(system, seconds) as latency:
        growth = _memory_growth(system, seconds, folder)
        latencies = latency()
    client.acquisition.stop()
    rig.wait_end(time.monotonic())
    frames: int = client.pipeline.progress()
    lost = lost_in_files(client, frames)
    p99 = float(np.percentile(latencies, 99))
    detail = (
        f"{len(latencies)} reads, median {np.median(latencies):.2f} ms, worst {latencies.max():.1f} ms; "
        f"{frames} frames, {frames / seconds:.0f} a second; memory {growth:+.1f} MB a minute"
    )
    rows = [Row("P11", "acq_state, 99 % answered within", p99, GOAL_MS, "ms", GOAL_MS / p99, 1.0, lost, 1, detail)]
    if seconds >= LONG:  # a few seconds say nothing about it
        ratio = GOAL_GROWTH / max(growth, GOAL_GROWTH / 100)
        rows.append(Row("P11", "growth of resident memory", growth, GOAL_GROWTH, "MB/min", ratio, 1.0, lost, 1))
    return rows


@contextmanager
def polling(system: System, seconds: float, clients: int = 1) -> Generator[Callable[[], Times]]:
    """Clients read `acq_state` of each receiver for so long; what is given waits for the times of all reads [ms]."""
    command = [sys.executable, "-m", "lima2_tango.client.latency", system.tango_host, str(seconds), str(clients)]
    with subprocess.Popen([*command, *system.receivers], stdout=subprocess.PIPE, env=environment()) as reads:
        try:
            yield lambda: np.array(json.loads(reads.communicate(timeout=SETTLED + seconds)[0])) * 1e3
        finally:
            reads.kill()


def flat_out(rig: Rig, folder: Path) -> Json:
    """Parameters of an endless run of `gray8` frames."""
    generator = rig.client.acquisition.default_params()[1]["det"]["generator"]
    return rig.parameters(folder, 0, {"nb_prefetch_frames": 16, "generator": {**generator, "pixel_type": "gray8"}})


def _memory_growth(system: System, seconds: float, folder: Path) -> float:
    """Slope of the job's resident memory, files in memory not counted, once it has settled [MB/min]."""
    processes = [psutil.Process(system.job.pid), *psutil.Process(system.job.pid).children(recursive=True)]
    begin, samples = time.monotonic(), []
    while (now := time.monotonic() - begin) < seconds:
        if now > min(SETTLED, seconds / 2):
            samples.append((now, sum(process.memory_info().rss for process in processes) / 1e6))
        check_room(folder)
        time.sleep(0.2)
    times, sizes = np.array(samples).T
    return float(np.polyfit(times, sizes, 1)[0] * 60)


def check_room(folder: Path) -> None:
    """The run may be longer than the memory: complain in time rather than let the machine stop."""
    if shutil.disk_usage(folder).free < 2**30:
        raise Lima2Error(f"less than 1 GiB is left in {folder}: P11 needs a machine with more memory, or --short")


def lost_in_files(client: ConductorServices, frames: int) -> int:
    """Frames that the master file does not have; raises DataLossError where they are not those taken."""
    path, dataset = client.pipeline.master_files()["frame"]
    with h5py.File(path) as file:
        rows, last = len(file[dataset]), file[dataset][-1]
    if not last.any():
        raise DataLossError(f"the last frame of {path} is empty: a data file is missing")
    return abs(client.acquisition.nb_frames_xferred() - rows) + abs(frames - rows)
