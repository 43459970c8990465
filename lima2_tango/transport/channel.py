"""Messages between the ranks of a job, and to oneself, all delivered by one thread."""

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from .fabric import Fabric, LocalFabric, LocalJob
from .messages import Message, decode

log = logging.getLogger(__name__)

ACTIVE_SLEEP = 2e-3
IDLE_SLEEP = 50e-3
"""MPI cannot wake a sleeper: probes are this far apart [s] while a run is on, and while none is."""
CHANNEL_THREAD = "lima2-channel"
TICK = 0.05
"""Deadlines are looked at this often [s]."""

Handler = Callable[[int, Message], None]
"""Called with the MPI rank that sent the message; must not wait. What it raises is logged: others still hear."""


class World(Protocol):
    """Bytes to and from other ranks."""

    rank: int
    size: int

    @property
    def fabric(self) -> Fabric:
        """What streams between the ranks are made on."""

    def send(self, destination: int, data: bytes) -> None: ...
    def poll(self) -> tuple[int, bytes] | None: ...
    def close(self) -> None: ...


@dataclass
class WorldOfOne:
    """A process that no `mpiexec` has started: it has only itself to talk to."""

    rank: int = 0
    size: int = 1

    @cached_property
    def fabric(self) -> Fabric:
        return LocalFabric(0, LocalJob(1))

    def send(self, destination: int, data: bytes) -> None:
        raise ValueError(f"there is no rank {destination} in a world of one")

    def poll(self) -> tuple[int, bytes] | None:
        return None

    def close(self) -> None:
        pass


class Channel:
    """Delivers messages in order of arrival to the handlers; sends from any thread."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._handlers: list[Handler] = []
        self._tickers: list[Callable[[], None]] = []
        self._failing: list[Callable[[], None]] = []
        self._outbox: deque[tuple[int, Message]] = deque()
        self._wake = threading.Event()
        self._closing = False
        self._awake: set[int] = set()
        self._thread = threading.Thread(target=self._deliver, name=CHANNEL_THREAD)

    @property
    def rank(self) -> int:
        return self.world.rank

    def keep_awake(self, who: object, wanted: bool) -> None:
        """Look for messages more often while anybody wants it: while a run is prepared or on."""
        if wanted:
            self._awake.add(id(who))
        else:
            self._awake.discard(id(who))
        self._wake.set()

    def subscribe(self, handler: Handler, tick: Callable[[], None] | None = None) -> None:
        """Hand every message to `handler`, and call `tick` every 50 ms or more often; both by the channel's thread."""
        self._handlers.append(handler)
        if tick is not None:
            self._tickers.append(tick)

    def open(self) -> None:
        self._thread.start()

    def send(self, destination: int, message: Message) -> None:
        """Queue a message to an MPI rank, oneself included."""
        self._outbox.append((destination, message))
        self._wake.set()

    def close(self, timeout: float = 0.5) -> bool:
        """Stop delivering, `timeout` seconds at most; False when the thread is still busy."""
        self._closing = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _deliver(self) -> None:
        try:
            while not self._closing:
                moved = self._send_queued() | self._receive()
                self._tick()
                if not moved:
                    self._wake.wait(self._pause())
                    self._wake.clear()
            self._send_queued()
        except Exception:
            log.exception(
                "MPI rank %d neither sends nor hears messages any more: the others will miss it, restart the job",
                self.world.rank,
            )
            raise

    def _tick(self) -> None:
        for tick in self._tickers:
            try:
                tick()
            except Exception:
                if tick not in self._failing:  # once: it is called 20 times a second
                    self._failing.append(tick)
                    log.exception("MPI rank %d could not look after its run: Reset, or restart the job", self.rank)

    def _pause(self) -> float:
        if self.world.size == 1:
            return TICK
        return ACTIVE_SLEEP if self._awake else IDLE_SLEEP

    def _send_queued(self) -> bool:
        moved = False
        while self._outbox:
            destination, message = self._outbox.popleft()
            moved = True
            if destination == self.world.rank:
                self._hand_over(destination, message)
            else:
                self.world.send(destination, message.encode())
        return moved

    def _receive(self) -> bool:
        moved = False
        while (arrived := self.world.poll()) is not None:
            moved = True
            source, data = arrived
            try:
                message = decode(data)
            except Exception:
                log.exception("MPI rank %d got %d bytes from rank %d that are no message", self.rank, len(data), source)
            else:
                self._hand_over(source, message)
        return moved

    def _hand_over(self, source: int, message: Message) -> None:
        for handler in self._handlers:
            try:
                handler(source, message)
            except Exception:
                log.exception("MPI rank %d could not act on %s of rank %d: Reset", self.rank, message, source)
