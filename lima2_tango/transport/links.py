"""One producer's way to one consumer, over memory in common or by messages; the same to a stream."""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lima2_tango.core.errors import WireError
from lima2_tango.core.frame import Lease

from .elements import Header, head_bytes
from .fabric import SendMode

Memory = Callable[[int], Lease | None]
"""Gives memory for so many bytes, `buffer` of the lease, or None while it has none; must not wait."""


class Tag(IntEnum):
    """What is sent under which of a stream's tags."""

    HEAD = 0
    PIXELS = 1
    DOWN = 2
    """Notes of the producer."""
    UP = 3
    """Notes of the consumer."""


class Kind(IntEnum):
    """What a note says."""

    RING = 1
    """Producer: elements come through a ring, which begins at the first value and has the second as size."""
    MESSAGES = 2
    """Producer: elements come as messages."""
    BEAT = 3
    """Either: still there."""
    CREDIT = 4
    """Consumer: so many elements may have been sent, counted from the first."""
    ABORT = 5
    """Consumer: nothing more is taken; the text says why."""


_NOTE = struct.Struct("<QIIqq")
MAX_TEXT = 1000
"""Of a reason, as UTF-8 [byte]."""


@dataclass(frozen=True, slots=True)
class Note:
    """A small message beside the elements."""

    identity: int
    kind: Kind
    first: int = 0
    second: int = 0
    text: str = ""

    def encode(self) -> bytes:
        text = self.text.encode()[:MAX_TEXT]
        return _NOTE.pack(self.identity, self.kind, len(text), self.first, self.second) + text


def read_note(data: bytes, where: str) -> Note:
    """Raises WireError for what is no note."""
    try:
        identity, kind, length, first, second = _NOTE.unpack_from(data)
        if len(data) != _NOTE.size + length:
            raise ValueError(f"{len(data)} bytes")
        return Note(identity, Kind(kind), first, second, data[_NOTE.size :].decode(errors="replace"))
    except (struct.error, ValueError) as error:
        raise WireError(f"{where}: a note between ranks is not understood: {error}") from error


@dataclass(frozen=True, slots=True)
class Route:
    """What both ends of a link know."""

    partner: int
    """MPI rank of the other end."""
    identity: int
    key: int
    """Of the stream's tags."""
    credits: int
    element_bytes: int
    """Pixels of the largest element [byte]."""
    max_frames: int
    where: str
    """Names stream and ranks in errors."""
    mode: SendMode = SendMode.STANDARD

    def tag(self, tag: Tag) -> int:
        return self.key * len(Tag) + tag

    @property
    def largest_head(self) -> int:
        return head_bytes(self.max_frames, marked=True)


@dataclass(slots=True)
class Arrived:
    """An element as a link hands it over."""

    header: Header
    head: NDArray[np.uint8]
    """Header and columns."""
    pixels: NDArray[np.uint8]
    lease: Lease


class Outgoing(Protocol):
    """The producer's end; one thread, but `beat`."""

    carrier: str

    @property
    def room(self) -> int:
        """Elements that may be sent now."""

    @property
    def in_flight(self) -> int: ...

    @property
    def heard(self) -> int:
        """Changes whenever the consumer has given a sign of life."""

    @property
    def aborted(self) -> str | None:
        """Why the consumer takes nothing more."""

    def put(self, header: Header, head: bytes, pixels: NDArray[np.generic] | None, lease: Lease | None) -> bool:
        """Send; False, and nothing done, where there is no room. `lease` is that of the pixels: retained while needed.

        Without a lease the pixels are copied. The end, and only that, needs no credit.
        """

    def reserve(self, header: Header) -> NDArray[np.uint8] | None:
        """Memory for the pixels of an element, to be sent with `commit`; None where there is no room."""

    def commit(self, header: Header, head: bytes) -> None: ...
    def progress(self) -> None: ...
    def beat(self) -> None: ...

    @property
    def settled(self) -> bool:
        """All that was sent is out of this rank's hands."""

    @property
    def moving(self) -> bool:
        """Something is on its way, and goes on only while this rank calls."""

    def close(self) -> None: ...


class Incoming(Protocol):
    """The consumer's end; `take` by one thread."""

    carrier: str

    @property
    def heard(self) -> int: ...
    @property
    def moving(self) -> bool: ...
    def take(self) -> Arrived | None: ...
    def progress(self) -> None: ...
    def beat(self) -> None: ...
    def abort(self, reason: str) -> None: ...
    def close(self) -> None: ...
