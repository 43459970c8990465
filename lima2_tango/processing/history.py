"""The last frames of a stream, kept for readers that ask by number."""

from collections import deque
from collections.abc import Callable, Generator
from contextlib import contextmanager
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from lima2_tango.core.errors import NotAvailableError
from lima2_tango.core.frame import Block


class History:
    """Holds blocks by reference until `limit` frames are newer, or their memory is needed (`evict`)."""

    def __init__(self, label: str, limit: int) -> None:
        self.label = label
        self.last = -1
        """Global index of the newest frame, -1 before the first."""
        self.keep_newest = True
        """While the run goes on `evict` leaves the newest block, which is what most readers ask for."""
        self.on_add: Callable[[Block], None] | None = None
        """Called with each block that is added, in order, on the thread that commits it; must not keep the block."""
        self._limit = limit
        self._lock = Lock()
        self._blocks: deque[Block] = deque()
        self._frames = 0

    def add(self, block: Block) -> None:
        block.lease.retain()
        if self.on_add is not None:
            self.on_add(block)
        dropped: list[Block] = []
        with self._lock:
            self._blocks.append(block)
            self._frames += len(block)
            self.last = int(block.index[-1])
            while len(self._blocks) > 1 and self._frames - len(self._blocks[0]) >= self._limit:
                dropped.append(self._drop())
        for old in dropped:
            old.lease.release()

    def evict(self) -> bool:
        """Give up the oldest block; False when there is none to give up."""
        with self._lock:
            if len(self._blocks) <= self.keep_newest:
                return False
            old = self._drop()
        old.lease.release()
        return True

    def clear(self) -> None:
        with self._lock:
            old, self._blocks, self._frames = self._blocks, deque(), 0
        for block in old:
            block.lease.release()

    @contextmanager
    def frame(self, index: int) -> Generator[tuple[int, NDArray[np.generic]]]:
        """Number and pixels [channel, row, column] of a frame while the context lasts; -1 is the newest.

        Raises NotAvailableError for a frame that is not there yet, or is not held any more.
        """
        with self._lock:
            block, position = self._find(index)
            block.lease.retain()
        try:
            yield int(block.index[position]), block.data[position]
        finally:
            block.lease.release()

    def _find(self, index: int) -> tuple[Block, int]:
        if not self._blocks:
            raise NotAvailableError(f"no {self.label} frame is held: none was made yet, or their memory was needed")
        if index == -1:
            return self._blocks[-1], len(self._blocks[-1]) - 1
        for block in reversed(self._blocks):
            (found,) = np.nonzero(block.index == index)
            if found.size:
                return block, int(found[0])
        oldest = int(self._blocks[0].index[0])
        raise NotAvailableError(
            f"{self.label} frame {index} is not held on this receiver: it holds {self._frames} frames, "
            f"number {oldest} to {self.last}",
            frame_idx=index,
            newest=self.last,
        )

    def _drop(self) -> Block:
        old = self._blocks.popleft()
        self._frames -= len(old)
        return old
