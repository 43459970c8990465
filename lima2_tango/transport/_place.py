"""From parts to frames: the one loop over every pixel that crosses ranks. Imported when a run first needs it."""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from lima2_tango.core.frame import BLOCK_BYTES

from ._past import copy_past, fence

LARGE = BLOCK_BYTES
"""Frames from this size on go past the caches, which the others of a block would drive them out of anyway [byte]."""
TILE = 32
"""A module that is turned by a quarter is copied in squares of this side [pixel], so that caches serve."""


def place(
    parts: NDArray[Any],
    which: NDArray[np.int64],
    places: NDArray[np.int64],
    missing: NDArray[np.bool_],
    slots: NDArray[np.int64],
    frames: NDArray[Any],
) -> None:
    """Copy modules into their frames; the pixels of missing ones become zero.

    Args:
        parts: [part, channel, pixel] modules one after the other, as they are read out.
        which: [frame] where each frame to copy lies in `parts` and in `missing`.
        places: [module, column of `core.modules.PLACE`]; it has to lie within the frames.
        missing: [part, module].
        slots: [frame] where each frame lies in `frames`.
        frames: [slot, channel, pixel].
    """
    _place(parts, which, places, missing, slots, frames, frames[0].nbytes >= LARGE)


@njit(nogil=True, cache=True)
def _place(
    parts: NDArray[Any],
    which: NDArray[np.int64],
    places: NDArray[np.int64],
    missing: NDArray[np.bool_],
    slots: NDArray[np.int64],
    frames: NDArray[Any],
    past: bool,
) -> None:
    for n in range(len(slots)):
        for channel in range(parts.shape[1]):
            for m in range(len(places)):
                source, rows, columns = places[m, 0], places[m, 1], places[m, 2]
                base, down, right = places[m, 3], places[m, 4], places[m, 5]
                into, module = frames[slots[n], channel], parts[which[n], channel, source : source + rows * columns]
                if missing[which[n], m]:
                    _clear(into, rows, columns, base, down, right)
                elif right == 1 and past:
                    _copy_past(module, into, rows, columns, base, down)
                elif right == 1:
                    _copy(module, into, rows, columns, base, down)
                elif right == -1:
                    _reverse(module, into, rows, columns, base - columns + 1, down)
                else:
                    _turn(module, into, rows, columns, base, down, right)
    fence()


@njit(nogil=True)
def _copy_past(module: Any, into: Any, rows: int, columns: int, base: int, down: int) -> None:
    size, line, step = module.itemsize, columns * module.itemsize, down * module.itemsize
    source: Any = np.int64(module.ctypes.data)
    target: Any = np.int64(into.ctypes.data) + base * size
    if step == line:  # as wide as the frame
        copy_past(target, source, rows * line)
        return
    for y in range(rows):
        copy_past(target + y * step, source + y * line, line)


# Slices tell the compiler that no index is negative: only then it uses vectors.


@njit(nogil=True)
def _copy(module: Any, into: Any, rows: int, columns: int, base: int, down: int) -> None:
    for y in range(rows):
        row, line = into[base + y * down : base + y * down + columns], module[y * columns : (y + 1) * columns]
        for x in range(columns):
            row[x] = line[x]


@njit(nogil=True)
def _reverse(module: Any, into: Any, rows: int, columns: int, base: int, down: int) -> None:
    for y in range(rows):
        row, line = into[base + y * down : base + y * down + columns], module[y * columns : (y + 1) * columns]
        for x in range(columns):
            row[x] = line[columns - 1 - x]


@njit(nogil=True)
def _turn(module: Any, into: Any, rows: int, columns: int, base: int, down: int, right: int) -> None:
    for top in range(0, rows, TILE):
        for left in range(0, columns, TILE):
            bottom, end = min(top + TILE, rows), min(left + TILE, columns)
            for x in range(left, end):
                for y in range(top, bottom):
                    into[np.uint64(base + y * down + x * right)] = module[np.uint64(y * columns + x)]


@njit(nogil=True)
def _clear(into: Any, rows: int, columns: int, base: int, down: int, right: int) -> None:
    for y in range(rows):
        for x in range(columns):
            into[base + y * down + x * right] = 0


def warm() -> None:
    """Compile for the pixel types that are asked for most."""
    for code in ("u1", "u2", "u4"):
        parts, frames = np.zeros((1, 1, 1), code), np.zeros((1, 1, 1), code)
        places = np.array([[0, 1, 1, 0, 1, 1]], np.int64)
        parts.flags.writeable = False
        zero = np.zeros(1, np.int64)
        place(parts, zero, places, np.zeros((1, 1), np.bool_), zero, frames)
