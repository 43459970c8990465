"""P3 and the first half of P4: frames in memory, through the workers and the writer of a pipeline, into HDF5 files.

Both sides of a ratio run on the same cores, in threads of the same priority: a machine that is not idle slows both.
"""

import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
from numpy.typing import NDArray

from lima2_tango import __version__
from lima2_tango.core import bitshuffle
from lima2_tango.core.errors import DataLossError, Lima2Error
from lima2_tango.core.frame import Block, FrameSpec, Lease
from lima2_tango.core.storage import Compression, SavingParams
from lima2_tango.core.units import bytes_text
from lima2_tango.processing.executor import OrderedStage, Workers, lower_priority
from lima2_tango.saving.layout import SeriesMetadata, data_path
from lima2_tango.saving.writer import SeriesWriter

from .bare import by_library
from .rig import folder_in_memory, pinned
from .row import Row, Tell

TO_BARE_THREADS, TO_FILTER, TO_BARE_WRITE = 0.9, 2.2, 0.8
"""Goals: our rate divided by the reference's."""
WORKERS = 2
SIDE = 2048
"""Rows and columns of a frame, which then has 8 MiB [pixel]."""
MEAN = 1.0
"""Mean of a pixel [photon]."""
DRAWS = 1 << 16
"""A pixel is one of so many Poisson counts at random: to draw each from the distribution takes too long."""
CYCLE = 24
"""The pixels of a frame come again in the frame this much later: caches hold fewer [frame]."""
DEPTH = 16
"""Blocks in flight at most."""
END = 120.0
"""What takes longer hangs [s]."""
METADATA = SeriesMetadata(
    plugin="bench",
    model="",
    serial="",
    pixel_size=(75e-6, 75e-6),
    expo_time_us=1000,
    latency_time_us=0,
    acquisition_json="{}",
    processing_json="{}",
    rank=0,
    version=__version__,
)


