"""The end of a stream that elements come out of."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import TracebackType
from typing import Self

from lima2_tango.core.errors import AgreementError, DataLossError, WireError

from .elements import Element, Header, read_columns, read_pixels
from .fabric import Fabric
from .links import Arrived, Incoming, Kind, Memory, Note, Route, Tag, read_note
from .message_link import MessageIn
from .ring_link import RingIn
from .spec import StreamSpec, StreamStatistics
from .waiting import Pause, Watch

DRAIN_LIMIT = 30.0
"""A consumer that closes throws away what still comes for so long; then it aborts the stream [s]."""

Operator = Callable[[Element], None]
"""What is done with an element on arrival; must retain its lease to keep it longer."""


class Consumer:
    """Takes the elements of all producers: each once, in order for each producer, in turn between them.

    One thread at a time; `beat`, `abort` and `statistics` from any. As a context it closes the stream, and aborts it
    where there was an error.
    """

    def __init__(self, fabric: Fabric, spec: StreamSpec, memory: Memory | None = None) -> None:
        """Does not wait for the producers. Raises ValueError on a rank that is no consumer.

        `memory` gives memory of the consumer's own for `element_bytes`, where pixels then lie: copied there out of a
        ring, and received there directly where they come as messages. The element's lease is that memory's.
        """
        if fabric.rank not in spec.consumers:
            raise ValueError(f"rank {fabric.rank} is no consumer of stream {spec.name}")
        self.spec = spec
        self._fabric, self._memory = fabric, memory
        self._routes = {rank: spec.route(fabric.rank, rank, producing=False) for rank in spec.producers}
        self._links: dict[int, Incoming] = {}
        self._turns = deque(spec.producers)
        self._watches = {rank: Watch() for rank in spec.producers}
        self._counts = dict.fromkeys(spec.producers, 0)
        self._open = set(spec.producers)
        """Producers whose end has not come."""
        self._aborted: str | None = None
        self._closed = False
        self._statistics = StreamStatistics()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.abort(f"{error}")
        self.close()

    def __iter__(self) -> Iterator[Element]:
        """All elements until the last end; raises what `take` raises."""
        while (element := self.take()) is not None:
            yield element

    @property
    def ended(self) -> bool:
        """Every producer has ended its stream."""
        return not self._open

    def take(self, timeout: float | None = None) -> Element | None:
        """The next element; None where all have ended, or none came within `timeout` seconds.

        Without a timeout it waits as long as the producers live. Raises AgreementError naming a producer that is silent
        too long or has failed, DataLossError where an end came too early or an element is not the next, WireError for
        what no producer sends. What arrived before is taken first.
        """
        element = self._look()
        if element is not None or not self._open or timeout == 0:
            return element
        begin, pause = time.monotonic(), Pause()
        self._statistics.waits += 1
        try:
            while element is None and self._open and (timeout is None or time.monotonic() - begin < timeout):
                self._refuse_silence()
                pause(any(link.moving for link in self._links.values()))
                element = self._look()
        finally:
            self._statistics.waited += time.monotonic() - begin
        return element

    def operate(self, operator: Operator) -> int:
        """Call the operator with each element as it arrives, until the end; returns how many there were."""
        count = 0
        for element in self:
            try:
                operator(element)
            finally:
                element.lease.release()
            count += 1
        return count

    def abort(self, reason: str) -> None:
        """Take nothing more: the producers' next send fails with the reason, and so does a `take` here."""
        self._aborted = reason
        for rank, route in self._routes.items():
            if (link := self._links.get(rank)) is not None:
                link.abort(reason)
            elif rank in self._open:
                note = Note(route.identity, Kind.ABORT, text=reason)
                self._fabric.tell(rank, route.tag(Tag.UP), note.encode())

    def beat(self) -> None:
        """Tell the producers that this rank lives; from any thread, several times in `silence` seconds."""
        for link in list(self._links.values()):
            link.progress()
            link.beat()

    @property
    def statistics(self) -> StreamStatistics:
        carriers = {rank: link.carrier for rank, link in list(self._links.items())}
        return replace(self._statistics, carriers=carriers)

    def close(self) -> None:
        """Let go of the stream. What producers that live still send is thrown away until their ends, or their silence.

        One that has not ended after `DRAIN_LIMIT` seconds hears at its next send why nobody takes it. Elements whose
        leases are held stay readable.
        """
        if self._closed:
            return
        self._closed = True
        self._drain()
        for link in self._links.values():
            link.close()

    def _drain(self) -> None:
        pause, deadline = Pause(), time.monotonic() + DRAIN_LIMIT
        while waiting := self._open & set(self._links):
            if time.monotonic() > deadline:
                self.abort(self._aborted or f"rank {self._fabric.rank} closed its end {DRAIN_LIMIT:g} s ago")
                return
            for rank in waiting:
                link = self._links[rank]
                link.progress()
                link.beat()
                self._throw_away(rank, link)
                if self._watches[rank].silent(link.heard) > self.spec.silence:
                    self._open.discard(rank)
            pause()

    def _throw_away(self, rank: int, link: Incoming) -> None:
        try:
            while (arrived := link.take()) is not None:
                arrived.lease.release()
                if arrived.header.ended:
                    self._open.discard(rank)
        except WireError:  # what cannot be understood cannot be counted either
            self._open.discard(rank)

    def _look(self) -> Element | None:
        """The next element that has arrived, looking at each producer once, in turn."""
        if self._aborted is not None:
            raise AgreementError(
                f"stream {self.spec.name} was aborted here, on rank {self._fabric.rank}: {self._aborted}"
            )
        for _ in range(len(self._turns)):
            rank = self._turns[0]
            self._turns.rotate(-1)
            if rank in self._open and (link := self._link(rank)) is not None:
                link.progress()
                link.beat()
                arrived = link.take()
                if arrived is not None and (element := self._accept(rank, arrived)) is not None:
                    return element
        return None

    def _link(self, rank: int) -> Incoming | None:
        """The link from that producer; None before it has said how its elements come."""
        link = self._links.get(rank)
        if link is None:
            route = self._routes[rank]
            note = self._fabric.hear(rank, route.tag(Tag.DOWN))
            if note is None:
                return None
            link = self._links[rank] = self._opened(route, note)
            if self._aborted is not None:
                link.abort(self._aborted)
        return link

    def _opened(self, route: Route, data: bytes) -> Incoming:
        note = read_note(data, route.where)
        if note.identity != route.identity or note.kind not in {Kind.RING, Kind.MESSAGES}:
            raise WireError(f"{route.where}: it began with a note of another stream, or with {note.kind.name}")
        if note.kind is Kind.RING:
            return RingIn(self._fabric, route, note, self._memory)
        return MessageIn(self._fabric, route, self._memory)

    def _accept(self, rank: int, arrived: Arrived) -> Element | None:
        """The element; None for an end."""
        where = self._routes[rank].where
        header = arrived.header
        if header.identity != self._routes[rank].identity:
            raise WireError(f"{where}: an element of another stream came")
        if header.ended:
            self._note_end(rank, header, arrived)
            return None
        if header.sequence != self._counts[rank]:
            raise DataLossError(
                f"{where}: element {header.sequence} came where {self._counts[rank]} was due", rank=rank
            )
        element = self._element(rank, header, arrived, where)
        self._counts[rank] += 1
        self._statistics.elements += 1
        self._statistics.frames += header.frames
        self._statistics.bytes += header.payload
        return element

    def _element(self, rank: int, header: Header, arrived: Arrived, where: str) -> Element:
        index, seconds, valid = read_columns(header, arrived.head, where)
        data = read_pixels(header, arrived.pixels, self.spec.records, where)
        return Element(
            source=rank,
            sequence=header.sequence,
            part=header.part,
            data=data,
            index=index,
            local=header.local,
            time=seconds,
            lease=arrived.lease,
            valid=valid,
        )

    def _note_end(self, rank: int, header: Header, arrived: Arrived) -> None:
        """Raises where the end came before its time."""
        self._open.discard(rank)
        where = self._routes[rank].where
        reason = bytes(arrived.pixels[: header.payload]).decode(errors="replace")
        arrived.lease.release()
        if header.failed:
            raise AgreementError(f"{where}: the producer failed after {header.sequence} elements: {reason}", rank=rank)
        if header.sequence != self._counts[rank]:
            raise DataLossError(
                f"{where}: {self._counts[rank]} elements came of the {header.sequence} that were sent", rank=rank
            )

    def _refuse_silence(self) -> None:
        silent = [rank for rank in sorted(self._open) if self._is_silent(rank)]
        if silent:
            raise AgreementError(
                f"stream {self.spec.name}: no sign of life from producers {silent} for {self.spec.silence:g} s, after "
                f"{[self._counts[rank] for rank in silent]} elements: look at the logs of these ranks",
                missing=silent,
            )

    def _is_silent(self, rank: int) -> bool:
        link = self._links.get(rank)
        return self._watches[rank].silent(-1 if link is None else link.heard) > self.spec.silence
