"""Rows of reduced data of all receivers, in one order."""

from collections.abc import Sequence
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
        self._next = 0

    def wants(self, rank: int) -> bool:
        """Whether there is room for more rows of this receiver."""
        return len(self._left[rank]) < self._limit

    def take(self, new: Sequence[bytes]) -> bytes:
        """Add what each receiver popped (rows of whole frames); the rows of the frames that are now complete."""
        dtype = self._left[0].dtype
        self._left = [
            np.concatenate([left, np.frombuffer(data, dtype)]) for left, data in zip(self._left, new, strict=True)
        ]
        waiting = np.concatenate(self._left)
        numbers = np.unique(waiting["frame_idx"])
        complete = int(np.count_nonzero(numbers == self._next + np.arange(len(numbers))))
        end = self._next + complete
        ready = waiting[waiting["frame_idx"] < end]
        self._left = [left[left["frame_idx"] >= end] for left in self._left]
        self._next = end
        return ready[np.argsort(ready["frame_idx"], kind="stable")].tobytes()
