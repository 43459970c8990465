"""What a pipeline's file declares: everything that clients see, and how to build it, without its heavy libraries."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from lima2_tango.core.params import Params
from lima2_tango.core.plugins import available, load

from .pipeline import Pipeline, Setup

if TYPE_CHECKING:
    from .graph import Graph

KIND = "processing.pipelines"
"""Of these plugins: their folder, and their group of entry points."""
Kind = Literal["dense", "vector", "sparse"]


@dataclass(frozen=True, slots=True)
class Product:
    """Frames that a pipeline delivers: where clients read them, and where they are saved."""

    label: str
    kind: Kind
    info: str
    """Attribute with their shape and pixel type."""
    counter: str
    """Counts them, after they are written and readable; empty where nothing does."""
    saving: str = ""
    """Name of their saving parameters; empty where they are never saved."""
    sums: str = ""
    """Name of the parameters by which they are sums of several frames; empty where there is one for each frame."""
    in_order: bool = True
    """Their numbers follow from how many there are; not so of what each receiver makes now and then."""


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
    progress: str = "nb_frames_source"
    """Counter that says how far it is."""
    beside: tuple[Product, ...] = ()
    """What it delivers beside the outputs of its graph."""

    def getters(self) -> dict[str, str]:
        """Every getter command -> label of the stream it reads."""
        vectors = {command: label for command, (label, _) in self.vector_commands.items()}
        return {**self.frame_commands, **vectors, **self.sparse_commands}

    def products(self) -> tuple[Product, ...]:
        """All that it delivers; imports its graph."""
        if self.graph is None:
            return self.beside
        graph, sparse = self.graph(), set(self.sparse_commands.values())
        return (*(graph.product(output, output.label in sparse) for output in graph.outputs), *self.beside)


def installed() -> tuple[dict[str, PipelinePlugin], list[str]]:
    """Every pipeline by the name of its Tango class, and a sentence for each that is none.

    A package that cannot be imported keeps nobody from using the others.
    """
    found: dict[str, PipelinePlugin] = {}
    faults: list[str] = []
    for name in available(KIND):
        try:
            plugin = load(KIND, name)
        except Exception as error:  # noqa: BLE001 - boundary: anything may happen in somebody's package
            faults.append(f"the pipeline {name} cannot be imported ({type(error).__name__}: {error})")
            continue
        if not isinstance(plugin, PipelinePlugin):
            faults.append(f"the pipeline {name} is a {type(plugin).__name__}, not a PipelinePlugin")
        elif found.setdefault(plugin.class_name, plugin) is not plugin:
            faults.append(f"the pipeline {name} has the class name of another, {plugin.class_name}: give it its own")
    return found, faults


def build_graph(graph: "Callable[[], Graph]") -> Callable[[Any, Setup], Pipeline[Any]]:
    """A `build` for a pipeline that is nothing but its graph."""

    def build(params: Params, setup: Setup) -> Pipeline[Any]:
        from .graphed import Graphed

        return Graphed(params, setup, graph())

    return build
