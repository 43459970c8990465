"""A graph at work: what is done to each block, in which order, and what of it is kept."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lima2_tango.core.errors import ProcessingError
from lima2_tango.core.frame import Block, FrameSpec
from lima2_tango.core.pool import Pool
from lima2_tango.core.sink import Sink

from .history import History
from .node import JoinNode, Node, RowNode
from .pipeline import Counters
from .rows import FRAME_IDX, RowQueue
from .staged import first, save


class Watcher(Protocol):
    """Looks at frames, and counts some of them."""

    def watch(self, block: Block) -> int:
        """How many frames of the block count; raises ProcessingError where one stops the run."""

    def close(self) -> None:
        """Nothing comes any more; raises ProcessingError for what failed beside the data. Safe twice."""


class Summing(Protocol):
    """Makes one frame of several. Blocks come in order, from one thread at a time."""

    @property
    def depth(self) -> int:
        """Frames in each."""

    @property
    def output_spec(self) -> FrameSpec: ...

    def add(self, block: Block, pool: Pool) -> Iterable[Block]:
        """Each frame that this block completes, with its lease, numbered from 0; must be exhausted."""

    def close(self) -> None:
        """Give up what is not complete; safe twice."""


@dataclass(slots=True)
class Work:
    """What became of one block; holds a claim on each of its blocks."""

    source: Block
    """What the flow began with; its numbers and times stay readable when its memory is gone."""
    blocks: dict[str, Block]
    """By stream."""
    rows: dict[str, NDArray[np.void]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    encoded: dict[str, tuple[Sink, Any]] = field(default_factory=dict)
    """By output."""

    def drop(self, names: Iterable[str]) -> None:
        for name in names:
            self.blocks.pop(name).lease.release()

    def discard(self) -> None:
        """Give everything back that was not kept; safe twice."""
        self.drop(list(self.blocks))
        while self.encoded:
            sink, encoded = self.encoded.popitem()[1]
            sink.discard(encoded)


class Op(ABC):
    """One act on a block; safe to call from several threads at once."""

    def __init__(self, name: str, reads: str, also: tuple[str, ...] = ()) -> None:
        self.name = name
        self.reads = reads
        """Stream."""
        self.inputs = (reads, *also)
        """All streams that it needs."""

    @abstractmethod
    def run(self, work: Work) -> None:
        """Add to `work`."""


class Make(Op):
    """A block out of a block, or of one of each of several streams."""

    def __init__(self, name: str, inputs: Sequence[str], node: Node | JoinNode, spec: FrameSpec, pool: Pool) -> None:
        super().__init__(name, inputs[0], tuple(inputs[1:]))
        self._node, self._shape, self._dtype, self._pool = node, spec.shape, spec.dtype, pool

    def run(self, work: Work) -> None:
        source = work.blocks[self.reads]
        made = self._made([work.blocks[name] for name in self.inputs])
        work.blocks[self.name] = made
        if made.data.shape != (len(source), *self._shape) or made.data.dtype != self._dtype:
            raise ProcessingError(
                f"node {self.name} made {made.data.dtype} of {made.data.shape}, not what it promised at Prepare: "
                f"{self._dtype} of {(len(source), *self._shape)}"
            )

    def _made(self, blocks: Sequence[Block]) -> Block:
        if isinstance(self._node, JoinNode):
            return self._node.process(blocks, self._pool)
        return self._node.process(blocks[0], self._pool)


class Reduce(Op):
    """Rows out of a block."""

    def __init__(self, name: str, reads: str, node: RowNode, rank: int) -> None:
        super().__init__(name, reads)
        self._node, self._rank = node, rank

    def run(self, work: Work) -> None:
        work.rows[self.name] = self._node.rows(work.blocks[self.reads], self._rank)


class Count(Op):
    """Frames that a watcher counts."""

    def __init__(self, name: str, reads: str, watcher: Watcher) -> None:
        super().__init__(name, reads)
        self._watcher = watcher

    def run(self, work: Work) -> None:
        work.counts[self.name] = self._watcher.watch(work.blocks[self.reads])


class Encode(Op):
    """Frames as their file has them."""

    def __init__(self, name: str, reads: str, sink: Sink) -> None:
        super().__init__(name, reads)
        self._sink = sink

    def run(self, work: Work) -> None:
        work.encoded[self.name] = self._sink, self._sink.encode(work.blocks[self.reads])


@dataclass(slots=True)
class Delivery:
    """Of each block, in order: written, then readable, then counted, then its rows."""

    counters: Counters
    sink: Sink | None = None
    encoded: str = ""
    """Key of what goes to the sink in `Work.encoded`."""
    keeps: list[tuple[History, str]] = field(default_factory=list)
    """Histories, and the stream of each."""
    counts: list[str] = field(default_factory=list)
    """Counters of frames."""
    tallies: dict[str, str] = field(default_factory=dict)
    """Counter of what an `Op` has counted."""
    index: RowQueue | None = None
    """Takes which frames came."""
    rows: dict[str, RowQueue] = field(default_factory=dict)

    def deliver(self, work: Work, rank: int) -> None:
        """After a failure of the sink the frames that it has are delivered, and the error is raised."""
        _, encoded = work.encoded.pop(self.encoded, (None, None))
        save(self.sink, encoded, len(work.source), lambda complete: self._publish(work, complete, rank))

    def _publish(self, work: Work, complete: int, rank: int) -> None:
        """The first so many frames of the block are complete."""
        if not complete:
            return
        for history, stream in self.keeps:
            history.add(first(work.blocks[stream], complete))
        counted = {name: work.counts.get(op, 0) for name, op in self.tallies.items()}
        self.counters.add(**dict.fromkeys(self.counts, complete), **counted)
        if self.index is not None:
            rows = np.empty(complete, FRAME_IDX)
            rows["recv_idx"], rows["frame_idx"] = rank, work.source.index[:complete]
            self.index.append(rows)
        for name, queue in self.rows.items():
            made = work.rows[name]
            queue.append(made[: len(made) // len(work.source) * complete])


@dataclass(slots=True)
class Group:
    """What follows frames that are made of several."""

    name: str
    reads: str
    summing: Summing
    flow: "Flow"

    def feed(self, work: Work, pool: Pool, receivers: int, rank: int) -> None:
        """Sums are dealt round robin: number m of receiver r of N is m * N + r for every client."""
        for block in self.summing.add(work.blocks[self.reads], pool):
            try:
                block.index = block.index * receivers + rank
                made = self.flow.work(block)
            finally:
                block.lease.release()
            self.flow.commit(made, pool, receivers, rank)


class Flow:
    """All that is done at one pace: to every block of the camera, or to every sum."""

    def __init__(self, source: str, ops: Sequence[Op], deliveries: Sequence[Delivery], groups: Sequence[Group]) -> None:
        """Blocks enter as the stream `source`."""
        self._source, self._deliveries, self._groups = source, deliveries, groups
        held = {stream for delivery in deliveries for _, stream in delivery.keeps} | {group.reads for group in groups}
        self._plan = list(zip(ops, _last_uses(source, ops, held), strict=True))
        self._unread = () if held | {name for op in ops for name in op.inputs} >= {source} else (source,)

    def work(self, block: Block) -> Work:
        """On any thread: everything that needs no order. `block` stays the caller's, what comes back is as well."""
        block.lease.retain()
        work = Work(block, {self._source: block})
        try:
            work.drop(self._unread)
            for op, done in self._plan:
                op.run(work)
                work.drop(done)
        except BaseException:
            work.discard()
            raise
        return work

    def commit(self, work: Work, pool: Pool, receivers: int, rank: int) -> None:
        """One at a time, in order; owns the work, also when it raises."""
        try:
            for delivery in self._deliveries:
                delivery.deliver(work, rank)
            for group in self._groups:
                group.feed(work, pool, receivers, rank)
        finally:
            work.discard()


def _last_uses(source: str, ops: Sequence[Op], held: set[str]) -> list[tuple[str, ...]]:
    """After each op: the streams that nobody needs any more, so that their memory can be given back."""
    last: Mapping[str, int] = {name: i for i, op in enumerate(ops) for name in op.inputs}
    unread = {i: op.name for i, op in enumerate(ops) if isinstance(op, Make) and op.name not in last}
    streams = {source, *(op.name for op in ops)} - held
    done: list[list[str]] = [[] for _ in ops]
    for name, i in last.items():
        if name in streams:
            done[i].append(name)
    for i, name in unread.items():
        if name in streams:
            done[i].append(name)
    return [tuple(names) for names in done]
