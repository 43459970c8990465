"""Nodes as a graph declares them, and what they become at Prepare."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from lima2_tango.core.errors import GraphError
from lima2_tango.core.frame import BLOCK_BYTES, Block, FrameSpec, Lease
from lima2_tango.core.pool import Pool
from lima2_tango.core.sparse import SparseSpec

from .flow import Count, Make, Op, Reduce, Summing, Watcher, Work
from .node import JoinNode, Mask, Node, RowNode
from .pipeline import Setup
from .rows import RowQueue

CAMERA = "camera"
"""The stream that every graph begins with: frames as they come, placeholders of lost ones as zeros."""
_ENOUGH = 64 * BLOCK_BYTES
"""Bounds the memory of nodes that take no frames."""


@dataclass(frozen=True, slots=True)
class Stream:
    """What is known at Prepare of the frames that travel between nodes."""

    spec: FrameSpec
    valid: Mask | None = None
    """Pixels that carry a value; None for all."""
    per: int = 1
    """Camera frames in each of its frames; sums have more than one."""
    pace: str = CAMERA
    """Where its blocks come from: the camera, or the sums of this name."""
    sparse: SparseSpec | None = None
    """What its frames hold where they are packed sparse ones."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a node is made: what it will read, and what surrounds it."""

    stream: Stream
    setup: Setup
    others: tuple[Stream, ...] = ()
    """What it reads beside that."""


@dataclass(slots=True)
class Made:
    """What the tasks of a graph became."""

    setup: Setup
    streams: dict[str, Stream]
    stands_for: dict[str, str]
    """Stream -> the one that is there: a task that has nothing to do passes on what it reads."""
    ops: dict[str, list[Op]] = field(default_factory=dict)
    """By pace, in their order."""
    specs: dict[str, list[FrameSpec]] = field(default_factory=dict)
    """By pace: frames that a frame becomes on its way."""
    sums: dict[str, tuple[str, Summing]] = field(default_factory=dict)
    """Name -> the stream that is summed, and by what."""
    rows: dict[str, RowQueue] = field(default_factory=dict)
    """By node."""
    watchers: dict[str, Watcher] = field(default_factory=dict)
    nodes: dict[str, Any] = field(default_factory=dict)
    """By name."""
    kernels: list[tuple[str, np.dtype[Any]]] = field(default_factory=list)
    ready: list[Callable[[], object]] = field(default_factory=list)
    """What else compiles before the first frame: each node takes a block without frames."""

    @classmethod
    def begin(cls, setup: Setup) -> "Made":
        return cls(setup, {CAMERA: Stream(setup.spec)}, {CAMERA: CAMERA}, {CAMERA: []}, {CAMERA: []})


@dataclass(frozen=True, slots=True, kw_only=True)
class Task(ABC):
    """A node of the graph, and the stream that it makes, by one name."""

    name: str
    does: str
    """In a few words, for the drawing."""
    reads: str
    """Name of the node, or `camera`, whose frames it takes."""
    params: tuple[str, ...] = ()
    """JSON paths of its parameters: processing parameters or, as `$.img`, those of the acquisition."""
    make: Callable[..., Any]
    """(place, the parameters of each path) -> its node; None where the parameters ask for nothing: the stream is then
    the one that it reads. Raises ParamError or GraphError for what cannot work."""
    masked_as: str = ""
    """A node after which pixels are masked as this one is told; as in what it reads where empty."""
    kernels: str = ""
    """What a block without frames does not compile (a key of `kernels.warm.KINDS`)."""
    makes: ClassVar[str]
    """What leaves it."""
    has_frames: ClassVar[bool] = False
    """Whether others can read it."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """All that it reads."""
        return (self.reads,)

    def attach(self, made: Made, blocks: list[Any]) -> None:
        """Make the node and give it its place; raises ParamError, or GraphError with the node's address."""
        reads = made.stands_for[self.reads]
        stream = made.streams[reads]
        with self._addressed():
            if self.masked_as:
                stream = self._masked(stream, made.streams[made.stands_for[self.masked_as]])
            others = tuple(made.streams[made.stands_for[name]] for name in self.inputs[1:])
            node = self.make(Place(stream, made.setup, others), *blocks)
            if node is None:
                made.stands_for[self.name] = reads
                return
            made.stands_for[self.name] = self.name
            made.nodes[self.name] = node
            self._join(made, reads, stream, node)
        if self.kernels:
            made.kernels.append((self.kernels, stream.spec.dtype))

    @abstractmethod
    def _join(self, made: Made, reads: str, stream: Stream, node: Any) -> None:
        """Add the node to what is made; raises GraphError or ParamError where it does not fit the stream."""

    @contextmanager
    def _addressed(self) -> Generator[None]:
        """A fault of the graph or of a node's own code gets the address of the node."""
        try:
            yield
        except (GraphError, ValueError, TypeError, LookupError) as error:
            what = error.what if isinstance(error, GraphError) else f"{type(error).__name__}: {error}"
            asked = f" (parameters {', '.join(self.params)})" if self.params else ""
            where = f"node {self.name}{asked}, which reads {' and '.join(self.inputs)}"
            raise GraphError(f"{where}: {what}", where=where) from error

    def _try(self, op: Op, *streams: Stream) -> None:
        """Compile what the first frame needs; raises as `attach`, and ProcessingError for a promise that is broken."""
        none = [_empty(stream.spec) for stream in streams]
        work = Work(none[0], dict(zip(op.inputs, none, strict=True)))
        try:
            with self._addressed():
                op.run(work)
        finally:
            work.discard()

    def _masked(self, stream: Stream, other: Stream) -> Stream:
        if other.spec.shape != stream.spec.shape:
            raise GraphError(f"it is masked as {self.masked_as}, whose frames are {other.spec}, not {stream.spec}")
        return replace(stream, valid=other.valid)