class Frames:
    """Poisson `gray16` frames, each different from all others, in the memory of `cycle` frames and a few rows."""

    def __init__(self, count: int, side: int = SIDE, cycle: int = CYCLE) -> None:
        self.spec = FrameSpec(1, side, side, np.dtype(np.uint16))
        self._count, self._cycle = count, cycle
        random = np.random.default_rng(0)
        counts = random.poisson(MEAN, DRAWS).astype(np.uint16)
        self._rows: NDArray[np.uint16] = counts[
            random.integers(0, DRAWS, (cycle * side + count // cycle, side), np.uint16)
        ]

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> NDArray[np.uint16]:
        """Frame `number`: [row, column]. Each time round the frames begin a row later."""
        if not 0 <= number < self._count:
            raise IndexError(f"there are {self._count} frames, not one with number {number}")
        again, place = divmod(number, self._cycle)
        first = place * self.spec.height + again
        return self._rows[first : first + self.spec.height]

    @property
    def nbytes(self) -> int:
        """Bytes of all frames."""
        return self._count * self.spec.nbytes

    def block(self, number: int) -> Block:
        """Frame `number` as a camera delivers it."""
        index, begin = np.array([number]), np.array([number * 1e-3])
        return Block(self[number][np.newaxis, np.newaxis], index, number, begin, Lease())


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one side needed for all frames."""

    seconds: float
    lost: int = 0
    file_bytes: int = 0


Contender = Callable[[Path], Outcome]
"""Takes an empty folder."""


def measure_compressed(short: bool, tell: Tell) -> list[Row]:
    """P3: 144 frames (48 in short form) through bitshuffle-LZ4, three times (once)."""
    return compressed(Frames(48 if short else 144), 1 if short else 3, tell)


def measure_uncompressed(short: bool, tell: Tell) -> list[Row]:
    """P4, large frames: 192 frames (48 in short form) as they are, three times (once)."""
    return uncompressed(Frames(48 if short else 192), 1 if short else 3, tell)


def compressed(frames: Frames, runs: int, tell: Tell) -> list[Row]:
    """Two workers against two threads that only compress, and against h5py with its filter in one thread."""
    sides: Mapping[str, Contender] = {
        "ours": lambda folder: verified(frames, folder, save(frames, folder, Compression.BSHUF_LZ4, WORKERS)),
        "bare": lambda folder: Outcome(compress_bare(frames, WORKERS)),
        "filter": lambda folder: Outcome(write_filtered(frames, folder)),
    }
    with pinned(WORKERS):
        outcomes = _interleaved(sides, frames, runs, tell)
    ours, bare, filtered = outcomes["ours"], outcomes["bare"], outcomes["filter"]
    what = f"bitshuffle-LZ4 to HDF5, {WORKERS} workers; reference:"
    return [
        _row("P3", f"{what} {WORKERS} threads that only compress", TO_BARE_THREADS, frames, ours, bare),
        _row("P3", f"{what} h5py's filter, 1 thread", TO_FILTER, frames, ours, filtered),
    ]


def uncompressed(frames: Frames, runs: int, tell: Tell) -> list[Row]:
    """One worker on one core against `os.write` on the same core."""
    sides: Mapping[str, Contender] = {
        "ours": lambda folder: verified(frames, folder, save(frames, folder, Compression.NONE, 1)),
        "bare": lambda folder: Outcome(write_bare(frames, folder)),
    }
    with pinned(1):
        outcomes = _interleaved(sides, frames, runs, tell)
    what = f"blocks of {bytes_text(frames.spec.nbytes)} to HDF5, 1 core; reference: os.write"
    return [_row("P4", what, TO_BARE_WRITE, frames, outcomes["ours"], outcomes["bare"])]


def save(frames: Frames, folder: Path, compression: Compression, workers: int) -> float:
    """Seconds from the first block to the last file's final name, the way pipelines save. Raises Lima2Error."""
    params = SavingParams(base_path=str(folder), compression=compression, include_frame_idx=True)
    writer = SeriesWriter(params, frames.spec, "$.saving", 0, METADATA, len(frames), exact=True)
    threads = Workers(workers)
    stage = OrderedStage(threads, DEPTH, writer.encode, writer.append, writer.discard)
    try:
        begin = time.perf_counter()
        for number in range(len(frames)):
            stage.put(frames.block(number))
        stage.drain()
        writer.close()
        return time.perf_counter() - begin
    finally:
        if stage.settle():  # else a worker hangs, and waiting for it would hide the error that says so
            threads.close()
            writer.close()


def compress_bare(frames: Frames, threads: int) -> float:
    """Seconds that threads take to compress all frames, each into the same memory over and over."""
    turns = iter(range(len(frames)))
    bound = bitshuffle.compress_bound(frames.spec.nbytes, frames.spec.dtype.itemsize)
    rooms = [np.ones(bound, np.uint8) for _ in range(threads)]  # zeros would leave the first touch to the threads

    def work() -> None:
        room = rooms.pop()
        for number in turns:
            by_library(frames[number], room)

    return _timed(work, threads)


def write_filtered(frames: Frames, folder: Path) -> float:
    """Seconds that h5py takes in one thread to write all frames through hdf5plugin's filter into one file."""
    shape = (len(frames), frames.spec.height, frames.spec.width)

    def work() -> None:
        with h5py.File(folder / "filtered.h5", "w") as file:
            how = hdf5plugin.Bitshuffle(cname="lz4")
            images = file.create_dataset("data", shape, frames.spec.dtype, chunks=(1, *shape[1:]), compression=how)
            for number in range(len(frames)):
                images[number] = frames[number]

    return _timed(work, 1)


def write_bare(frames: Frames, folder: Path) -> float:
    """Seconds that `os.write` takes in one thread for all frames, into one new file."""

    def work() -> None:
        descriptor = os.open(folder / "bare", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        try:
            for number in range(len(frames)):
                if (count := os.write(descriptor, frames[number].data)) != frames.spec.nbytes:
                    raise Lima2Error(f"{folder}: of frame {number} only {count} bytes were written: the disk is full")
        finally:
            os.close(descriptor)

    return _timed(work, 1)


def verified(frames: Frames, folder: Path, seconds: float) -> Outcome:
    """What `save` left in the folder, read by h5py; raises DataLossError where a frame is not the one it is said to be.

    Lost are frames that are missing, and rows that are too many or hold another frame than their place says.
    """
    rows = in_place = 0
    paths = sorted(folder.glob("*.h5"))
    for path in paths:
        with h5py.File(path) as file:
            images = file[data_path(SavingParams())]
            for row, number in enumerate(images.parent["frame_idx"][:].tolist()):
                _compare(path, images, row, frames, number)
                in_place += number == rows + row
            rows += len(images)
    lost = max(rows, len(frames)) - in_place
    return Outcome(seconds, lost, sum(path.stat().st_size for path in paths))


def _compare(path: Path, images: Any, row: int, frames: Frames, number: int) -> None:
    if not (number < len(frames) and np.array_equal(images[row], frames[number])):
        raise DataLossError(f"{path}, row {row}: what was saved as frame {number} is not that frame", frame_idx=number)


def _timed(work: Callable[[], None], threads: int) -> float:
    """Seconds that so many threads take, all at the same `work`."""
    pool = ThreadPoolExecutor(threads, "lima2-bench", lower_priority)
    try:
        begin = time.perf_counter()
        for done in [pool.submit(work) for _ in range(threads)]:
            done.result(END)
        return time.perf_counter() - begin
    except TimeoutError as error:
        raise Lima2Error(f"a reference was not done within {END:g} s: the machine is too busy to measure") from error
    finally:
        pool.shutdown(wait=False)


def _interleaved(sides: Mapping[str, Contender], frames: Frames, runs: int, tell: Tell) -> Mapping[str, list[Outcome]]:
    """Run each side in turn, and all of that `runs` times and once before, each time in a new folder in memory.

    The run before is not measured: it may be the first to use the libraries, and the machine the memory.
    """
    outcomes: dict[str, list[Outcome]] = {name: [] for name in sides}
    for run in range(runs + 1):
        for name, run_side in sides.items():
            tell(f"{len(frames)} frames of {bytes_text(frames.spec.nbytes)}, {name}, run {run} of {runs}")
            with folder_in_memory(int(1.1 * frames.nbytes)) as folder:
                outcomes[name].append(run_side(folder))
    return outcomes


def _row(
    name: str, what: str, goal: float, frames: Frames, ours: Sequence[Outcome], reference: Sequence[Outcome]
) -> Row:
    """The medians of both sides, in MB/s of pixels; the first outcomes are of the run that is not measured."""
    own, other = ([each.seconds for each in side[1:]] for side in (ours, reference))
    rate, reference_rate = (frames.nbytes / 1e6 / statistics.median(seconds) for seconds in (own, other))
    ratios = ", ".join(f"{theirs / mine:.2f}" for mine, theirs in zip(own, other, strict=True))
    detail = (
        f"{len(frames)} Poisson frames of mean {MEAN:g}, {bytes_text(frames.spec.nbytes)} each, "
        f"{frames.nbytes / ours[0].file_bytes:.2f} times as large as the files; ratios of the runs: {ratios}"
    )
    lost = sum(each.lost for each in ours)
    return Row(name, what, rate, reference_rate, "MB/s", rate / reference_rate, goal, lost, len(own), detail)
