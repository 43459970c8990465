"""A pipeline as data: named nodes, what each reads, which parameters make it, and what is kept of it.

A graph is declared once, beside its nodes. The executor reads the declaration (`graphed.py`), and so do people
(`lima2 pipelines NAME`): nothing is said twice.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from lima2_tango.core.acquisition import AcquisitionParams
from lima2_tango.core.errors import GraphError
from lima2_tango.core.params import Params

from .plugin import Product
from .task import CAMERA, Rows, Sums, Task

Fault = tuple[str, str]
"""Where, and what is wrong."""


@dataclass(frozen=True, slots=True)
class Output:
    """What is kept of a stream: written, then readable, then counted, then its rows.

    An output is complete before those declared above it, from which it is made. One that is not saved goes together
    with the next that is, at the same pace; the same frames under two labels are kept once.
    """

    label: str
    """What getters call its frames."""
    stream: str
    buffer: str
    """JSON path: most frames kept for readers."""
    info: str
    """Attribute with its shape and pixel type."""
    saving: str = ""
    """JSON path of its saving parameters; empty where it is never written."""
    vectors: bool = False
    """Its frames are vectors: (1 or 2, 1, length)."""
    counts: tuple[str, ...] = ()
    """Counters of its frames."""
    saved: str = ""
    """Counter of its frames where the pipeline writes any files."""
    tallies: dict[str, str] = field(default_factory=dict)
    """Counter -> the `Watch` that counts for it."""
    index: str = ""
    """JSON path: whether to tell which frames came (popFrameIdx)."""
    rows: tuple[str, ...] = ()
    """Nodes whose rows are published with its frames."""


@dataclass(frozen=True, slots=True)
class Graph:
    """Nodes in an order in which they can be made, and outputs."""

    tasks: tuple[Task, ...]
    outputs: tuple[Output, ...]
    fifo: str = "$.fifo.nb_fifo_frames"
    """JSON path: most frames in flight."""

    def task(self, name: str) -> Task:
        return next(task for task in self.tasks if task.name == name)

    def product(self, output: Output, sparse: bool) -> Product:
        """What clients know of an output; `sparse` where its frames are packed: their shape is that of whole ones."""
        name = paces(self).get(output.stream, CAMERA)
        sums = self.task(name).params[:1] if name != CAMERA else ()
        return Product(
            label=output.label,
            kind="vector" if output.vectors else "sparse" if sparse else "dense",
            info="processed_frame_info" if sparse else output.info,
            counter=output.counts[0] if output.counts else output.saved,
            saving=output.saving.removeprefix("$."),
            sums="".join(sums).removeprefix("$."),
        )

    def check(self, params: type[Params]) -> None:
        """Raise GraphError, with the address of the fault, where the declaration does not fit itself or `params`."""
        for where, what in _faults(self, params):
            raise GraphError(f"{where}: {what}", where=where)


def paces(graph: Graph) -> dict[str, str]:
    """Stream -> the last `Sums` above it, itself included; `camera` where there is none."""
    found = {CAMERA: CAMERA}
    for task in graph.tasks:
        found[task.name] = task.name if isinstance(task, Sums) else found.get(task.reads, CAMERA)
    return found


def block_at(path: str, params: Params, acquisition: AcquisitionParams) -> Any:
    """The parameters of a JSON path."""
    keys = path.removeprefix("$.").split(".")
    found: Any = params if keys[0] in type(params).model_fields else acquisition
    for key in keys:
        found = getattr(found, key)
    return found


def _faults(graph: Graph, params: type[Params]) -> Iterator[Fault]:
    known: dict[str, bool] = {CAMERA: True}
    pace = paces(graph)
    for task in graph.tasks:
        faults = [*_task_faults(task, known), *_path_faults(task.params, params)] or [*_pace_faults(pace, task)]
        yield from ((f"node {task.name}", what) for what in faults)
        known[task.name] = task.has_frames
    for output in graph.outputs:
        paths = [graph.fifo, output.buffer, *filter(None, (output.saving, output.index))]
        faults = [*_output_faults(pace, output, known), *_path_faults(paths, params)]
        yield from ((f"output {output.label}", what) for what in faults)
    yield from _twice(graph)
    delivered = {name for output in graph.outputs for name in _delivered(output)}
    for task in graph.tasks:
        if not task.has_frames and task.name not in delivered:
            yield f"node {task.name}", "no output delivers what it makes; name it in one"


def _twice(graph: Graph) -> Iterator[Fault]:
    """What only one may have: the second would take the place of the first, or be counted with it."""
    labels = [("label", output.label, f"output {output.label}") for output in graph.outputs]
    counters = [("counter", name, f"output {output.label}") for output in graph.outputs for name in output.counts]
    rows = [("rows of node", name, f"output {output.label}") for output in graph.outputs for name in output.rows]
    commands = [("command", task.command, f"node {task.name}") for task in graph.tasks if isinstance(task, Rows)]
    seen: set[tuple[str, str]] = set()
    for what, name, where in (*labels, *counters, *rows, *commands):
        if (what, name) in seen:
            yield where, f"there is another with the {what} {name}; give each its own"
        seen.add((what, name))


def _delivered(output: Output) -> tuple[str, ...]:
    return (*output.rows, *output.tallies.values())


def _task_faults(task: Task, known: dict[str, bool]) -> Iterator[str]:
    """`known`: the nodes before it, and whether frames leave them."""
    if task.name in known:
        yield "there are two of this name; give each its own"
    for other in filter(None, (*task.inputs, task.masked_as)):
        if not known.get(other, False):
            yield f"it reads {other}, which no node before it makes; frames are made by {_listed(known)}"


def _pace_faults(pace: Mapping[str, str], task: Task) -> Iterator[str]:
    for other in task.inputs[1:]:
        if pace[other] != pace[task.reads]:
            yield f"it reads {task.reads} and {other}, which go at another pace: let both follow the same sums"


def _output_faults(pace: Mapping[str, str], output: Output, known: dict[str, bool]) -> Iterator[str]:
    if not known.get(output.stream, False):
        yield f"it keeps {output.stream}, which no node makes; frames are made by {_listed(known)}"
        return
    if output.saving and not output.counts:
        yield "it is saved and not counted, so nobody knows how much is in its files; name a counter in counts"
    for name in _delivered(output):
        if name not in known:
            yield f"it delivers what {name} makes, and there is no such node"
        elif pace[name] != pace[output.stream]:
            yield f"it delivers what {name} makes at another pace than {output.stream}: let both follow the same sums"


def _path_faults(paths: Iterable[str], params: type[Params]) -> list[str]:
    return [f"there is no parameter {path}" for path in paths if not _is_declared(path, params)]


def _is_declared(path: str, params: type[Params]) -> bool:
    keys = path.removeprefix("$.").split(".")
    model: Any = params if keys[0] in params.model_fields else AcquisitionParams
    for key in keys:
        fields = model.model_fields if isinstance(model, type) and issubclass(model, BaseModel) else {}
        if key not in fields:
            return False
        model = fields[key].annotation
    return True


def _listed(known: dict[str, bool]) -> str:
    return ", ".join(name for name, has_frames in known.items() if has_frames)
