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
PAGE = 4096
"""Unit in which the operating system gives memory at its first touch [byte]."""

RETRY = 0.01
"""A taker that waits looks this often whether readers' frames can be given up [s]."""

Evictor = Callable[[], bool]
"""Gives back one block that is only kept for late readers; False when it keeps none."""


class Pool:
    """Lends slabs of equal size out of a fixed budget.

    Fresh memory costs more than compressing it, so slabs are touched in `reserve` (at Prepare) and `take` only
    hands out what was touched before. Frames kept for readers are given up oldest first when a taker needs them
    and the budget is used up.
    """

    def __init__(self, budget: int) -> None:
        """`budget` in bytes bounds all that this process keeps in frames."""
        self.budget = budget
        self._changed = Condition()
        self._free: dict[int, list[NDArray[np.uint8]]] = defaultdict(list)
        self._allocated = 0
        self._pinned = 0
        self._releases = 0
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
        """Bytes that exist now: lent, free or pinned."""
        return self._allocated

    @property
    def lent(self) -> int:
        """Bytes that somebody holds now."""
        with self._changed:
            return self._allocated - sum(size * len(slabs) for size, slabs in self._free.items())

    @property
    def pinned(self) -> int:
        """Bytes that `pin` has lent and that are still held."""
        return self._pinned

    def reserve(self, slab_bytes: int, wanted: int) -> int:
        """Make `wanted` slabs of `slab_bytes` free, or as many as fit the budget, and touch them; returns how many.

        Raises MemoryBudgetError where fewer than four fit beside what is pinned.
        """
        fitting = (self.budget - self._pinned) // max(slab_bytes, 1)
        if fitting < MIN_SLABS:
            raise MemoryBudgetError(
                f"{MIN_SLABS} blocks of {bytes_text(slab_bytes)} do not fit the memory budget of "
                f"{bytes_text(self.budget)}, of which cameras keep {bytes_text(self._pinned)}: "
                "use smaller or fewer prefetched frames or raise the device property memory_budget",
                slab_bytes=slab_bytes,
                budget=self.budget,
            )
        wanted = min(wanted, fitting)
        while self._count_free(slab_bytes) < wanted and (self._add_slab(slab_bytes) or self.evict()):
            pass
        return self._count_free(slab_bytes)

    def take(self, slab_bytes: int, timeout: float = 30.0) -> Lease:
        """Claim one slab of exactly `slab_bytes`; its `buffer` is the memory, as bytes with the last user's content.

        Waits for a release, `timeout` seconds at most; then raises MemoryBudgetError, at once where it can never fit.
        """
        if slab_bytes > self.budget:
            raise MemoryBudgetError(
                f"a block of {bytes_text(slab_bytes)} is larger than the memory budget of {bytes_text(self.budget)}: "
                "use smaller frames or raise the device property memory_budget",
                slab_bytes=slab_bytes,
            )
        deadline, seen, waited = time.monotonic() + timeout, self._releases, False
        while (lease := self._take_free(slab_bytes)) is None:
            if self._add_slab(slab_bytes) or self.evict():
                continue
            self.waits += not waited
            waited = True
            if (seen := self._wait_for_release(seen, deadline)) < 0:
                raise MemoryBudgetError(
                    f"no block of {bytes_text(slab_bytes)} came free within {timeout:.3g} s: all of the "
                    f"{bytes_text(self.budget)} budget is in use; processing or saving has stopped moving",
                    slab_bytes=slab_bytes,
                )
        return lease

    def pin(self, size: int, what: str) -> Lease:
        """Memory of `size` bytes for as long as its lease is held, beside the slabs.

        It is what was given back in that size, where there is such; else fresh, and not touched before its use.
        Raises MemoryBudgetError, which names `what`, where it does not fit the budget.
        """
        if (again := self._pop_free(size)) is not None:
            return self._pinned_lease(again)
        self._charge(size, what)
        return self._pinned_lease(self._allocate(size))

    def charge(self, size: int, what: str) -> Lease:
        """Count memory of `size` bytes that is not the pool's own as pinned, for as long as its lease is held.

        Raises MemoryBudgetError, which names `what`, where it does not fit the budget.
        """
        self._charge(size, what)
        with self._changed:
            self._pinned += size
        return Lease(lambda: self._discharge(size))

    def _discharge(self, size: int) -> None:
        with self._changed:
            self._pinned -= size
            self._allocated -= size
            self._releases += 1
            self._changed.notify_all()

    def _charge(self, size: int, what: str) -> None:
        while not self._account(size, keep=0):
            if not self.evict():
                raise MemoryBudgetError(
                    f"{what} of {bytes_text(size)} do not fit the memory budget of {bytes_text(self.budget)}, of "
                    f"which {bytes_text(self._allocated)} are in use: ask for less, erase older pipelines, or "
                    "raise the device property memory_budget",
                    size=size,
                    budget=self.budget,
                )

    def _pinned_lease(self, buffer: NDArray[np.uint8]) -> Lease:
        with self._changed:
            self._pinned += buffer.nbytes
        return Lease(lambda: self._unpin(buffer), buffer)

    def _unpin(self, buffer: NDArray[np.uint8]) -> None:
        with self._changed:
            self._pinned -= buffer.nbytes
        self._put_back(buffer)

    def _count_free(self, slab_bytes: int) -> int:
        with self._changed:
            return len(self._free[slab_bytes])

    def _take_free(self, slab_bytes: int) -> Lease | None:
        slab = self._pop_free(slab_bytes)
        return None if slab is None else Lease(lambda: self._put_back(slab), slab)

    def _pop_free(self, slab_bytes: int) -> NDArray[np.uint8] | None:
        with self._changed:
            slabs = self._free[slab_bytes]
            return slabs.pop() if slabs else None

    def _wait_for_release(self, seen: int, deadline: float) -> int:
        """Wait until more than `seen` releases have happened, `RETRY` at most: a reader's frames can become free to
        give up without one. Returns how many there were, -1 when the deadline has passed.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._releases != seen, RETRY)
            return self._releases if time.monotonic() < deadline else -1

    def _put_back(self, slab: NDArray[np.uint8]) -> None:
        with self._changed:
            self._free[slab.nbytes].append(slab)
            self._releases += 1
            self._changed.notify_all()

    def _add_slab(self, slab_bytes: int) -> bool:
        """Make one more slab, at the cost of free slabs of other sizes; False when the budget is full."""
        if not self._account(slab_bytes, keep=slab_bytes):
            return False
        slab = self._allocate(slab_bytes)
        slab[::PAGE] = 0  # touch every page now, not at full speed
        self._put_back(slab)
        return True

    def _account(self, size: int, keep: int) -> bool:
        """Count `size` more bytes as allocated, at the cost of free slabs of other sizes than `keep`.

        False, and nothing changed, where the budget is too small even so.
        """
        with self._changed:
            others = [(other, slabs) for other, slabs in self._free.items() if other != keep]
            excess = self._allocated + size - self.budget
            if excess > sum(other * len(slabs) for other, slabs in others):
                return False
            for other, slabs in others:
                while slabs and self._allocated + size > self.budget:
                    slabs.pop()
                    self._allocated -= other
            self._allocated += size
            return True

    def _allocate(self, size: int) -> NDArray[np.uint8]:
        try:
            return np.empty(size, np.uint8)
        except MemoryError as error:
            with self._changed:
                self._allocated -= size
            raise MemoryBudgetError(
                f"the computer has no {bytes_text(size)} more memory, although the budget allows "
                f"{bytes_text(self.budget)}: lower the device property memory_budget",
                size=size,
            ) from error

    def evict(self) -> bool:
        """Have the oldest keeper of frames give up one block; False where there is none to give up."""
        with self._changed:
            evictors = list(self._evictors)
        return any(evict() for evict in evictors)
