"""A link by messages: the consumer posts receives, and each posted receive is a credit of the producer.

An element is two messages under tags of their own: its head, and its pixels, straight from the producer's memory into
the consumer's. Few pixels go with the head.
"""

import time
from collections import deque
from dataclasses import dataclass
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from lima2_tango.core.errors import MemoryBudgetError, WireError
from lima2_tango.core.frame import Lease

from .arena import PAGE
from .elements import Header, head_dtype, pixel_dtype, read_header
from .fabric import Fabric, Receiving, Sending, SendMode
from .links import Arrived, Kind, Memory, Note, Route, Tag, read_note

INLINE = 16384
"""Pixels that go with their head: copying these is less than a message of their own [byte]."""
BEAT = 0.25
"""A sign of life is sent this often [s]."""
MESSAGES = "messages"
_BYTE = np.dtype(np.uint8)


@dataclass(slots=True)
class _Slot:
    """Memory of the producer's own, and the request that sends all of it where the mode has such."""

    memory: NDArray[np.uint8]
    sending: Sending | None = None


class MessageOut:
    """The producer's end."""

    carrier = MESSAGES

    def __init__(self, fabric: Fabric, route: Route) -> None:
        self._fabric, self._route = fabric, route
        self._granted = self._sent = 0
        self._heard = 0
        self.aborted: str | None = None
        self._leaving: deque[tuple[Sending, Lease | None, _Slot | None]] = deque()
        self._slots: list[_Slot] = []
        self._reserved: _Slot | None = None
        self._last_beat = time.monotonic()
        self._tell(Kind.MESSAGES)
        if route.mode.staged:
            self._slots = [self._slot() for _ in range(route.credits)]

    @property
    def room(self) -> int:
        return max(0, self._granted - self._sent)

    @property
    def in_flight(self) -> int:
        return max(0, min(self._sent, self._sent + self._route.credits - self._granted))

    @property
    def heard(self) -> int:
        return self._heard

    @property
    def settled(self) -> bool:
        # who aborts before it has posted a receive posts none for the end either
        return not self._leaving or (self.aborted is not None and not self._granted)

    @property
    def moving(self) -> bool:
        return bool(self._leaving)

    def put(self, header: Header, head: bytes, pixels: NDArray[np.generic] | None, lease: Lease | None) -> bool:
        if not header.ended and not self.room:
            return False
        if pixels is None or not header.payload:
            self._send_head(header, head)
        elif header.payload <= INLINE:
            self._send_head(header, head + np.ascontiguousarray(pixels).tobytes())
        elif self._route.mode.staged or lease is None or not pixels.flags.c_contiguous:
            memory = self._reserve(header.payload)
            np.copyto(memory.view(pixels.dtype).reshape(pixels.shape), pixels)
            self.commit(header, head)
        else:
            lease.retain()
            self._send_head(header, head)
            self._send_pixels(header, pixels.reshape(-1).view(np.uint8), lease, None)
        return True

    def reserve(self, header: Header) -> NDArray[np.uint8] | None:
        return self._reserve(header.payload) if self.room else None

    def commit(self, header: Header, head: bytes) -> None:
        slot, self._reserved = self._reserved, None
        if slot is None:
            raise RuntimeError("nothing was reserved that could be sent")
        data = slot.memory[: header.payload]
        if header.payload <= INLINE:
            self._send_head(header, head + data.tobytes())
            self._slots.append(slot)
        else:
            self._send_head(header, head)
            self._send_pixels(header, data, None, slot)

    def progress(self) -> None:
        while self._leaving and self._leaving[0][0].left():
            _, lease, slot = self._leaving.popleft()
            if lease is not None:
                lease.release()
            if slot is not None:
                self._slots.append(slot)
        while (data := self._fabric.hear(self._route.partner, self._route.tag(Tag.UP))) is not None:
            self._hear(read_note(data, self._route.where))
        self.beat()

    def beat(self) -> None:
        now = time.monotonic()
        if now - self._last_beat > BEAT:
            self._last_beat = now
            self._tell(Kind.BEAT)

    def close(self) -> None:
        for sending, lease, slot in self._leaving:
            sending.give_up((lease, slot))
        for slot in self._slots:
            if slot.sending is not None:
                slot.sending.give_up(slot)
        self._leaving.clear()
        self._slots.clear()

    def _hear(self, note: Note) -> None:
        if note.identity != self._route.identity:
            raise WireError(f"{self._route.where}: a note of another stream came, their names share a tag")
        self._heard += 1
        if note.kind is Kind.CREDIT:
            self._granted = max(self._granted, note.first)
        elif note.kind is Kind.ABORT:
            self.aborted = note.text

    def _tell(self, kind: Kind) -> None:
        self._fabric.tell(self._route.partner, self._route.tag(Tag.DOWN), Note(self._route.identity, kind).encode())

    def _slot(self) -> _Slot:
        memory = np.empty(max(self._route.element_bytes, 1), np.uint8)
        memory[::PAGE] = 0  # touched now, not at full speed
        if self._route.mode is not SendMode.PERSISTENT:
            return _Slot(memory)
        return _Slot(memory, self._fabric.prepare(self._route.partner, self._route.tag(Tag.PIXELS), memory, _BYTE))

    def _reserve(self, size: int) -> NDArray[np.uint8]:
        """Memory of a slot; there are as many as were ever needed at once, which credits bound."""
        if self._reserved is None:
            self._reserved = self._slots.pop() if self._slots else self._slot()
        return self._reserved.memory[:size]

    def _send_head(self, header: Header, data: bytes) -> None:
        more = len(data) - header.head_bytes
        dtype = head_dtype(header.frames, header.marked, more)
        memory = np.frombuffer(data, np.uint8)
        # an end needs no credit, so nothing proves that its receive is posted
        mode = SendMode.STANDARD if header.ended else self._route.mode
        sending = self._fabric.post(self._route.partner, self._route.tag(Tag.HEAD), memory, dtype, mode)
        self._leaving.append((sending, None, None))
        self._sent += not header.ended

    def _send_pixels(self, header: Header, data: NDArray[np.uint8], lease: Lease | None, slot: _Slot | None) -> None:
        if slot is not None and slot.sending is not None and len(data) == len(slot.memory):
            sending = slot.sending
            sending.start()
        else:
            tag = self._route.tag(Tag.PIXELS)
            sending = self._fabric.post(self._route.partner, tag, data, pixel_dtype(header.pixel), self._route.mode)
        self._leaving.append((sending, lease, slot))


