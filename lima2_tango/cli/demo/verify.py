"""Proof that nothing was lost: every saved frame and every statistic is made again from its index and compared."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401 - its import makes HDF5 know bitshuffle
import numpy as np

from lima2_tango.core.errors import DataLossError

from .acquire import Taken
from .frames import DemoFrames, Image
from .rois import Region


@dataclass(slots=True)
class _Images:
    """Two frames of memory, one pair a thread."""

    saved: Image
    expected: Image


class Verifier:
    """Compares what an acquisition left with the frames it must have been given."""

    def __init__(self, frames: DemoFrames, count: int, taken: Taken, regions: Sequence[Region]) -> None:
        self._frames = frames
        self._count = count
        self._taken = taken
        self._regions = regions
        self._memory = threading.local()

    def run(self, done: Callable[[], object], workers: int) -> None:
        """Check all frames in `workers` threads, `done` after each; raises DataLossError for the first fault."""
        with h5py.File(self._taken.master, "r") as master, ThreadPoolExecutor(workers, "demo-verify") as pool:
            dataset = master[self._taken.dataset]
            if dataset.shape != (self._count, *self._frames.shape):
                raise DataLossError(f"{self._taken.master}: shape {dataset.shape}, {self._count} frames were taken")
            checks = [pool.submit(self._check, dataset, index) for index in range(self._count)]
            try:
                for check in checks:
                    check.result()
                    done()
            finally:
                pool.shutdown(cancel_futures=True)

    def _check(self, dataset: Any, index: int) -> None:
        images = self._images()
        dataset.read_direct(images.saved, np.s_[index])
        self._frames.frame(index, images.expected)
        if not np.array_equal(images.saved, images.expected):
            self._explain(images, index)
        for number, (region, rows) in enumerate(zip(self._regions, self._taken.statistics, strict=True)):
            expected = region.statistics(images.expected)
            if not expected.agrees(rows[index]):
                raise DataLossError(f"frame {index}: region {number} has {rows[index]}, expected {expected}")

    def _images(self) -> _Images:
        if not hasattr(self._memory, "images"):
            self._memory.images = _Images(
                np.empty(self._frames.shape, np.uint16), np.empty(self._frames.shape, np.uint16)
            )
        images: _Images = self._memory.images
        return images

    def _explain(self, images: _Images, index: int) -> None:
        """Raises DataLossError, which says what the frame is where that can be found out."""
        different = int(np.count_nonzero(images.saved != images.expected))
        for other in range(self._count):
            if np.array_equal(images.saved, self._frames.frame(other, images.expected)):
                raise DataLossError(f"{self._taken.master}: at the place of frame {index} is frame {other}")
        raise DataLossError(f"{self._taken.master}: frame {index} differs from its original in {different} pixels")


def saved_frame(taken: Taken, index: int) -> Image:
    """Frame `index` as the master file gives it."""
    with h5py.File(taken.master, "r") as master:
        image: Image = master[taken.dataset][index]
    return image


def folder_bytes(folder: Path, pattern: str) -> tuple[int, int]:
    """How many files of a pattern there are, and their size in bytes."""
    sizes = [path.stat().st_size for path in folder.glob(pattern)]
    return len(sizes), sum(sizes)
