"""Rows of reduced data of all receivers, in one order."""

from threading import Lock

import numpy as np
from numpy.typing import NDArray

from lima2_tango.processing.rows import ROI, ROWS_BUDGET


class RowMerge:
    """Takes the rows that each receiver popped, hands out those of the next frames; safe from any thread.

    A receiver that is ahead of the others is not asked (`wants`) while what it gave waits for them.
    """

    def __init__(self, receivers: int, dtype: np.dtype = ROI, budget: int = ROWS_BUDGET) -> None:
        """`budget` bounds the rows that wait [byte]."""
        self.lock = Lock()
        """Held from the pops to the answer, so that two clients share the rows and lose none."""
        self._limit = max(1, budget // receivers // dtype.itemsize)
        self._left: list[NDArray[np.void]] = [np.empty(0, dtype) for _ in range(receivers)]
        self._adding = Lock()
        self._next = 0

    def wants(self, rank: int) -> bool:
        """Whether there is room for more rows of this receiver."""
        return len(self._left[rank]) < self._limit

    def add(self, rank: int, new: bytes) -> None:
        """Rows of whole frames that a receiver has popped: it has them no more, they count however late they come."""
        with self._adding:
            left = self._left[rank]
            self._left[rank] = np.concatenate([left, np.frombuffer(new, left.dtype)])

    def take(self) -> bytes:
        """The rows of the frames that are complete, in order; empty when there are none."""
        with self._adding:
            waiting = np.concatenate(self._left)
            numbers = np.unique(waiting["frame_idx"])
            complete = int(np.count_nonzero(numbers == self._next + np.arange(len(numbers))))
            end = self._next + complete
            ready = waiting[waiting["frame_idx"] < end]
            self._left = [left[left["frame_idx"] >= end] for left in self._left]
            self._next = end
        return ready[np.argsort(ready["frame_idx"], kind="stable")].tobytes()

    def skip_gap(self) -> tuple[int, int] | None:
        """Give up the frames that those which wait are waiting for: first and last of them; None where none waits."""
        with self._adding:
            waiting = np.concatenate(self._left)["frame_idx"]
            if not len(waiting):
                return None
            first, self._next = self._next, int(waiting.min())
            return first, self._next - 1
