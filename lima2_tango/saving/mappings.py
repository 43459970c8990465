"""How the rows of data files become frames of one virtual dataset: few mappings, and fast ones.

HDF5 copies whole rows only where what it reads has the same shape in the file and in the reader's memory; else it goes
pixel by pixel, some 80 ns each. Frames of two receivers lie alternately in memory and one behind the other in their
files. A single frame always has the same shape in both. So a mapping takes not every frame of a file but every S-th:
whoever reads up to S times as many frames as there are receivers meets each mapping at most once.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MAPPINGS = 4096
"""Mappings aimed at; there are more where there are more files. A reader pays for each when it opens the dataset (5 to
30 us) and with HDF5 before 2.0 at every read (some 0.5 us)."""
UNEVEN = 64
"""Stretches at most in a mapping that HDF5 must store as a list; reading it takes a time that grows with its square."""


@dataclass(frozen=True, slots=True)
class Stretches:
    """Rows of a file whose frames follow one another, stretch after stretch."""

    row: NDArray[np.int64]
    """[stretch] its first row."""
    frame: NDArray[np.int64]
    """[stretch] its first frame, a global index."""
    length: NDArray[np.int64]
    """[stretch] frames."""

    def __len__(self) -> int:
        return len(self.row)

    def __getitem__(self, part: slice | NDArray[np.intp]) -> "Stretches":
        return Stretches(self.row[part], self.frame[part], self.length[part])

    @property
    def even(self) -> bool:
        """True when first, step, length and count say all."""
        return all(_constant(values) for values in (np.diff(self.row), np.diff(self.frame), self.length))

    def ascending(self) -> list["Stretches"]:
        """The same in as few parts as have ascending frames: HDF5 selects in that order only."""
        if np.all(np.diff(self.frame) > 0):
            return [self]
        ends: list[int] = []  # negated last frame of each part; first fit keeps them ascending
        part = np.empty(len(self), np.intp)
        for position, frame in enumerate(self.frame.tolist()):
            part[position] = fit = bisect_right(ends, -frame)
            ends[fit : fit + 1] = [-frame]
        order = np.argsort(part, kind="stable")
        return [self[members] for members in np.split(order, np.flatnonzero(np.diff(part[order])) + 1)]


def stretches_of(index: NDArray[np.int64]) -> Stretches:
    """The stretches of a file with one row or more, whose rows have these global indices."""
    begins = np.concatenate(([0], np.flatnonzero(np.diff(index) != 1) + 1))
    return Stretches(begins, index[begins], np.diff(np.append(begins, len(index))))


def mappings(files: Sequence[NDArray[np.int64]]) -> list[list[Stretches]]:
    """[file][mapping] for files whose rows have these global indices; none of them may be empty."""
    stretches = [stretches_of(index) for index in files]
    depth = max(1, -(-sum(map(len, stretches)) // MAPPINGS))
    return [[mapping for part in one.ascending() for mapping in _dealt(part, depth)] for one in stretches]


def _dealt(stretches: Stretches, depth: int) -> list[Stretches]:
    """The stretches dealt in turn to mappings of `depth` or fewer."""
    hands = -(-len(stretches) // (depth if stretches.even else min(depth, UNEVEN)))
    return [stretches[hand::hands] for hand in range(hands)]


def _constant(values: NDArray[np.int64]) -> bool:
    return bool(np.all(values == values[:1]))
