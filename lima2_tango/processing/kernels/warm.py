"""Compile the kernels, or load them from numba's cache, before the first frame needs them."""

import time
from collections.abc import Callable, Iterable
from functools import cache

import numpy as np

from lima2_tango.core.frame import Block, FrameSpec, Lease
from lima2_tango.core.pool import Pool
from lima2_tango.core.roi import Direction, PixelSize, Rectangle
from lima2_tango.core.sparse import SparseSpec
from lima2_tango.processing.matrix import Matrix
from lima2_tango.processing.nodes.accumulation import Accumulator
from lima2_tango.processing.nodes.binning import Binning
from lima2_tango.processing.nodes.clipping import Background, Clipping, sought_of
from lima2_tango.processing.nodes.correction import Correction
from lima2_tango.processing.nodes.integration import Dummy, ErrorModel, Integration
from lima2_tango.processing.nodes.peaks import PeakPicker, Picking
from lima2_tango.processing.nodes.profiles import RoiProfiles
from lima2_tango.processing.nodes.protection import CountRateProtection
from lima2_tango.processing.nodes.sparse import Sparsification
from lima2_tango.processing.nodes.statistics import RoiStatistics
from lima2_tango.processing.products import PixelTables
from lima2_tango.processing.sums import Pace, RunningSums

COMMON = ("u2", "u1", "f4", "u4", "i4")
"""Pixel types of detectors and of corrected frames, the most frequent first."""
SIZE = 4
WHOLE = Rectangle(dimensions=PixelSize(x=SIZE, y=SIZE))


def warm(dtypes: Iterable[str] = COMMON, budget: float = 60.0) -> list[str]:
    """Run every kernel once on a tiny frame of each pixel type; returns the types that are ready.

    Those of diffraction come after those that every pipeline has, and for frames of counts only. After `budget`
    seconds nothing further is begun: the rest compile when they are first used.
    """
    deadline, names = time.monotonic() + budget, list(dtypes)
    ready: list[str] = []
    for name in names:
        if time.monotonic() > deadline:
            return ready
        for kind in KINDS:
            ready_kernels(kind, np.dtype(name))
        ready.append(name)
    for name in (name for name in names if np.dtype(name).kind in "iu"):
        for kind in RINGS:
            if time.monotonic() > deadline:
                return ready
            ready_kernels(kind, np.dtype(name))
    return ready


@cache
def ready_kernels(kind: str, dtype: np.dtype) -> None:
    """Make the kernels of one kind of node (a key of `KINDS`, `RINGS`) ready for a pixel type; free after the first."""
    spec = FrameSpec(1, SIZE, SIZE, dtype)
    memory = Lease(buffer=np.zeros(spec.nbytes, np.uint8))  # says that a block is one frame long
    (KINDS | RINGS)[kind](spec, Block(np.ones((1, *spec.shape), dtype), np.zeros(1, np.int64), 0, np.zeros(1), memory))


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


def _integration(spec: FrameSpec, block: Block) -> None:
    tables = PixelTables(np.ones(SIZE * SIZE))
    for share in (1.0, 0.5):
        for model in (ErrorModel.NO_VAR, ErrorModel.POISSON, ErrorModel.AZIMUTHAL):
            Integration(_rings(share), spec, tables, model).process(block, Pool(1 << 20)).lease.release()
    Integration(_rings(), spec, tables, ErrorModel.POISSON, Dummy(0.0)).process(block, Pool(1 << 20)).lease.release()


def _sparsification(spec: FrameSpec, block: Block) -> None:
    tables, matrix = PixelTables(np.ones(SIZE * SIZE)), _rings()
    radius = np.repeat(np.arange(SIZE, dtype=np.float32), SIZE).reshape(SIZE, SIZE)
    layout = SparseSpec(SIZE, SIZE, np.arange(SIZE, dtype=np.float32), radius, None, np.nan, 4.0)
    sought = sought_of(None, spec.dtype)
    for model in (ErrorModel.POISSON, ErrorModel.AZIMUTHAL):
        background = Background(matrix, spec, tables, Clipping(error_model=model))
        node = Sparsification(background, PeakPicker(layout, tables, Picking(), sought), layout, tables, spec)
        node.process(block, Pool(1 << 20)).lease.release()
    RunningSums(spec, tables, sought, Pace(1)).ready(layout.packed)


def _rings(share: float = 1.0) -> Matrix:
    """Each row is a ring, to which a pixel gives this much of itself."""
    size = SIZE * SIZE
    bounds = np.arange(0, size + 1, SIZE, dtype=np.int64)
    return Matrix(np.full(size, share, np.float32), np.arange(size), bounds, (SIZE, SIZE))


RINGS: dict[str, Callable[[FrameSpec, Block], None]] = {
    "integration": _integration,
    "sparsification": _sparsification,
}
"""Kernels of diffraction, which take a while to compile."""
