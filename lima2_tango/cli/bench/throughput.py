"""P1, P1b and P10: whole runs, from camera to file, against the time that compressing their frames takes."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, median

import fabio
import h5py
import numpy as np
from numpy.typing import NDArray

from lima2_tango.core import bitshuffle
from lima2_tango.core.errors import ParamError

from .bare import compression_time
from .rig import Json, Rig, Timed, configuration, deviations, folder_in_memory, frames_of, fresh
from .row import Row, Tell

SIDE = 2048
"""Rows and columns of a frame [pixel]."""
REPEATS = 3
STORED_BYTES, SHORT_BYTES = 8 << 30, 2 << 30
"""Pixels of a run with stored frames [byte]."""
MEAN = 1.0
"""Photons per pixel of the Poisson frames."""
OVERHEAD = 0.3
"""What a whole run may take beside its frames [s]."""

Frames = NDArray[np.generic]


def measure_simulator(short: bool, tell: Tell) -> list[Row]:
    """P1: Gaussian `gray8` of the Simulator, two receivers, Legacy, bitshuffle-LZ4, driven by the conductor."""
    nb_frames, prefetch = (200 if short else 1000), 16
    detector: Json = {"nb_prefetch_frames": prefetch}
    with folder_in_memory(2 << 30) as folder, Rig.running(configuration(), folder) as rig:
        generator = rig.client.acquisition.default_params()[1]["det"]["generator"]
        detector["generator"] = {**generator, "pixel_type": "gray8"}
        tell("P1: a run whose files say what the frames are")
        frames = frames_of(rig.acquire(fresh(folder), 2 * prefetch, detector), prefetch)
        runs, bounds, lost = _repeat(rig, folder, nb_frames, detector, frames, _repeats(short), tell)
    goal = 0.9
    rate, bound = nb_frames / median(run.saved for run in runs), nb_frames / median(bounds)
    allowed, whole = median(bounds) / goal + OVERHEAD, median(run.ended for run in runs)
    what = f"{nb_frames} frames of {SIDE} x {SIDE} gray8, Simulator to files"
    detail = _reference(frames)
    return [
        Row("P1", what, rate, bound, "frames/s", rate / bound, goal, lost, len(runs), detail),
        Row("P1", f"{what}, the whole run", whole, allowed, "s", allowed / whole, 1.0, lost, len(runs)),
    ]


def measure_poisson(short: bool, tell: Tell) -> list[Row]:
    """P1b: Poisson `gray16` frames, all different, replayed from a file in memory by the Reader."""
    distinct, nb_frames = (32, 200) if short else (100, 1000)
    frames = np.random.default_rng(1).poisson(MEAN, (distinct, SIDE, SIDE)).astype(np.uint16)
    return [_replayed(frames, nb_frames, f"Poisson {SIDE} x {SIDE} gray16", _repeats(short), tell)]


def measure_stored(frames: Frames, name: str, short: bool, tell: Tell) -> list[Row]:
    """P1b with frames of a real detector."""
    height, width = frames.shape[1:]
    nb_frames = (SHORT_BYTES if short else STORED_BYTES) // frames[0].nbytes
    return [_replayed(frames, nb_frames, f"{name}, {width} x {height} {frames.dtype}", _repeats(short), tell)]


def read(paths: Sequence[Path]) -> Frames:
    """Frames of files that fabio reads [frame, row, column]; raises ParamError for those that it does not."""
    try:
        images = [image.data for path in paths for image in fabio.open(str(path)).frames()]
        return np.stack(images)
    except (OSError, ValueError) as error:  # ValueError: of several shapes
        raise ParamError(
            "--frames", str(paths[0]), f"these files cannot be read as frames of one shape: {error}"
        ) from error


def measure_scaling(short: bool, tell: Tell) -> list[Row]:
    """P10: two receivers with one worker each, against one receiver with one worker."""
    distinct, nb_frames = (32, 64) if short else (64, 256)
    frames = np.random.default_rng(2).poisson(MEAN, (distinct, SIDE, SIDE)).astype(np.uint16)
    rates: dict[int, float] = {}
    lost = 0
    with folder_in_memory(4 * frames.nbytes) as folder:
        detector = _stored(frames, folder)
        for receivers in (1, 2):
            config = configuration("Reader", receivers, workers=1)
            with Rig.running(config, folder / str(receivers)) as rig:
                rig.acquire(fresh(folder), distinct, detector)
                runs, _, missed = _repeat(rig, folder, nb_frames, detector, frames, _repeats(short), tell)
            rates[receivers] = nb_frames / median(run.saved for run in runs)
            lost += missed
    what = "two receivers instead of one, one worker thread each, Poisson gray16 to files"
    return [Row("P10", what, rates[2], rates[1], "frames/s", rates[2] / rates[1], 1.7, lost, len(runs))]


def _replayed(frames: Frames, nb_frames: int, name: str, repeats: int, tell: Tell) -> Row:
    with folder_in_memory(4 * frames.nbytes) as folder:
        detector = _stored(frames, folder)
        with Rig.running(configuration("Reader"), folder) as rig:
            tell(f"P1b: {name}, a first run")
            rig.acquire(fresh(folder), len(frames), detector)
            runs, bounds, lost = _repeat(rig, folder, nb_frames, detector, frames, repeats, tell)
    rate, bound = nb_frames / median(run.saved for run in runs), nb_frames / median(bounds)
    what = f"{nb_frames} frames, {len(frames)} different, {name}, Reader to files"
    return Row("P1b", what, rate, bound, "frames/s", rate / bound, 0.85, lost, len(runs), _reference(frames))


def _repeat(
    rig: Rig, folder: Path, nb_frames: int, detector: Json, frames: Frames, repeats: int, tell: Tell
) -> tuple[list[Timed], list[float], int]:
    """Runs, the bound measured before and after each [s], and the frames that were lost in any of them."""
    runs: list[Timed] = []
    bounds: list[float] = []
    lost = 0
    for number in range(repeats):
        tell(f"{rig.system.config.camera}, {len(rig.system.receivers)} receivers: run {number + 1} of {repeats}")
        target = fresh(folder)
        before = compression_time(frames)
        runs.append(rig.acquire(target, nb_frames, detector))
        bounds.append(nb_frames * mean([before, compression_time(frames)]) / _cores())
        lost += deviations(runs[-1].master, nb_frames, frames)
        shutil.rmtree(target)
    return runs, bounds, lost


def _reference(frames: Frames) -> str:
    bitshuffle.ready()
    own = _cores() / compression_time(frames, bitshuffle.compress)
    return (
        f"reference: bitshuffle-LZ4 of these frames alone by hdf5plugin's library, 1 thread, times {_cores()} cores; "
        f"by the kernel that the run used: {own:.0f} frames/s"
    )


def _repeats(short: bool) -> int:
    return 1 if short else REPEATS


def _stored(frames: Frames, folder: Path) -> Json:
    """Write frames for the Reader; returns what its `$.det` must say to replay them for ever."""
    path = folder / "frames.h5"
    with h5py.File(path, "w") as file:
        file["data"] = frames
    return {"base_path": str(folder), "filename_format": path.name, "dataset_path": "data", "loop": True} | {
        "nb_prefetch_frames": len(frames)
    }


def _cores() -> int:
    return len(os.sched_getaffinity(0))
