"""Compile the kernels, or load them from numba's cache, before the first frame needs them."""

import time
from collections.abc import Iterable

import numpy as np

from lima2_tango.core.frame import Block, FrameSpec, Lease
from lima2_tango.core.pool import Pool
from lima2_tango.core.roi import Direction, PixelSize, Rectangle
from lima2_tango.processing.node import Node
from lima2_tango.processing.nodes.accumulation import Accumulator
from lima2_tango.processing.nodes.binning import Binning
from lima2_tango.processing.nodes.correction import Correction
from lima2_tango.processing.nodes.profiles import RoiProfiles
from lima2_tango.processing.nodes.protection import CountRateProtection
from lima2_tango.processing.nodes.statistics import RoiStatistics

COMMON = ("u2", "f4", "u4", "u1", "i4")
"""Pixel types of detectors and of corrected frames, the most frequent first."""
SIZE = 4


def warm(dtypes: Iterable[str] = COMMON, budget: float = 60.0) -> list[str]:
    """Run every kernel once on a tiny frame of each pixel type; returns the types that are ready.

    After `budget` seconds no further type is begun: the rest compile when they are first used.
    """
    deadline = time.monotonic() + budget
    ready: list[str] = []
    for name in dtypes:
        if time.monotonic() > deadline:
            break
        warm_type(np.dtype(name))
        ready.append(name)
    return ready


def warm_type(dtype: np.dtype) -> None:
    """Make every kernel ready for frames of one pixel type; Prepare calls it with its own."""
    spec = FrameSpec(1, SIZE, SIZE, dtype)
    block = Block(np.ones((1, *spec.shape), dtype), np.zeros(1, np.int64), 0, np.zeros(1), Lease())
    pool = Pool(1 << 20)
    for node in _nodes():
        node.process(block, pool).lease.release()
    accumulator = Accumulator(2, spec)
    list(accumulator.add(block, pool))
    accumulator.close()
    whole = Rectangle(dimensions=PixelSize(x=SIZE, y=SIZE))
    RoiStatistics([whole], [], spec).rows(block, 0)
    RoiProfiles([whole], [Direction.HORIZONTAL], spec).rows(block, 0)
    CountRateProtection(1.0, 1, [], False, spec).check(block)


def _nodes() -> list[Node]:
    image, mask = np.ones((SIZE, SIZE)), np.ones((SIZE, SIZE), np.bool_)
    return [
        Binning(2, 2),
        Correction(mask=mask),
        Correction(background=image),
        Correction(background=image, flatfield=image),
    ]
