"""Rate against frame size, with what bounds it: a picture of where the design's costs per frame and per byte lie."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from mmap import mmap
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from lima2_tango.core.errors import DataLossError

from .bare import compression_time
from .rig import Json, Rig, configuration, folder_in_memory, frames_of, fresh, missing
from .row import Tell

SIDES = (64, 128, 256, 512, 1024, 2048, 4096)
"""Rows and columns of the frames [pixel]."""
PREFETCH = 8
"""Images that the Simulator shows in turn."""
MOST_FRAMES = 30_000
LEAST_COPY = 0.2
"""Copies are timed for at least so long [s]."""


@dataclass(frozen=True, slots=True)
class Point:
    """Rates at one frame size [frames/s]."""

    side: int
    ours: float
    """Through the whole system into files, two receivers."""
    compression: float
    """Bound: bitshuffle-LZ4 of these frames, 1 thread, times the cores."""
    copy: float
    """Bound: one copy of each frame in memory, 1 thread, times the cores."""


def measure(short: bool, tell: Tell) -> list[Point]:
    """Simulator gray16 frames of growing size, driven by the conductor, bitshuffle-LZ4 into memory."""
    volume = (256 << 20) if short else (1 << 30)
    with folder_in_memory(2 * volume) as folder, Rig.running(configuration(), folder) as rig:
        rig.acquire(fresh(folder), 2 * PREFETCH, _detector(rig, SIDES[0]))
        return [_point(rig, folder, side, volume, tell) for side in SIDES]


def _point(rig: Rig, folder: Path, side: int, volume: int, tell: Tell) -> Point:
    detector = _detector(rig, side)
    nb_frames = max(4 * PREFETCH, min(MOST_FRAMES, volume // (2 * side * side)))
    tell(f"frames of {side} x {side} pixels: {nb_frames} of them")
    frames = frames_of(rig.acquire(fresh(folder), 2 * PREFETCH, detector), PREFETCH)
    run = rig.acquire(fresh(folder), nb_frames, detector)
    if lost := missing(run.master, nb_frames):
        raise DataLossError(f"{lost} of {nb_frames} frames of {side} x {side} pixels are not in {run.master[0]}")
    cores = len(os.sched_getaffinity(0))
    return Point(side, nb_frames / run.saved, cores / compression_time(frames), cores / _copy_time(frames))


def _detector(rig: Rig, side: int) -> Json:
    generator = rig.client.acquisition.default_params()[1]["det"]["generator"]
    return {
        "width": side,
        "height": side,
        "nb_prefetch_frames": PREFETCH,
        "generator": {**generator, "pixel_type": "gray16"},
    }


def _copy_time(frames: np.ndarray) -> float:
    """Seconds to copy one frame, averaged."""
    source, target = _in_whole_pages(frames), _in_whole_pages(frames)
    done, begin = 0, time.monotonic()
    while (spent := time.monotonic() - begin) < LEAST_COPY:
        np.copyto(target, source)
        done += len(frames)
    return spent / done


def _in_whole_pages(frames: np.ndarray) -> np.ndarray:
    """A copy that begins with a page, and is touched: where an array begins makes small copies ten times as slow."""
    room = np.frombuffer(mmap(-1, frames.nbytes), frames.dtype).reshape(frames.shape)
    room[...] = frames
    return room


def draw(points: Sequence[Point], path: Path) -> None:
    """Write the picture, as its suffix says (PNG, SVG or PDF)."""
    mpl.use("agg")
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    sides = [point.side for point in points]
    bounds = "bound: memory, each frame copied once by all cores", "bound: compression alone (hdf5plugin), by all cores"
    axes.loglog(sides, [point.copy for point in points], ":", color="tab:gray", label=bounds[0])
    axes.loglog(sides, [point.compression for point in points], "--", color="tab:orange", label=bounds[1])
    ours = "measured: camera to files, two receivers"
    axes.loglog(sides, [point.ours for point in points], "o-", color="tab:blue", label=ours)
    axes.set_xticks(sides, [str(side) for side in sides])
    axes.minorticks_off()
    axes.set_xlabel("side of the square gray16 frame [pixel]")
    axes.set_ylabel("rate [frames/s]")
    axes.grid(visible=True, alpha=0.3)
    axes.legend(title="rate of the whole system, and what bounds it", alignment="left")
    figure.savefig(path, dpi=120)
