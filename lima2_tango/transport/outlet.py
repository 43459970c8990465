"""One rank's ways into the window of a receiver."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .window import REASON, Memory, fence

ROOM_LIMIT = 30.0
"""A receiver that takes no frame for so long is named, and the run ends [s]."""
PAUSE = 2e-4
"""Between two looks for room [s]."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Frames of one block, or this rank's parts of them, ready to be copied."""

    parts: NDArray[Any]
    """[frame, channel, pixel]"""
    index: NDArray[np.int64]
    time: NDArray[np.float64]
    missing: NDArray[np.bool_]
    """[frame, module of this rank]"""
    bits: NDArray[np.uint64]
    """[frame] the same as bits of the whole frame's modules."""


class Outlet(Protocol):
    """One rank's way into one receiver's window."""

    @property
    def load(self) -> int:
        """Frames on their way that the receiver has not taken yet."""

    def put(self, batch: Batch, which: NDArray[np.int64]) -> int:
        """Copy the first of these frames of a batch that there is room for; returns how many, without waiting."""

    def end(self, error: str = "") -> None:
        """No frame follows; `error` says why, where there should be more."""


class SharedOutlet:
    """Writes straight into a window on this host."""

    def __init__(self, memory: Memory, writer: int, places: NDArray[np.int64]) -> None:
        """`places` is where the modules of this writer lie in a frame (`core.modules.Layout.places`)."""
        from ._place import place  # compiled code: not before a run needs it

        self._memory, self._writer, self._places, self._place = memory, writer, places, place
        slots, channels, rows, columns = memory.frames.shape
        self._frames = memory.frames.reshape(slots, channels, rows * columns)
        self._slots: int = slots
        self._run, self._begin = int(memory.run[0]), int(memory.run[1])
        self._written = 0

    @property
    def load(self) -> int:
        return self._written - int(self._memory.taken[0])

    def put(self, batch: Batch, which: NDArray[np.int64]) -> int:
        with self._inside() as wanted:
            return self._copy(batch, which) if wanted else len(which)

    def end(self, error: str = "") -> None:
        reason = np.frombuffer(error.encode()[: REASON - 1] + b"\0", np.uint8)
        with self._inside() as wanted:
            if wanted:
                self._memory.reason[self._writer, : len(reason)] = reason
                self._memory.total[self._writer] = self._written

    @contextmanager
    def _inside(self) -> Generator[bool]:
        """While this rank writes; False where the receiver wants no more of this run: what comes for it goes nowhere.

        First told, then asked, as the reader closes first and looks then (`assembly.Intake.retire`): of a writer that
        comes while the window is closed, one of the two knows.
        """
        memory = self._memory
        memory.inside[self._writer] = 1
        fence()
        try:
            yield not memory.closed[0] and int(memory.run[0]) == self._run
        finally:
            memory.inside[self._writer] = 0

    def _copy(self, batch: Batch, which: NDArray[np.int64]) -> int:
        memory = self._memory
        first = self._begin + self._written
        count: int = min(len(which), self._slots - (first - int(memory.free[0])))
        if count > 0:
            which = which[:count]
            slots = np.arange(first, first + count, dtype=np.int64) % self._slots
            self._place(batch.parts, which, self._places, batch.missing, slots, self._frames)
            memory.index[slots] = batch.index[which]
            memory.time[slots] = batch.time[which]
            memory.missing[self._writer, slots] = batch.bits[which]
            self._written += count
            memory.written[self._writer] = self._written  # last: what is counted is complete
        return max(0, count)
