"""A node maps a block of frames to a block of frames, and says so about shapes before any frame exists."""

from abc import ABC, abstractmethod
from collections.abc import Iterable

from lima2_tango.core.errors import GraphError
from lima2_tango.core.frame import Block, FrameSpec
from lima2_tango.core.pool import Pool


class Node(ABC):
    """A pure function of its block; safe to call from several threads at once."""

    def output_spec(self, spec: FrameSpec) -> FrameSpec:
        """Spec of what leaves, given what enters; raises GraphError or ParamError if it does not fit."""
        return spec

    @abstractmethod
    def process(self, block: Block, pool: Pool) -> Block:
        """A new block out of `block`, in memory of `pool`, with a lease of its own; `block` stays the caller's."""


def specs(nodes: Iterable[Node], spec: FrameSpec) -> list[FrameSpec]:
    """What leaves each node of the chain: asked at Prepare, so that nothing can fail on shapes after Start."""
    made: list[FrameSpec] = []
    for position, node in enumerate(nodes):
        try:
            spec = node.output_spec(spec)
        except GraphError as error:
            raise GraphError(f"node {position} ({type(node).__name__}): {error.what}") from error
        made.append(spec)
    return made


def check(nodes: Iterable[Node], spec: FrameSpec) -> FrameSpec:
    """What leaves the last node of the chain; raises as `specs` does."""
    return [spec, *specs(nodes, spec)][-1]
