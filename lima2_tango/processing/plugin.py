"""What a pipeline's file declares: everything that clients see, and how to build it, without its heavy libraries."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lima2_tango.core.params import Params

from .pipeline import Pipeline, Setup

if TYPE_CHECKING:
    from .graph import Graph


@dataclass(frozen=True, slots=True)
class PipelinePlugin:
    """What a file in `pipelines/` exports as `PLUGIN`."""

    class_name: str
    """Tango class, as the clients know it."""
    doc: str
    """What it does, in one line."""
    params: type[Params]
    build: Callable[[Any, Setup], Pipeline[Any]]
    """Make the pipeline of one run; imports what it needs (numba alone takes half a second) only then."""
    frame_commands: Mapping[str, str] = field(default_factory=dict)
    """Getter command -> label of the stream it reads."""
    vector_commands: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    """Getter command -> label of the stream of vectors it reads, and the channel of these."""
    sparse_commands: Mapping[str, str] = field(default_factory=dict)
    """Getter command -> label of the stream of packed sparse frames it reads."""
    row_commands: tuple[str, ...] = ()
    """Pop commands."""
    info_attributes: tuple[str, ...] = ()
    """Attributes with a frame or vector info; keys of the pipeline's `infos`."""
    graph: "Callable[[], Graph] | None" = None
    """Its graph, imported when it is asked for; None for a pipeline that is code alone."""


def build_graph(graph: "Callable[[], Graph]") -> Callable[[Any, Setup], Pipeline[Any]]:
    """A `build` for a pipeline that is nothing but its graph."""

    def build(params: Params, setup: Setup) -> Pipeline[Any]:
        from .graphed import Graphed

        return Graphed(params, setup, graph())

    return build
