"""Plan: what the model of `lima2 plan` predicts, against runs of one and two receivers with one thread each."""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from statistics import mean, median
from typing import Any

import h5py
import numpy as np
import psutil
from numpy.typing import NDArray

from lima2_tango.cli.rates import DISTINCT, as_json
from lima2_tango.cli.rates import measure as measure_rates
from lima2_tango.control.scaling import Detector, Host, Rates, host_rate

from .rig import Json, Rig, configuration, deviations, folder_in_memory, fresh
from .row import Row, Tell

SIDE = 2048
MEAN = 1.0
"""Photons per pixel."""
RANKS = (1, 2)
WITHIN = 0.2
"""The model may be off by this part of what was measured."""
QUIET = 0.15
"""A run counts in which processes of others had less [core]."""
ATTEMPTS = 3
"""And so many times the runs are made to find quiet ones."""


def measure(short: bool, tell: Tell) -> list[Row]:
    """Plan: 2048 x 2048 Poisson gray16 replayed by the Reader and saved compressed into memory."""
    distinct, nb_frames, repeats = (16, 96, 1) if short else (64, 256, 3)
    frames = np.random.default_rng(2).poisson(MEAN, (distinct, SIDE, SIDE)).astype(np.uint16)
    with folder_in_memory(4 * frames.nbytes) as folder:
        detector = _stored(frames, folder)
        runs = {ranks: measured(ranks, frames, detector, (folder, nb_frames, repeats), tell) for ranks in RANKS}
    return [_row(ranks, frames, run) for ranks, run in runs.items()]


@dataclass(frozen=True, slots=True)
class Run:
    """One run."""

    rates: Rates
    """Means of what was measured right before and right after it: a shared machine changes its speed."""
    speed: float
    """[frame/s]"""
    others: float
    """Cores that processes of others had meanwhile."""
    lost: int


def measured(
    ranks: int, frames: NDArray[np.uint16], detector: Json, how: tuple[Path, int, int], tell: Tell
) -> list[Run]:
    """So many receivers of one thread; `how` is a folder in memory, frames of a run, and how many runs.

    On a machine that others use, more runs are made, up to `ATTEMPTS` times as many, and those count in which others
    had less than `QUIET` cores; all, where there are none.
    """
    folder, nb_frames, repeats = how
    runs: list[Run] = []
    with Rig.running(configuration("Reader", ranks, workers=1), folder / str(ranks)) as rig:
        tell(f"{ranks} receivers of one thread, a first run")
        rig.acquire(fresh(folder), len(frames), detector)
        while sum(run.others < QUIET for run in runs) < repeats and len(runs) < ATTEMPTS * repeats:
            tell(f"{ranks} receivers of one thread, run {len(runs) + 1}")
            runs.append(_run(rig, frames, detector, (folder, nb_frames), tell))
    return [run for run in runs if run.others < QUIET] or runs


def _run(rig: Rig, frames: NDArray[np.uint16], detector: Json, how: tuple[Path, int], tell: Tell) -> Run:
    folder, nb_frames = how
    begin, others = time.monotonic(), _others()
    before = measure_rates(frames[:DISTINCT], None, tell)
    run = rig.acquire(fresh(folder), nb_frames, detector)
    after = measure_rates(frames[:DISTINCT], None, tell)
    busy = (_others() - others) / (time.monotonic() - begin)
    lost = deviations(run.master, nb_frames, frames)
    return Run(_middle([before, after], mean), nb_frames / run.saved, busy, lost)


def _others() -> float:
    """CPU time of all processes that are not ours, since the machine started [s]."""
    total = psutil.cpu_times()
    me = psutil.Process()
    ours = 0.0
    for process in (me, *me.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            ours += times.user + times.system
    return float(total.user + total.nice + total.system + getattr(total, "steal", 0.0)) - ours


def _middle(taken: Sequence[Rates], how: Callable[[Sequence[float]], float]) -> Rates:
    values: dict[str, Any] = {one.name: how([getattr(rates, one.name) for rates in taken]) for one in fields(Rates)}
    return Rates(**{**values, "cores": taken[0].cores})


def prediction(rates: Rates, frames: NDArray[np.uint16], ranks: int) -> float:
    """Frames a second by the model; the Reader's blocks are views, so nothing is copied."""
    height, width = frames.shape[1:]
    detector = Detector(width, height, frames.itemsize, 0.0, copies=0.0)
    host = Host(rates.cores, 0, 0.0, 0.0, ranks, workers=1)
    return host_rate(detector, host, rates, alone=True)


def _row(ranks: int, frames: NDArray[np.uint16], runs: Sequence[Run]) -> Row:
    """Each run against the model at its own time; the median counts."""
    what = f"the model of `lima2 plan` for {ranks} receiver{'s' * (ranks > 1)} of one thread; reference: measured"
    predicted = [prediction(run.rates, frames, ranks) for run in runs]
    found = [run.speed for run in runs]
    off = median(ours / theirs for ours, theirs in zip(predicted, found, strict=True)) - 1
    each = ", ".join(f"{ours:.0f} / {theirs:.0f}" for ours, theirs in zip(predicted, found, strict=True))
    detail = f"{ranks}: predicted / measured {each} frames/s; others had {median(run.others for run in runs):.2f} cores"
    figures, lost = as_json(_middle([run.rates for run in runs], median)), sum(run.lost for run in runs)
    limits = (1 - abs(off), 1 - WITHIN)
    return Row("Plan", what, median(predicted), median(found), "frames/s", *limits, lost, len(runs), detail, figures)


def _stored(frames: NDArray[np.uint16], folder: Path) -> Json:
    """Write frames for the Reader; returns what its `$.det` must say to replay them for ever."""
    path = folder / "frames.h5"
    with h5py.File(path, "w") as file:
        file["data"] = frames
    return {"base_path": str(folder), "filename_format": path.name, "dataset_path": "data", "loop": True} | {
        "nb_prefetch_frames": len(frames)
    }
