"""The frame memory of a process: allocated and touched once, lent out block by block, reused for ever after."""

import time
from collections import defaultdict
from collections.abc import Callable
from threading import Condition

import numpy as np
from numpy.typing import NDArray

from .errors import MemoryBudgetError
from .frame import Lease
from .units import bytes_text

MIN_SLABS = 4
"""Fewer blocks than this cannot keep camera, workers and writer busy at once."""

Evictor = Callable[[], bool]
"""Gives back one block that is only kept for late readers; False when it keeps none."""


class Pool:
    """Lends slabs of equal size out of a fixed budget.

    Fresh memory costs more than compressing it, so slabs are touched in `reserve` (at Prepare) and `take` only
    hands out what was touched before. Frames kept for readers are given up oldest first when a taker needs them.
    """

    def __init__(self, budget: int) -> None:
        """`budget` in bytes bounds all that this process keeps in frames."""
        self.budget = budget
        self._changed = Condition()
        self._free: dict[int, list[NDArray[np.uint8]]] = defaultdict(list)
        self._allocated = 0
        self._evictors: list[Evictor] = []
        self.waits = 0
        """How often a taker had to wait for memory."""

    def add_evictor(self, evictor: Evictor) -> None:
        """Register a keeper of frames; the first registered (the oldest pipeline) gives up first."""
        with self._changed:
            self._evictors.append(evictor)

    def remove_evictor(self, evictor: Evictor) -> None:
        with self._changed:
            self._evictors.remove(evictor)

    @property
    def allocated(self) -> int:
        """Bytes that exist now, lent or free."""
        return self._allocated

    def reserve(self, slab_bytes: int, wanted: int) -> int:
        """Make `wanted` slabs of `slab_bytes` free, or as many as fit the budget, and touch them; returns how many.

        Raises MemoryBudgetError where fewer than four fit.
        """
        fitting = self.budget // max(slab_bytes, 1)
        if fitting < MIN_SLABS:
            raise MemoryBudgetError(
                f"{MIN_SLABS} blocks of {bytes_text(slab_bytes)} do not fit the memory budget of "
                f"{bytes_text(self.budget)}: use smaller frames or raise the device property memory_budget",
                slab_bytes=slab_bytes,
                budget=self.budget,
            )
        wanted = min(wanted, fitting)
        while len(self._free[slab_bytes]) < wanted and (self._allocate(slab_bytes) or self._evict()):
            pass
        return len(self._free[slab_bytes])

    def take(self, slab_bytes: int, timeout: float = 30.0) -> Lease:
        """Claim one slab of exactly `slab_bytes`; its `buffer` is the memory, as bytes with the last user's content.

        Waits for a release, `timeout` seconds at most; then raises MemoryBudgetError.
        """
        deadline = time.monotonic() + timeout
        while True:
            with self._changed:
                if self._free[slab_bytes]:
                    return self._lend(self._free[slab_bytes].pop())
            if self._evict() or self._allocate(slab_bytes):
                continue
            with self._changed:
                self.waits += 1
                if not self._changed.wait_for(lambda: self._free[slab_bytes], deadline - time.monotonic()):
                    raise MemoryBudgetError(
                        f"no block of {bytes_text(slab_bytes)} came free within {timeout:.3g} s: all of the "
                        f"{bytes_text(self.budget)} budget is in use; processing or saving has stopped moving",
                        slab_bytes=slab_bytes,
                    )

    def _lend(self, slab: NDArray[np.uint8]) -> Lease:
        return Lease(lambda: self._put_back(slab), slab)

    def _put_back(self, slab: NDArray[np.uint8]) -> None:
        with self._changed:
            self._free[slab.nbytes].append(slab)
            self._changed.notify()

    def _allocate(self, slab_bytes: int) -> bool:
        """Make one more slab, at the cost of free slabs of other sizes; False when the budget is full."""
        with self._changed:
            for size, slabs in self._free.items():
                while size != slab_bytes and slabs and self._allocated + slab_bytes > self.budget:
                    slabs.pop()
                    self._allocated -= size
            if self._allocated + slab_bytes > self.budget:
                return False
            self._allocated += slab_bytes
        slab = np.empty(slab_bytes, np.uint8)
        slab[::4096] = 0  # touch every page now, not at full speed
        self._put_back(slab)
        return True

    def _evict(self) -> bool:
        with self._changed:
            evictors = list(self._evictors)
        return any(evict() for evict in evictors)