@dataclass(frozen=True, slots=True, kw_only=True)
class Frames(Task):
    """Makes a `Node`: a frame, or a vector, of each frame."""

    makes: ClassVar[str] = "frames"
    has_frames: ClassVar[bool] = True

    def _join(self, made: Made, reads: str, stream: Stream, node: Node) -> None:
        spec = node.output_spec(stream.spec)
        made.streams[self.name] = replace(stream, spec=spec, valid=node.output_valid(stream.valid), sparse=node.sparse)
        made.ops[stream.pace].append(Make(self.name, [reads], node, spec, made.setup.pool))
        made.specs[stream.pace].append(spec)
        made.ready.append(lambda: self._try(Make(self.name, [reads], node, spec, Pool(_ENOUGH)), stream))


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined(Task):
    """Makes a `JoinNode`: a frame of each frame of several streams, which go at the same pace."""

    makes: ClassVar[str] = "frames"
    has_frames: ClassVar[bool] = True
    also: tuple[str, ...]
    """What it reads beside `reads`."""

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.reads, *self.also)

    def _join(self, made: Made, reads: str, stream: Stream, node: JoinNode) -> None:
        names = [reads, *(made.stands_for[name] for name in self.also)]
        streams = [stream, *(made.streams[name] for name in names[1:])]
        spec = node.output_spec(*(each.spec for each in streams))
        valid = node.output_valid(*(each.valid for each in streams))
        made.streams[self.name] = replace(stream, spec=spec, valid=valid, sparse=None)
        made.ops[stream.pace].append(Make(self.name, names, node, spec, made.setup.pool))
        made.specs[stream.pace].append(spec)
        made.ready.append(lambda: self._try(Make(self.name, names, node, spec, Pool(_ENOUGH)), *streams))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows(Task):
    """Makes a `RowNode`: rows of each frame, for a pop command."""

    makes: ClassVar[str] = "rows"
    command: str
    """Pop command."""

    def _join(self, made: Made, reads: str, stream: Stream, node: RowNode) -> None:
        made.ops[stream.pace].append(Reduce(self.name, reads, node, made.setup.rank))
        made.rows[self.name] = RowQueue(self.command)
        made.ready.append(lambda: self._try(Reduce(self.name, reads, node, 0), stream))


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch(Task):
    """Makes a `flow.Watcher`: looks at frames and lets them pass; they are counted or stop the run."""

    makes: ClassVar[str] = "a count"

    def _join(self, made: Made, reads: str, stream: Stream, node: Watcher) -> None:
        made.ops[stream.pace].append(Count(self.name, reads, node))
        made.watchers[self.name] = node


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums(Task):
    """Makes a `flow.Summing`: one frame of several. What reads it goes at its pace."""

    makes: ClassVar[str] = "one frame of several"
    has_frames: ClassVar[bool] = True

    def _join(self, made: Made, reads: str, stream: Stream, node: Summing) -> None:
        made.streams[self.name] = Stream(node.output_spec, stream.valid, stream.per * node.depth, self.name)
        made.sums[self.name] = reads, node
        made.ops[self.name], made.specs[self.name] = [], []


def _empty(spec: FrameSpec) -> Block:
    """A block without frames."""
    return Block(np.empty((0, *spec.shape), spec.dtype), np.empty(0, np.int64), 0, np.empty(0), Lease())
