"""A ring in shared memory: one writer, one reader, no lock, no copy on the reading side.

After L. Lamport, "Specifying concurrent program modules" (TOPLAS 1983): each counter has one writer, so two ranks need
no lock, only the order of their stores, which `fence` keeps. Records are contiguous: one that does not fit before the
end of the ring begins at its start, and the gap is skipped.
"""

from collections import deque
from collections.abc import Callable
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from lima2_tango.core.errors import WireError

from .elements import ALIGNMENT, aligned

CONTROL_BYTES = 4096
"""Counters and the text of an abort come before the records: a page of their own [byte]."""
_PREFIX = ALIGNMENT
"""A record's size stands in a line of the caches before it [byte]."""
_SKIP = -1
# Each counter has a line of the caches for itself: two ranks write them all the time.
_HEAD, _TAIL, _WRITER_BEAT, _READER_BEAT, _ABORTED, _DONE, _IDENTITY = range(0, 56, 8)
_TEXT, _TEXT_BYTES = 1024, 2048


def ring_bytes(largest: int, records: int) -> int:
    """Memory for a ring that holds so many records of at most `largest` bytes, wherever they begin [byte].

    At least two: then a gap and the record after it always fit.
    """
    return CONTROL_BYTES + max(2, records) * (_PREFIX + aligned(largest))


class _Side:
    """What both sides see: counters of bytes ever written and ever given back, signs of life, an abort."""

    def __init__(self, memory: NDArray[np.uint8], fence: Callable[[], None]) -> None:
        self._words = memory[:CONTROL_BYTES].data.cast("q")
        self._text = memory[_TEXT : _TEXT + _TEXT_BYTES]
        self._records = memory[CONTROL_BYTES:]
        self._sizes = self._records[: len(self._records) // 8 * 8].data.cast("q")
        self._fence = fence
        self.capacity = len(self._records) // ALIGNMENT * ALIGNMENT

    def _publish(self, word: int, value: int) -> None:
        self._fence()
        self._words[word] = value


class RingWriter(_Side):
    """The producer's side; its thread only. Fresh memory is made a ring here."""

    def __init__(self, memory: NDArray[np.uint8], fence: Callable[[], None], identity: int = 0) -> None:
        super().__init__(memory, fence)
        memory[:CONTROL_BYTES] = 0
        self._words[_IDENTITY] = identity
        self._head = 0
        self._reserved = 0
        self._ends: deque[int] = deque()
        fence()

    @property
    def in_flight(self) -> int:
        """Records that the reader has not given back."""
        tail = self._words[_TAIL]
        while self._ends and self._ends[0] <= tail:
            self._ends.popleft()
        return len(self._ends)

    def reserve(self, size: int) -> NDArray[np.uint8] | None:
        """Memory for a record of `size` bytes, not seen by the reader before `commit`; None while there is no room."""
        need = _PREFIX + aligned(size)
        place = self._head % self.capacity
        gap = self.capacity - place if place + need > self.capacity else 0
        if self._head + gap + need - self._words[_TAIL] > self.capacity:
            return None
        if gap:
            self._sizes[place // 8] = _SKIP
            place = 0
        self._sizes[place // 8] = size
        self._reserved = gap + need
        return self._records[place + _PREFIX : place + _PREFIX + size]

    def commit(self) -> None:
        """Let the reader see what was written into the memory reserved last."""
        self._head += self._reserved
        self._reserved = 0
        self._ends.append(self._head)
        self._publish(_HEAD, self._head)

    def beat(self) -> None:
        self._words[_WRITER_BEAT] += 1

    @property
    def heard(self) -> int:
        """Changes when the reader gives a sign of life."""
        return int(self._words[_READER_BEAT] + self._words[_TAIL])

    @property
    def attached(self) -> bool:
        """There is a reader."""
        return bool(self._words[_READER_BEAT])

    @property
    def done(self) -> bool:
        """The reader has given back everything and looks at this memory no more."""
        return bool(self._words[_DONE])

    @property
    def aborted(self) -> str | None:
        """Why the reader takes no more; None while it does."""
        if not self._words[_ABORTED]:
            return None
        self._fence()
        return bytes(self._text).split(b"\0", 1)[0].decode(errors="replace")


class RingReader(_Side):
    """The consumer's side: `take` by one thread, `give_back` by any, in any order."""

    def __init__(self, memory: NDArray[np.uint8], fence: Callable[[], None], identity: int = 0) -> None:
        """Raises WireError where the memory is not the ring of that identity: its writer has left long ago."""
        super().__init__(memory, fence)
        if self._words[_IDENTITY] != identity:
            raise WireError("the ring is not there any more: its writer has left")
        self._next = 0
        self._finishing = False
        self.beat()
        self._lock = Lock()
        self._lent: deque[int] = deque()
        """Ends of the records that were taken, in order, up to the last that is not given back."""
        self._returned: set[int] = set()

    def take(self) -> tuple[int, NDArray[np.uint8]] | None:
        """The next record, in place, and the ticket to give it back with; None while there is none.

        Raises WireError where the writer's counters make no sense.
        """
        head = self._words[_HEAD]
        if head == self._next:
            return None
        self._fence()
        if not 0 < head - self._next <= self.capacity:
            raise WireError(f"the ring was overrun: {head - self._next} bytes ahead in a ring of {self.capacity}")
        place = self._next % self.capacity
        if self._sizes[place // 8] == _SKIP:
            self._next += self.capacity - place
            place = 0
        size = self._sizes[place // 8]
        end = self._next + _PREFIX + aligned(size)
        if size < 0 or end > head or place + _PREFIX + size > self.capacity:
            raise WireError(f"the ring is damaged: a record of {size} bytes at byte {place} of {self.capacity}")
        self._next = end
        with self._lock:
            self._lent.append(end)
        return end, self._records[place + _PREFIX : place + _PREFIX + size]

    def give_back(self, ticket: int) -> None:
        """The record is not looked at any more."""
        with self._lock:
            self._returned.add(ticket)
            tail = None
            while self._lent and self._lent[0] in self._returned:
                tail = self._lent.popleft()
                self._returned.discard(tail)
            if tail is not None:
                self._publish(_TAIL, tail)
            self._finish_when_empty()

    def beat(self) -> None:
        self._words[_READER_BEAT] += 1

    @property
    def heard(self) -> int:
        """Changes when the writer gives a sign of life."""
        return int(self._words[_WRITER_BEAT] + self._words[_HEAD])

    def abort(self, reason: str) -> None:
        """Tell the writer that nothing more is taken, and why."""
        text = reason.encode()[: _TEXT_BYTES - 1]
        self._text[: len(text)] = np.frombuffer(text, np.uint8)
        self._publish(_ABORTED, 1)

    def finish(self) -> None:
        """Nothing more is taken: with the last record given back, the writer may use the memory for something else."""
        with self._lock:
            self._finishing = True
            self._finish_when_empty()

    def _finish_when_empty(self) -> None:
        if self._finishing and not self._lent:
            self._publish(_DONE, 1)
