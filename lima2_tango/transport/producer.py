"""The end of a stream that elements go in at."""

import time
from collections.abc import Callable
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from lima2_tango.core.errors import AgreementError, MemoryBudgetError
from lima2_tango.core.frame import Block, Lease
from lima2_tango.core.units import bytes_text

from .elements import END, FAILED, MARKED, RECORD, WHOLE, Header, pixel_code, write_head
from .fabric import Fabric
from .links import MAX_TEXT, Outgoing
from .message_link import MessageOut
from .ring_link import open_ring
from .spec import StreamSpec, StreamStatistics
from .waiting import Pause, Watch

_NO_INDEX = np.empty(0, np.int64)
_NO_TIME = np.empty(0, np.float64)


class Producer:
    """Sends elements to the stream's consumers. One thread at a time; `beat` and `statistics` from any.

    As a context it ends the stream: with the error's text where there was one.
    """

    def __init__(self, fabric: Fabric, spec: StreamSpec) -> None:
        """Takes its memory now, and waits for no consumer. Raises ValueError on a rank that is no producer."""
        if fabric.rank not in spec.producers:
            raise ValueError(f"rank {fabric.rank} is no producer of stream {spec.name}")
        self.spec = spec
        self._identity = spec.identity
        self._links: dict[int, Outgoing] = {rank: self._open(fabric, rank) for rank in spec.consumers}
        self._watches = {rank: Watch() for rank in spec.consumers}
        self._counts = dict.fromkeys(spec.consumers, 0)
        self._reserved: tuple[int, Header] | None = None
        self._closed = False
        self._statistics = StreamStatistics(carriers={rank: link.carrier for rank, link in self._links.items()})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
            return
        try:
            self.close(f"{error}")
        except AgreementError as silence:  # the first error is the one to tell
            error.add_note(silence.what)

    def send(self, block: Block, to: int | None = None, part: int = WHOLE) -> None:
        """Send a block, or a part of each of its frames, when the consumer has room; wait as long as it lives.

        The block's lease is retained until its memory is not needed any more. Raises AgreementError where the consumer
        is silent too long or takes no more, MemoryBudgetError for a block larger than the stream's elements.
        """
        self.send_array(block.data, block.index, block.time, block.valid, block.local, to, part, block.lease)

    def try_send(self, block: Block, to: int | None = None, part: int = WHOLE) -> bool:
        """Like `send`, but False where the consumer has no room now."""
        rank, header, head = self._prepared(block.data, block.index, block.time, block.valid, block.local, to, part)
        self._tend(rank)
        return self._put(rank, header, head, block.data, block.lease)

    def send_array(
        self,
        data: NDArray[Any],
        index: NDArray[np.int64] = _NO_INDEX,
        time: NDArray[np.float64] | None = None,
        valid: NDArray[np.bool_] | None = None,
        local: int = 0,
        to: int | None = None,
        part: int = WHOLE,
        lease: Lease | None = None,
    ) -> None:
        """Send [frame, channel, row, column] or [frame, row, column] as `send` does; or records, of the stream's type.

        Without a lease the data are copied, so that their memory is free when this returns.
        """
        rank, header, head = self._prepared(data, index, time, valid, local, to, part)
        self._tend(rank)
        if not self._put(rank, header, head, data, lease):
            self._wait(rank, lambda: self._put(rank, header, head, data, lease))

    def reserve(
        self, shape: tuple[int, int, int, int], dtype: np.dtype, to: int | None = None, *, marked: bool = False
    ) -> NDArray[Any] | None:
        """Memory of the next element for [frame, channel, row, column]: filled and committed, it is not copied again.

        None where the consumer has no room now; AgreementError where it is silent too long or takes no more. `marked`
        announces that `commit` gets `valid`.
        """
        rank = self._rank(to)
        frames, channels, rows, columns = shape
        size = frames * channels * rows * columns * dtype.itemsize
        header = Header(
            self._identity,
            self._counts[rank],
            MARKED if marked else 0,
            size,
            frames=frames,
            channels=channels,
            rows=rows,
            columns=columns,
            pixel=pixel_code(dtype),
        )
        self._check(header)
        self._tend(rank)
        memory = self._links[rank].reserve(header)
        if memory is None:
            self._refuse_silence([rank])
            return None
        self._reserved = rank, header
        return memory.view(dtype).reshape(shape)

    def commit(
        self,
        index: NDArray[np.int64],
        time: NDArray[np.float64] | None = None,
        valid: NDArray[np.bool_] | None = None,
        local: int = 0,
        part: int = WHOLE,
    ) -> None:
        """Send what was written into the memory reserved last."""
        if self._reserved is None:
            raise RuntimeError(f"stream {self.spec.name}: nothing was reserved that could be sent")
        (rank, header), self._reserved = self._reserved, None
        header = header._replace(local=local, part=part)
        head = write_head(header, index, np.zeros(len(index)) if time is None else time, valid)
        self._links[rank].commit(header, head)
        self._count(rank, header)

    def room(self, to: int | None = None) -> int:
        """Elements that the consumer would take now."""
        rank = self._rank(to)
        self._tend(rank)
        return self._links[rank].room

    def least_loaded(self) -> int:
        """The consumer with most room; of equals, the one that got fewer elements."""
        return max(self._links, key=lambda rank: (self.room(rank), -self._counts[rank]))

    def beat(self) -> None:
        """Tell the consumers that this rank lives; from any thread, several times in `silence` seconds."""
        for link in self._links.values():
            link.beat()

    @property
    def statistics(self) -> StreamStatistics:
        return replace(self._statistics)

    def close(self, error: str = "") -> None:
        """End the stream: each consumer learns how many elements were its own, or why there are no more.

        Waits until all is out of this rank's hands. Raises AgreementError naming consumers that are silent too long; a
        consumer that has aborted is not waited for.
        """
        if self._closed:
            return
        self._closed = True
        try:
            self._end(error)
        finally:
            for link in self._links.values():
                link.close()

    def _open(self, fabric: Fabric, rank: int) -> Outgoing:
        route = self.spec.route(fabric.rank, rank, producing=True)
        ring = open_ring(fabric, route) if self.spec.shared else None
        return ring or MessageOut(fabric, route)

    def _rank(self, to: int | None) -> int:
        if to is None and len(self._links) == 1:
            return next(iter(self._links))
        if to not in self._links:
            raise ValueError(f"stream {self.spec.name} has consumers {sorted(self._links)}, not {to}")
        return to

    def _prepared(
        self,
        data: NDArray[Any],
        index: NDArray[np.int64],
        time: NDArray[np.float64] | None,
        valid: NDArray[np.bool_] | None,
        local: int,
        to: int | None,
        part: int,
    ) -> tuple[int, Header, bytes]:
        """Consumer, header, and header with columns as bytes."""
        rank, pixel = self._rank(to), pixel_code(data.dtype)
        channels = rows = columns = 1
        if data.ndim == 1 and data.dtype == self.spec.records:
            pixel = RECORD
        elif pixel == RECORD or data.ndim not in {3, 4} or not 0 < len(index) == len(data) or not data.size:
            raise ValueError(
                f"stream {self.spec.name}: {data.dtype} of shape {data.shape} with {len(index)} indices is neither "
                f"frames [frame, channel, row, column] nor records {self.spec.records}"
            )
        else:
            channels = data.shape[1] if data.ndim == 4 else 1
            rows, columns = data.shape[-2:]
        flags, frames = 0 if valid is None else MARKED, len(index)
        sequence, size = self._counts[rank], data.nbytes
        header = Header(self._identity, sequence, flags, size, local, frames, part, channels, rows, columns, pixel)
        self._check(header)
        return rank, header, write_head(header, index, np.zeros(len(index)) if time is None else time, valid)

    def _check(self, header: Header) -> None:
        """Refuse what the other ends could not take."""
        if self._closed:
            raise RuntimeError(f"stream {self.spec.name} is closed")
        if header.payload > self.spec.element_bytes or header.frames > self.spec.max_frames:
            raise MemoryBudgetError(
                f"stream {self.spec.name}: an element of {bytes_text(header.payload)} and {header.frames} frames, "
                f"where {bytes_text(self.spec.element_bytes)} and {self.spec.max_frames} frames were announced"
            )

    def _put(self, rank: int, header: Header, head: bytes, data: NDArray[Any] | None, lease: Lease | None) -> bool:
        link = self._links[rank]
        if not link.put(header, head, data, lease):
            return False
        self._count(rank, header)
        in_flight = link.in_flight
        if in_flight > self._statistics.most_in_flight:
            self._statistics.most_in_flight = in_flight
        return True

    def _count(self, rank: int, header: Header) -> None:
        self._counts[rank] += 1
        self._statistics.elements += 1
        self._statistics.frames += header.frames
        self._statistics.bytes += header.payload

    def _tend(self, rank: int) -> None:
        """Move what moves by itself; raises AgreementError where the consumer takes no more."""
        link = self._links[rank]
        link.progress()
        if (reason := link.aborted) is not None:
            raise AgreementError(f"{self._where(rank)}: the consumer takes no more: {reason}", rank=rank)

    def _where(self, rank: int) -> str:
        return f"stream {self.spec.name} to rank {rank}"

    def _wait(self, rank: int, done: Callable[[], bool]) -> None:
        """Until it is done; raises AgreementError where the consumer aborts, or is silent too long."""
        begin, pause = time.monotonic(), Pause()
        self._statistics.waits += 1
        try:
            while True:
                for link in self._links.values():
                    link.progress()
                    link.beat()
                self._tend(rank)
                if done():
                    return
                self._refuse_silence([rank])
                pause(self._links[rank].moving)
        finally:
            self._statistics.waited += time.monotonic() - begin

    def _refuse_silence(self, ranks: list[int]) -> None:
        silent = [rank for rank in ranks if self._is_silent(rank)]
        if silent:
            raise AgreementError(
                f"stream {self.spec.name}: no sign of life from consumers {silent} for {self.spec.silence:g} s, after "
                f"{[self._counts[rank] for rank in silent]} elements: look at the logs of these ranks",
                missing=silent,
            )

    def _is_silent(self, rank: int) -> bool:
        return self._watches[rank].silent(self._links[rank].heard) > self.spec.silence

    def _end(self, error: str) -> None:
        text = np.frombuffer(error.encode()[:MAX_TEXT], np.uint8)
        unsaid, leaving, pause = set(self._links), set(self._links), Pause()
        while leaving:
            for rank in sorted(leaving):
                link = self._links[rank]
                link.progress()
                link.beat()
                if rank in unsaid and self._say_end(rank, text):
                    unsaid.discard(rank)
            leaving = {rank for rank in leaving if rank in unsaid or not self._links[rank].settled}
            leaving -= {rank for rank in leaving if self._links[rank].aborted is not None and self._is_silent(rank)}
            if leaving:
                self._refuse_silence(sorted(leaving))
                pause(any(self._links[rank].moving for rank in leaving))

    def _say_end(self, rank: int, text: NDArray[np.uint8]) -> bool:
        flags = END | FAILED if len(text) else END
        header = Header(self._identity, self._counts[rank], flags, len(text))
        head = write_head(header, _NO_INDEX, _NO_TIME, None)
        return self._links[rank].put(header, head, text if len(text) else None, None)
