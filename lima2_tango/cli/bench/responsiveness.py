"""P11: `acq_state` answers, memory stands still and no frame is lost while both receivers run flat out."""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401 - to read what the writer compressed
import numpy as np
import psutil
from lima2.client.services import AcquisitionSuccess, ConductorServices, init

from lima2_tango.cli.config import ConductorConfig, Member, SystemConfig, Topology
from lima2_tango.cli.process import environment
from lima2_tango.cli.system import System
from lima2_tango.core.errors import DataLossError, Lima2Error

from .row import Row

GOAL_MS = 20.0
"""Bound of the 99th percentile of a read of `acq_state` [ms]."""
SETTLED = 10.0
"""Memory is looked at from here on [s]."""
READY = 60.0
END = 120.0
"""From stop to the master file [s]."""
SHORT, LONG = 8.0, 60.0
FRAMES_PER_FILE = 200
CONFIG = SystemConfig(
    name="bench",
    receivers=tuple(Member(device=f"id00/limareceiver/simulator{n}", instance=f"simulator_rcv{n}") for n in (1, 2)),
    conductor=ConductorConfig(topology=Topology.ROUND_ROBIN),
)
"""The same as `config/simulator.yaml`."""


def measure(short: bool, tell: Callable[[str], None]) -> list[Row]:
    """Run the Simulator as fast as it goes for 60 s (8 s in short form), saving to memory, conductor attached."""
    seconds = SHORT if short else LONG
    with tempfile.TemporaryDirectory(dir=_memory_disk(), prefix="lima2_bench_") as folder:
        with System(CONFIG, Path(folder) / "system") as system:
            system.wait_ready(READY)
            return [_measure(system, Path(folder), seconds, tell)]


def _measure(system: System, folder: Path, seconds: float, tell: Callable[[str], None]) -> Row:
    client = init(hostname=system.config.listen, port=system.conductor_port)
    client.acquisition.prepare(**_parameters(client, folder))
    client.acquisition.start()
    tell(f"flat out for {seconds:g} s")
    reads = subprocess.Popen(
        [sys.executable, "-m", "lima2_tango.client.latency", system.tango_host, str(seconds), *system.receivers],
        stdout=subprocess.PIPE,
        env=environment(),
    )
    growth = _memory_growth(system, seconds, folder)
    latencies = np.array(json.loads(reads.communicate(timeout=READY)[0])) * 1e3
    client.acquisition.stop()
    frames = _finished(client)
    lost = _lost(client, frames)
    p99 = float(np.percentile(latencies, 99))
    detail = (
        f"{len(latencies)} reads, median {np.median(latencies):.2f} ms, worst {latencies.max():.1f} ms; "
        f"{frames} frames, {frames / seconds:.0f} a second; memory {growth:+.1f} MB a minute"
    )
    return Row("P11", "acq_state, 99 % answered within", p99, GOAL_MS, "ms", GOAL_MS / p99, 1.0, lost, 1, detail)


def _parameters(client: ConductorServices, folder: Path) -> dict[str, Any]:
    control, receiver = client.acquisition.default_params()
    for params in (control, receiver):
        params["acq"] |= {"nb_frames": 0, "expo_time": 1, "latency_time": 0}
        params["det"]["generator"]["pixel_type"] = "gray8"
        params["det"]["nb_prefetch_frames"] = 16
    processing = client.pipeline.default_params("LimaProcessingLegacy")
    processing["saving"] |= {"base_path": str(folder), "nb_frames_per_file": FRAMES_PER_FILE, "filename_prefix": "p11"}
    return {"control": control, "receiver": receiver, "processing": processing}


def _memory_growth(system: System, seconds: float, folder: Path) -> float:
    """Slope of the job's resident memory, files in memory not counted, once it has settled [MB/min]."""
    processes = [psutil.Process(system.job.pid), *psutil.Process(system.job.pid).children(recursive=True)]
    begin, samples = time.monotonic(), []
    while (now := time.monotonic() - begin) < seconds:
        if now > min(SETTLED, seconds / 2):
            samples.append((now, sum(process.memory_info().rss for process in processes) / 1e6))
        _make_room(folder)
        time.sleep(0.2)
    times, sizes = np.array(samples).T
    return float(np.polyfit(times, sizes, 1)[0] * 60)


def _make_room(folder: Path) -> None:
    """The run may be longer than the memory: complain in time rather than let the machine stop."""
    if shutil.disk_usage(folder).free < 2**30:
        raise Lima2Error(f"less than 1 GiB is left in {folder}: P11 needs a machine with more memory, or --short")


def _finished(client: ConductorServices) -> int:
    """Frames of the run, once all of it is over."""
    deadline = time.monotonic() + END
    while client.acquisition.running() or client.pipeline.running():
        if time.monotonic() > deadline:
            raise Lima2Error(f"the run had not ended {END:g} s after its stop")
        time.sleep(0.1)
    if not isinstance(result := client.acquisition.result(), AcquisitionSuccess):
        raise Lima2Error(f"the run failed: {result}")
    frames: int = client.pipeline.progress()
    return frames


def _lost(client: ConductorServices, frames: int) -> int:
    """Frames that the master file does not have; raises DataLossError where they are not those taken."""
    path, dataset = client.pipeline.master_files()["frame"]
    with h5py.File(path) as file:
        rows, last = len(file[dataset]), file[dataset][-1]
    if not last.any():
        raise DataLossError(f"the last frame of {path} is empty: a data file is missing")
    return abs(client.acquisition.nb_frames_xferred() - rows) + abs(frames - rows)


def _memory_disk() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None
