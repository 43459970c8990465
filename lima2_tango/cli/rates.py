"""What this machine does, measured in seconds: the rates that `lima2 plan` counts with. Or read from a file."""

import json
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import MISSING, asdict, fields
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lima2_tango.control.scaling import Rates
from lima2_tango.core import bitshuffle
from lima2_tango.core.errors import ParamError

STEPS = ("frames to measure with", "compression", "compression, all cores", "copies", "copies, all cores", "files")
"""What is measured, in order; then the disk."""
SIDE, DISTINCT = 2048, 4
"""Rows and columns [pixel] of so many frames."""
LEAST = 0.3
"""Each rate is an average over at least so long [s]."""
COPIED = 64 << 20
"""More than the caches hold [byte]."""
FRAMES_BYTES = 128 << 20
"""So are the frames that are compressed: in a run they come from memory, too [byte]."""
FILE_FRAMES = 16
"""Chunks of a file that is written to measure that."""
FILE_BYTES, BLOCK = 256 << 20, 4 << 20
"""Written to measure a disk, in blocks [byte]."""
DISK_LIMIT = 2.0
"""A slow disk is written to no longer than this [s]."""
NAMES = tuple(field.name for field in fields(Rates))
REQUIRED = {field.name for field in fields(Rates) if field.default is MISSING}
POSITIVE = REQUIRED - {"disk"} | {"frame"}

Tell = Callable[[str], None]
Job = Callable[[], int]
"""Does a piece of work once, and returns its bytes."""
Frames = NDArray[np.generic]


def measure(frames: Frames, folder: Path | None, tell: Tell) -> Rates:
    """Rates with these frames, [frame, row, column] of one type; the disk's is that of `folder`, 0 without one.

    Raises OSError where a file cannot be written.
    """
    bitshuffle.ready()
    frames = np.concatenate([frames] * max(1, FRAMES_BYTES // frames.nbytes))
    cores = len(os.sched_getaffinity(0))
    tell(STEPS[1])
    alone, chunk = _speed([_compressing(frames)]), _chunk_bytes(frames[:DISTINCT])
    tell(STEPS[2])
    together = _speed([_compressing(frames) for _ in range(cores)]) / cores / alone
    tell(STEPS[3])
    copy = _speed([_copying()])
    tell(STEPS[4])
    copy_all = _speed([_copying() for _ in range(cores)]) if cores > 1 else copy
    tell(STEPS[5])
    write = _write_speed(chunk)
    disk = 0.0
    if folder is not None:
        tell(f"the disk of {folder}")
        disk = _disk_speed(folder)
    ratio = chunk / frames[0].nbytes
    return Rates(alone, ratio, write, copy, copy_all, min(1.0, together), cores, disk)


def poisson(mean: float, dtype: np.dtype) -> Frames:
    """Frames to measure with: photons at random, `mean` to a pixel."""
    return np.random.default_rng(1).poisson(mean, (DISTINCT, SIDE, SIDE)).astype(dtype)


def read_rates(path: Path) -> Rates:
    """Rates from a file that `lima2 plan --json` or `lima2 bench --json` wrote; raises ParamError for any other."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ParamError("--rates", str(path), f"it cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ParamError("--rates", str(path), f"this is not JSON: {error}") from error
    found = _find(document)
    if found is None:
        remedy = "no rates are in it: take what `lima2 plan --json` or `lima2 bench Plan --json FILE` writes"
        raise ParamError("--rates", str(path), remedy)
    for name, value in found.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
            raise ParamError(f"--rates {name}", value, "a rate is a number, not below 0")
        if name in POSITIVE and value == 0:
            raise ParamError(f"--rates {name}", value, "no machine is that slow: measure again")
    return Rates(**{**found, "cores": int(found["cores"])})


def as_json(rates: Rates) -> dict[str, float]:
    """As `read_rates` finds it."""
    return asdict(rates)


def _find(document: Any) -> dict[str, Any] | None:
    """The rates of a plan, or of a row of the benchmark."""
    if not isinstance(document, dict):
        return None
    rows = document.get("rows")
    measured = [row.get("figures") for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    for one in (document.get("rates"), *measured):
        if isinstance(one, dict) and set(one) >= REQUIRED:
            return {name: one[name] for name in NAMES if name in one}
    return None


def _speed(jobs: list[Job]) -> float:
    """Bytes a second of all jobs together, each in a thread of its own, again and again."""

    def repeat(job: Job) -> float:
        done, begin = 0, time.monotonic()
        while (spent := time.monotonic() - begin) < LEAST:
            done += job()
        return done / spent

    with ThreadPoolExecutor(len(jobs)) as threads:
        return sum(threads.map(repeat, jobs))


def _compressing(frames: Frames) -> Job:
    room = np.empty(bitshuffle.compress_bound(frames[0].nbytes, frames.itemsize), np.uint8)
    room[:] = 0  # touched before it is timed

    turn = cycle(frames)

    def one_frame() -> int:
        frame = next(turn)
        bitshuffle.compress(frame, room)
        return int(frame.nbytes)

    return one_frame


def _chunk_bytes(frames: Frames) -> int:
    """Of a compressed frame, on average."""
    room = np.empty(bitshuffle.compress_bound(frames[0].nbytes, frames.itemsize), np.uint8)
    return sum(bitshuffle.compress(frame, room) for frame in frames) // len(frames)


def _copying() -> Job:
    source, target = np.ones(COPIED, np.uint8), np.ones(COPIED, np.uint8)  # touched before it is timed

    def once() -> int:
        np.copyto(target, source)
        return COPIED

    return once


def _write_speed(chunk: int) -> float:
    """Chunks of so many bytes into a new file in memory: what the writer's thread pays, whatever the disk does."""
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    data = bytes(max(1, chunk))
    done, spent = 0, 0.0
    while spent < LEAST:
        with tempfile.TemporaryFile(dir=memory, prefix="lima2_plan_", buffering=0) as file:
            begin = time.monotonic()
            for _ in range(FILE_FRAMES):
                done += file.write(data)
            spent += time.monotonic() - begin
    return done / spent


def _disk_speed(folder: Path) -> float:
    """Of a new file, until the disk says that it has it."""
    data = np.random.default_rng(1).bytes(BLOCK)  # no disk gains by squeezing it
    done, begin = 0, time.monotonic()
    with tempfile.TemporaryFile(dir=folder, prefix="lima2_plan_", buffering=0) as file:
        while done < FILE_BYTES and time.monotonic() - begin < DISK_LIMIT:
            done += file.write(data)
        os.fsync(file.fileno())
        return done / (time.monotonic() - begin)
