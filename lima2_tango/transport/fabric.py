"""What a stream needs of the ranks below it: bytes into posted memory, small notes, memory in common."""

from collections import defaultdict, deque
from dataclasses import dataclass, field
from enum import StrEnum
from threading import Lock
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from .arena import Arena

LOCAL_ARENA = 1 << 30
"""Memory that a rank without MPI lends to streams at most; what nobody uses is never touched [byte]."""

EAGER = 8192
"""A message up to this size leaves at once, as with MPI; a larger one when it is taken [byte]."""


class SendMode(StrEnum):
    """When MPI takes a send as done (MPI-4.1, section 3.4); none of them blocks here."""

    STANDARD = "standard"
    """MPI decides whether it keeps a copy."""
    SYNCHRONOUS = "synchronous"
    """Done when the receiver has begun to take it."""
    BUFFERED = "buffered"
    """Copied first, into memory of the stream: the sender's is free at once. MPI's own buffer would be one for the
    whole process, and to detach it waits without a bound."""
    READY = "ready"
    """The receive is posted already, which a credit proves: no question to the receiver first."""
    PERSISTENT = "persistent"
    """Like buffered, with the request prepared once for each slot: elements of full size only start it."""

    @property
    def staged(self) -> bool:
        """The stream sends from memory of its own."""
        return self in {SendMode.BUFFERED, SendMode.PERSISTENT}


class Sending(Protocol):
    """A send on its way; its memory must not change before it has left."""

    def start(self) -> None:
        """Send again what is in the memory now; only for a prepared one that has left."""

    def left(self) -> bool: ...
    def give_up(self, memory: object) -> None:
        """Wait for it no more; `memory` is held until it has left, which may be never."""


class Receiving(Protocol):
    """Memory for one message at a time. Messages arrive in the order in which receives were started."""

    def start(self) -> None: ...
    def arrived(self) -> int | None:
        """Bytes of the message that came; None before."""

    def cancel(self) -> None: ...


class Fabric(Protocol):
    """The ranks of a job as a stream sees them; safe from any thread."""

    rank: int
    size: int
    own: Arena | None
    """This rank's part of the memory that its host's ranks have in common; None where there is none."""

    def memory_of(self, rank: int) -> NDArray[np.uint8] | None:
        """Another rank's part of it; None for a rank of another host."""

    def fence(self) -> None:
        """What was written before it is seen before what is written after it."""

    def tell(self, rank: int, tag: int, note: bytes) -> None:
        """Send a small note; never waits."""

    def hear(self, rank: int, tag: int) -> bytes | None:
        """The next note of that rank under that tag."""

    def post(self, rank: int, tag: int, data: NDArray[np.uint8], dtype: np.dtype, mode: SendMode) -> Sending:
        """Send bytes that are of type `dtype`."""

    def prepare(self, rank: int, tag: int, data: NDArray[np.uint8], dtype: np.dtype) -> Sending:
        """A send of this memory that is started whenever its content has changed."""

    def receiving(self, rank: int, tag: int, memory: NDArray[np.uint8]) -> Receiving:
        """A receive into this memory, not started yet."""


@dataclass(slots=True)
class LocalJob:
    """Messages between ranks of one process: by (from, to, tag), in order."""

    size: int
    lock: Lock = field(default_factory=Lock)
    waiting: dict[tuple[int, int, int], "deque[_LocalSending]"] = field(default_factory=lambda: defaultdict(deque))
    arenas: list[Arena] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.arenas = [Arena(np.empty(LOCAL_ARENA, np.uint8)) for _ in range(self.size)]


class LocalFabric:
    """A rank of a job within one process: a world of one, and jobs of tests."""

    def __init__(self, rank: int, job: LocalJob, shared: bool = True) -> None:
        """`shared` False is a job whose ranks have no memory in common."""
        self.rank, self.size = rank, job.size
        self._job = job
        self.own: Arena | None = job.arenas[rank] if shared else None

    def memory_of(self, rank: int) -> NDArray[np.uint8] | None:
        return None if self.own is None else self._job.arenas[rank].memory

    def fence(self) -> None:
        """Threads of Python see each other's stores in order."""

    def tell(self, rank: int, tag: int, note: bytes) -> None:
        self._send(rank, tag, np.frombuffer(note, np.uint8))

    def hear(self, rank: int, tag: int) -> bytes | None:
        with self._job.lock:
            queue = self._job.waiting[rank, self.rank, tag]
            return queue.popleft().take().tobytes() if queue else None

    def post(self, rank: int, tag: int, data: NDArray[np.uint8], dtype: np.dtype, mode: SendMode) -> Sending:
        return self._send(rank, tag, data)

    def prepare(self, rank: int, tag: int, data: NDArray[np.uint8], dtype: np.dtype) -> Sending:
        return _LocalSending(data, self._job, (self.rank, rank, tag))

    def receiving(self, rank: int, tag: int, memory: NDArray[np.uint8]) -> Receiving:
        return _LocalReceiving(memory, self._job, (rank, self.rank, tag))

    def _send(self, rank: int, tag: int, data: NDArray[np.uint8]) -> Sending:
        sending = _LocalSending(data, self._job, (self.rank, rank, tag))
        sending.start()
        return sending


class _LocalSending:
    def __init__(self, data: NDArray[np.uint8], job: LocalJob, route: tuple[int, int, int]) -> None:
        self._data, self._job, self._route = data, job, route
        self._message = data
        self._left = True

    def start(self) -> None:
        with self._job.lock:
            self._left = len(self._data) <= EAGER
            if self._left:
                self._message = self._data.copy()
            self._job.waiting[self._route].append(self)

    def take(self) -> NDArray[np.uint8]:
        self._left = True
        return self._message

    def left(self) -> bool:
        return self._left

    def give_up(self, memory: object) -> None:
        """The message holds its memory itself."""


class _LocalReceiving:
    def __init__(self, memory: NDArray[np.uint8], job: LocalJob, route: tuple[int, int, int]) -> None:
        self._memory, self._job, self._route = memory, job, route

    def start(self) -> None:
        """The message waits where it was sent, until somebody looks."""

    def arrived(self) -> int | None:
        with self._job.lock:
            queue = self._job.waiting[self._route]
            if not queue:
                return None
            data = queue[0]._message  # noqa: SLF001
            self._memory[: len(data)] = data
            queue.popleft().take()
        return len(data)

    def cancel(self) -> None:
        """Nothing was promised to anybody."""
