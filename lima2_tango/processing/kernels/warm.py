"""Compile the kernels, or load them from numba's cache, before the first frame needs them."""

import time
from collections.abc import Callable, Iterable
from functools import cache

import numpy as np

from lima2_tango.core.frame import Block, FrameSpec, Lease
from lima2_tango.core.pool import Pool
from lima2_tango.core.roi import Direction, PixelSize, Rectangle
from lima2_tango.processing.nodes.accumulation import Accumulator
from lima2_tango.processing.nodes.binning import Binning
from lima2_tango.processing.nodes.correction import Correction
from lima2_tango.processing.nodes.profiles import RoiProfiles
from lima2_tango.processing.nodes.protection import CountRateProtection
from lima2_tango.processing.nodes.statistics import RoiStatistics

COMMON = ("u2", "u1", "f4", "u4", "i4")
"""Pixel types of detectors and of corrected frames, the most frequent first."""
SIZE = 4
WHOLE = Rectangle(dimensions=PixelSize(x=SIZE, y=SIZE))


def warm(dtypes: Iterable[str] = COMMON, budget: float = 60.0) -> list[str]:
    """Run every kernel once on a tiny frame of each pixel type; returns the types that are ready.

    After `budget` seconds no further type is begun: the rest compile when they are first used.
    """
    deadline = time.monotonic() + budget
    ready: list[str] = []
    for name in dtypes:
        if time.monotonic() > deadline:
            break
        for kind in KINDS:
            ready_kernels(kind, np.dtype(name))
        ready.append(name)
    return ready


@cache
def ready_kernels(kind: str, dtype: np.dtype) -> None:
    """Make the kernels of one kind of node (a key of `KINDS`) ready for a pixel type; free after the first time."""
    spec = FrameSpec(1, SIZE, SIZE, dtype)
    memory = Lease(buffer=np.zeros(spec.nbytes, np.uint8))  # says that a block is one frame long
    KINDS[kind](spec, Block(np.ones((1, *spec.shape), dtype), np.zeros(1, np.int64), 0, np.zeros(1), memory))


def _binning(spec: FrameSpec, block: Block) -> None:
    Binning(2, 2).process(block, Pool(1 << 20)).lease.release()


def _correction(spec: FrameSpec, block: Block) -> None:
    image, mask, pool = np.ones((SIZE, SIZE)), np.ones((SIZE, SIZE), np.bool_), Pool(1 << 20)
    for node in (Correction(mask=mask), Correction(background=image), Correction(background=image, flatfield=image)):
        node.process(block, pool).lease.release()


def _accumulation(spec: FrameSpec, block: Block) -> None:
    accumulator = Accumulator(2, spec)
    list(accumulator.add(block, Pool(1 << 20)))
    accumulator.close()


def _statistics(spec: FrameSpec, block: Block) -> None:
    RoiStatistics([WHOLE], [], spec).rows(block, 0)


def _profiles(spec: FrameSpec, block: Block) -> None:
    RoiProfiles([WHOLE], [Direction.HORIZONTAL], spec).rows(block, 0)


def _protection(spec: FrameSpec, block: Block) -> None:
    CountRateProtection(1.0, 1, [], False, spec).check(block)


KINDS: dict[str, Callable[[FrameSpec, Block], None]] = {
    "statistics": _statistics,
    "profiles": _profiles,
    "correction": _correction,
    "accumulation": _accumulation,
    "protection": _protection,
    "binning": _binning,
}