@dataclass(slots=True)
class _Posted:
    """Memory with a receive; `lease` where the memory is the consumer's own."""

    memory: NDArray[np.uint8]
    receiving: Receiving
    lease: Lease | None = None


class MessageIn:
    """The consumer's end. Posted receives are used in the order in which they were posted."""

    carrier = MESSAGES

    def __init__(self, fabric: Fabric, route: Route, memory: Memory | None) -> None:
        self._fabric, self._route, self._memory = fabric, route, memory
        self._lock = Lock()
        self._granted = self._told = 0
        self.heard = 0
        self._last_beat = time.monotonic()
        self._announced: Header | None = None
        """Of the element whose pixels have not come yet."""
        self._heads: deque[_Posted] = deque()
        self._pixels: deque[_Posted] = deque()
        self._returned: deque[tuple[_Posted, _Posted | None]] = deque()
        self._closed = False
        for _ in range(route.credits + 1):  # one for the end
            self._post(self._heads, self._slot(route.largest_head + INLINE, Tag.HEAD))
        self._owed = route.credits
        """Credits that are granted as soon as there is memory for their pixels."""
        self._fill()
        self._tell_credit()

    @property
    def moving(self) -> bool:
        return self._announced is not None

    def take(self) -> Arrived | None:
        if self._announced is None:
            size = self._heads[0].receiving.arrived() if self._heads else None
            if size is None:
                self._tell_credit()
                return None
            self.heard += 1
            self._announced = self._read(self._heads[0].memory[:size])
        header, pixels = self._announced, None
        if header.payload > INLINE and not header.ended:
            size = self._pixels[0].receiving.arrived()
            if size is None:
                return None
            if size != header.payload:
                raise WireError(f"{self._route.where}: {size} bytes came of the {header.payload} of an element")
            pixels = self._pixels.popleft()
        self._announced = None
        return self._hand_over(header, self._heads.popleft(), pixels)

    def progress(self) -> None:
        """Post again what was given back, and grant it; by any thread."""
        with self._lock:
            while self._returned and not self._closed:
                head, pixels = self._returned.popleft()
                self._post(self._heads, head)
                if pixels is not None:
                    self._post(self._pixels, pixels)
                self._granted += 1
            self._fill()
        if self._granted - self._told >= max(1, self._route.credits // 4):
            self._tell_credit()
        while (data := self._fabric.hear(self._route.partner, self._route.tag(Tag.DOWN))) is not None:
            read_note(data, self._route.where)
            self.heard += 1
        self.beat()

    def beat(self) -> None:
        now = time.monotonic()
        if now - self._last_beat > BEAT:
            self._last_beat = now
            self._tell(Kind.BEAT)

    def abort(self, reason: str) -> None:
        self._tell(Kind.ABORT, text=reason)

    def close(self) -> None:
        """Receives that nothing will come for are taken back, and their memory."""
        with self._lock:
            self._closed = True
            for posted in (*self._heads, *self._pixels):
                posted.receiving.cancel()
                if posted.lease is not None:
                    posted.lease.release()
            self._heads.clear()
            self._pixels.clear()

    def _read(self, data: NDArray[np.uint8]) -> Header:
        where = self._route.where
        header = read_header(data, where)
        inline = header.payload if header.payload <= INLINE or header.ended else 0
        if len(data) != header.head_bytes + inline or (not inline and header.payload > self._route.element_bytes):
            raise WireError(f"{where}: a head of {len(data)} bytes announces {header.payload} bytes of pixels")
        return header

    def _hand_over(self, header: Header, head: _Posted, pixels: _Posted | None) -> Arrived:
        columns = head.memory[: header.head_bytes]
        if header.ended or self._memory is None:
            data = head.memory[header.head_bytes :] if pixels is None else pixels.memory
            lease = Lease() if header.ended else Lease(lambda: self._returned.append((head, pixels)))
            return Arrived(header, columns, data[: header.payload], lease)
        columns = columns.copy()
        if pixels is None:
            data, lease = head.memory[header.head_bytes :][: header.payload].copy(), Lease()
        else:
            data, lease = pixels.memory[: header.payload], pixels.lease or Lease()
            pixels.receiving.cancel()
        with self._lock:
            self._post(self._heads, head)
            self._granted += pixels is None
            self._owed += pixels is not None
        return Arrived(header, columns, data, lease)

    def _fill(self) -> None:
        """Post memory for pixels, as much as there is, and grant it."""
        while self._owed and not self._closed:
            if self._route.element_bytes > INLINE:
                slot = self._slot_for_pixels()
                if slot is None:
                    return
                self._post(self._pixels, slot)
            self._owed -= 1
            self._granted += 1

    def _slot_for_pixels(self) -> _Posted | None:
        size = self._route.element_bytes
        if self._memory is None:
            return self._slot(size, Tag.PIXELS)
        lease = self._memory(size)
        if lease is None:
            return None
        if lease.buffer is None or len(lease.buffer) < size:
            raise MemoryBudgetError(f"{self._route.where}: the memory given is smaller than an element of {size} bytes")
        return self._slot_of(lease.buffer, Tag.PIXELS, lease)

    def _slot(self, size: int, tag: Tag) -> _Posted:
        memory = np.empty(size, np.uint8)
        memory[::PAGE] = 0  # touched now, not at full speed
        return self._slot_of(memory, tag, None)

    def _slot_of(self, memory: NDArray[np.uint8], tag: Tag, lease: Lease | None) -> _Posted:
        receiving = self._fabric.receiving(self._route.partner, self._route.tag(tag), memory)
        return _Posted(memory, receiving, lease)

    @staticmethod
    def _post(queue: deque[_Posted], posted: _Posted) -> None:
        posted.receiving.start()
        queue.append(posted)

    def _tell_credit(self) -> None:
        with self._lock:
            granted = self._granted
            if granted == self._told:
                return
            self._told = granted
        self._tell(Kind.CREDIT, granted)

    def _tell(self, kind: Kind, first: int = 0, text: str = "") -> None:
        note = Note(self._route.identity, kind, first, text=text)
        self._fabric.tell(self._route.partner, self._route.tag(Tag.UP), note.encode())
