"""Sums of consecutive frames."""

from collections.abc import Iterator

import numpy as np

from lima2_tango.core.frame import Block, FrameSpec
from lima2_tango.core.pool import Pool
from lima2_tango.processing.kernels.accumulation import add_integers, add_reals
from lima2_tango.processing.kernels.layout import flat

from .derive import pixels

_TYPES = {"u": "u4", "i": "i4"}


class Accumulator:
    """Sums every `depth` frames into one of 32 bits; integers that reach a limit of their type count on from there.

    Floats keep their type. It remembers the sum it is at: blocks come in order, from one thread at a time.
    """

    def __init__(self, depth: int, spec: FrameSpec) -> None:
        self.depth = depth
        self._spec = FrameSpec(*spec.shape, np.dtype(_TYPES.get(spec.dtype.kind, spec.dtype)))
        self._sum: Block | None = None
        self._completed = 0
        self.pending = 0
        """Frames in the sum that is not complete."""

    @property
    def output_spec(self) -> FrameSpec:
        return self._spec

    def add(self, block: Block, pool: Pool) -> Iterator[Block]:
        """Take all frames of `block`, which stays the caller's; yields each sum they complete, with its lease.

        A sum's `index` and `local` count sums from 0, its `time` is that of its first frame. It is valid where all
        its frames are, and lacks the modules that any of them lacks. The iterator must be exhausted.
        """
        first = 0
        while first < len(block):
            count = min(len(block) - first, self.depth - self.pending)
            total = self._begin(block, first, pool) if self._sum is None else self._sum
            self._add(total, block, first, count)
            first += count
            self.pending += count
            if self.pending == self.depth:
                self._sum, self.pending, self._completed = None, 0, self._completed + 1
                yield total

    def close(self) -> None:
        """Give up the sum that is not complete; safe twice."""
        if self._sum is not None:
            self._sum.lease.release()
        self._sum, self.pending = None, 0

    def _begin(self, block: Block, first: int, pool: Pool) -> Block:
        lease = pool.take(self._spec.nbytes)
        data = pixels(lease, 1, self._spec)
        data.fill(0)
        index = np.array([self._completed], np.int64)
        self._sum = Block(data, index, self._completed, block.time[first : first + 1].copy(), lease)
        return self._sum

    def _add(self, total: Block, block: Block, first: int, count: int) -> None:
        frames, sums = flat(block.data[first : first + count]), total.data.reshape(-1)
        if self._spec.dtype.kind == "f":
            add_reals(frames, sums)
        else:
            limits = np.iinfo(self._spec.dtype)
            add_integers(frames, limits.min, limits.max, sums)
        if block.valid is not None and not block.valid[first : first + count].all():
            total.valid = np.array([False])
        if block.missing is not None:
            lacks = np.bitwise_or.reduce(block.missing[first : first + count], keepdims=True)
            total.missing = lacks if total.missing is None else total.missing | lacks
