"""A link through memory that both ranks have in common: written once by the producer, read in place."""

import time

import numpy as np
from numpy.typing import NDArray

from lima2_tango.core.errors import MemoryBudgetError, WireError
from lima2_tango.core.frame import Lease

from .arena import Arena
from .elements import Header, aligned, read_header
from .fabric import Fabric
from .links import MAX_TEXT, Arrived, Kind, Memory, Note, Route, Tag, read_note
from .ring import RingReader, RingWriter, ring_bytes

LATE = 60.0
"""A consumer that has not come this long after its producer has left does not come any more [s]."""
SHARED = "shared"


def open_ring(fabric: Fabric, route: Route) -> "RingOut | None":
    """A ring for the link; None where the ranks have no memory in common, or not enough."""
    arena = fabric.own
    if arena is None or fabric.memory_of(route.partner) is None:
        return None
    size = ring_bytes(route.largest_head + aligned(max(route.element_bytes, MAX_TEXT)), route.credits + 1)
    begin = arena.claim(size)
    return None if begin is None else RingOut(fabric, route, arena, begin, size)


class RingOut:
    """The producer's end."""

    carrier = SHARED
    moving = False

    def __init__(self, fabric: Fabric, route: Route, arena: Arena, begin: int, size: int) -> None:
        self._fabric, self._route, self._arena, self._begin = fabric, route, arena, begin
        self._ring = RingWriter(arena.memory[begin : begin + size], fabric.fence, _signed(route.identity))
        self._record: NDArray[np.uint8] | None = None
        self._left: float | None = None
        self._refused: str | None = None
        note = Note(route.identity, Kind.RING, begin, size)
        fabric.tell(route.partner, route.tag(Tag.DOWN), note.encode())

    @property
    def room(self) -> int:
        return max(0, self._route.credits - self._ring.in_flight)

    @property
    def in_flight(self) -> int:
        return self._ring.in_flight

    @property
    def heard(self) -> int:
        return self._ring.heard

    @property
    def aborted(self) -> str | None:
        return self._refused or self._ring.aborted

    @property
    def settled(self) -> bool:
        return True

    def put(self, header: Header, head: bytes, pixels: NDArray[np.generic] | None, lease: Lease | None) -> bool:
        memory = self.reserve(header)
        if memory is None:
            return False
        if pixels is not None and header.payload:
            np.copyto(memory.view(pixels.dtype).reshape(pixels.shape), pixels)
        self.commit(header, head)
        return True

    def reserve(self, header: Header) -> NDArray[np.uint8] | None:
        if not header.ended and not self.room:
            return None
        head = header.head_bytes
        self._record = self._ring.reserve(head + header.payload)
        return None if self._record is None else self._record[head:]

    def commit(self, header: Header, head: bytes) -> None:
        if self._record is None:
            raise RuntimeError("nothing was reserved that could be sent")
        self._record[: len(head)] = np.frombuffer(head, np.uint8)
        self._record = None
        self._ring.commit()

    def progress(self) -> None:
        """Memory needs no help; but a consumer may leave before it has seen the ring."""
        if not self._ring.attached and (data := self._fabric.hear(self._route.partner, self._route.tag(Tag.UP))):
            note = read_note(data, self._route.where)
            if note.kind is Kind.ABORT and note.identity == self._route.identity:
                self._refused = note.text

    def beat(self) -> None:
        if self._left is None:
            self._ring.beat()

    def close(self) -> None:
        self._left = time.monotonic()
        self._arena.give_back(self._begin, self._over)

    def _over(self) -> bool:
        self.progress()
        late = self._left is not None and time.monotonic() - self._left > LATE
        return self._ring.done or ((late or self._refused is not None) and not self._ring.attached)


class RingIn:
    """The consumer's end."""

    carrier = SHARED
    moving = False

    def __init__(self, fabric: Fabric, route: Route, note: Note, memory: Memory | None) -> None:
        """Raises WireError where the producer's note names memory that is not its own."""
        shared = fabric.memory_of(route.partner)
        if shared is None or not 0 <= note.first < note.first + note.second <= len(shared):
            raise WireError(f"{route.where}: no ring of {note.second} bytes at {note.first} of the memory in common")
        self._route, self._memory = route, memory
        self._ring = RingReader(shared[note.first : note.first + note.second], fabric.fence, _signed(route.identity))
        self._place: Lease | None = None
        self._closed = False

    @property
    def heard(self) -> int:
        return self._ring.heard

    def take(self) -> Arrived | None:
        if not self._has_place():
            return None
        taken = self._ring.take()
        if taken is None:
            return None
        ticket, record = taken
        header = read_header(record, self._route.where)
        head, pixels = record[: header.head_bytes], record[header.head_bytes :]
        if self._place is None or not header.payload or header.ended:
            return Arrived(header, head, pixels, Lease(lambda: self._ring.give_back(ticket)))
        return self._moved(ticket, header, head.copy(), pixels)

    def progress(self) -> None:
        """Memory needs no help."""

    def beat(self) -> None:
        if not self._closed:  # the memory may be somebody else's then
            self._ring.beat()

    def abort(self, reason: str) -> None:
        if not self._closed:
            self._ring.abort(reason)

    def close(self) -> None:
        self._closed = True
        if self._place is not None:
            self._place.release()
            self._place = None
        self._ring.finish()

    def _has_place(self) -> bool:
        """There is memory of the consumer's own for the next element, where it wants it there."""
        if self._memory is None:
            return True
        if self._place is None:
            self._place = self._memory(self._route.element_bytes)
        return self._place is not None

    def _moved(self, ticket: int, header: Header, head: NDArray[np.uint8], pixels: NDArray[np.uint8]) -> Arrived:
        lease, self._place = self._place, None
        if lease is None or lease.buffer is None or len(pixels) > len(lease.buffer):
            raise MemoryBudgetError(f"{self._route.where}: no memory was given for an element of {len(pixels)} bytes")
        np.copyto(lease.buffer[: len(pixels)], pixels)
        self._ring.give_back(ticket)
        return Arrived(header, head, lease.buffer[: len(pixels)], lease)


def _signed(identity: int) -> int:
    """As a counter in the ring holds it."""
    return identity - (1 << 64) if identity >> 63 else identity
