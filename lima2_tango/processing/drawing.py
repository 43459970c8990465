"""A pipeline's graph as people read it: a tree, a diagram, or JSON."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lima2_tango.core.acquisition import AcquisitionParams
from lima2_tango.core.errors import ParamError
from lima2_tango.core.frame import FrameSpec
from lima2_tango.core.params import Params

from .executor import Workers
from .graph import Graph, Output
from .graphed import made_of
from .pipeline import Setup
from .plugin import PipelinePlugin
from .task import CAMERA, Made, Rows, Task

Follower = Output | Task
DEEPEST = 30
"""Levels of nodes below each other that a tree shows: of more, nobody sees where a line belongs."""


@dataclass(frozen=True, slots=True)
class Drawing:
    """A graph to draw: as it is declared or, with `made`, as it is for frames and parameters."""

    plugin: PipelinePlugin
    graph: Graph
    made: Made | None = None

    @classmethod
    def declared(cls, plugin: PipelinePlugin) -> "Drawing":
        """Raises ParamError for a pipeline without a graph, GraphError for one whose graph does not fit together."""
        if plugin.graph is None:
            raise ParamError("name", plugin.class_name, "this pipeline is code alone, it declares no graph")
        graph = plugin.graph()
        graph.check(plugin.params)
        return cls(plugin, graph)

    def prepared(self, params: Params, acquisition: AcquisitionParams, spec: FrameSpec) -> "Drawing":
        """As at Prepare, for frames of `spec`; raises GraphError or ParamError as Prepare does."""
        from lima2_tango.core.pool import Pool

        workers = Workers(1)
        try:
            setup = Setup(acquisition, spec, 0, Pool(0), workers, _no_sink)
            return Drawing(self.plugin, self.graph, made_of(self.graph, params, setup))
        finally:
            workers.close()

    def tree(self) -> str:
        """Every node below the one that it reads, with its parameters; outputs in brackets.

        What is deeper than `DEEPEST` goes on in a tree of its own, from the left again.
        """
        followers, roots = self._followers(), deque([CAMERA])
        lines: list[tuple[str, str]] = []
        while roots:
            root = roots.popleft()
            lines += [(root, "..., from above" if lines else self._spec_text(CAMERA))]
            lines += self._lines(root, followers, roots)
        width = max(len(left) for left, _ in lines)
        return "\n".join(f"{left:<{width}}  {right}".rstrip() for left, right in lines)

    def mermaid(self) -> str:
        """A flow chart, as Markdown pages show it."""
        lines = ["flowchart LR", f'    {CAMERA}(["{CAMERA}"])']
        for task in self.graph.tasks:
            lines.append(f'    {task.name}["{task.name}<br><small>{task.does}</small>"]')
            lines += [f"    {name} --> {task.name}" for name in task.inputs]
        for output in self.graph.outputs:
            shape = f'[("{output.label}<br><small>{", ".join(_ends(self.plugin, output))}</small>")]'
            lines.append(f"    out_{output.label}{shape}")
            lines.append(f"    {output.stream} --> out_{output.label}")
        rows = (task for task in self.graph.tasks if isinstance(task, Rows))
        return "\n".join([*lines, *(f'    {task.name} --> out_{task.name}[("{task.command}")]' for task in rows)])

    def document(self) -> dict[str, Any]:
        """What a program wants to know; `spec` is null in a graph as declared, and for what makes no frames."""
        nodes = [
            {
                "name": task.name,
                "does": task.does,
                "reads": task.reads,
                "also": list(task.inputs[1:]),
                "params": list(task.params),
                "makes": task.makes,
                "command": task.command if isinstance(task, Rows) else None,
                "active": None if self.made is None else self._is_active(task),
                "spec": self._spec(task.name),
            }
            for task in self.graph.tasks
        ]
        outputs = [
            {
                "label": output.label,
                "keeps": output.stream,
                "saving": output.saving or None,
                "commands": _getters(self.plugin, output),
                "counters": [*output.counts, *filter(None, [output.saved]), *output.tallies],
                "rows": list(output.rows),
                "spec": self._spec(output.stream),
            }
            for output in self.graph.outputs
        ]
        return {"class_name": self.plugin.class_name, "nodes": nodes, "outputs": outputs}

    def _followers(self) -> dict[str, list[Follower]]:
        """Stream -> what keeps or reads it, outputs first."""
        found: dict[str, list[Follower]] = {}
        for output in self.graph.outputs:
            found.setdefault(output.stream, []).append(output)
        for task in self.graph.tasks:
            found.setdefault(task.reads, []).append(task)
        return found

    def _lines(
        self, root: str, followers: Mapping[str, list[Follower]], deeper: deque[str]
    ) -> Iterator[tuple[str, str]]:
        """(name below its branch, what it is) of all that follows a stream; streams that go on too deep to `deeper`."""
        left = _branches(followers.get(root, ()), "")
        while left:
            indent, is_last, follower = left.pop()
            if isinstance(follower, Output):
                what = ", ".join(_ends(self.plugin, follower)) + self._spec_text(follower.stream, ": ")
                yield f"{indent}{_branch(is_last)}[{follower.label}]", what
                continue
            yield f"{indent}{_branch(is_last)}{follower.name}", self._about(follower)
            below = _branches(followers.get(follower.name, ()), indent + ("   " if is_last else "│  "))
            if below and len(indent) >= DEEPEST * len(_branch(True)):
                deeper.append(follower.name)
            else:
                left += below

    def _about(self, task: Task) -> str:
        if self.made is not None and not self._is_active(task):
            return "-"
        to = f" -> {task.command}" if isinstance(task, Rows) else ""
        asked = f" ({', '.join(task.params)})" if task.params else ""
        beside = f", with {' and '.join(task.inputs[1:])}" if task.inputs[1:] else ""
        return f"{task.does}{beside}{asked}{to}{self._spec_text(task.name, ': ')}"

    def _is_active(self, task: Task) -> bool:
        return self.made is not None and self.made.stands_for[task.name] == task.name

    def _spec(self, name: str) -> dict[str, Any] | None:
        if self.made is None or (there := self.made.stands_for[name]) not in self.made.streams:
            return None
        stream = self.made.streams[there]
        spec = stream.spec
        shape = {"channels": spec.channels, "height": spec.height, "width": spec.width}
        return {**shape, "dtype": spec.dtype.name, "per": stream.per}

    def _spec_text(self, name: str, before: str = "") -> str:
        spec = self._spec(name)
        if spec is None:
            return ""
        per = f", one for {spec['per']} of the camera" if spec["per"] > 1 else ""
        return f"{before}{spec['channels']} x {spec['height']} x {spec['width']} {spec['dtype']}{per}"


def _branches(followers: Sequence[Follower], indent: str) -> list[tuple[str, bool, Follower]]:
    """(indent, whether it is the last, what) of each, the first at the end."""
    last = len(followers) - 1
    return [(indent, i == last, follower) for i, follower in enumerate(followers)][::-1]


def _branch(is_last: bool) -> str:
    return "└─ " if is_last else "├─ "


def _getters(plugin: PipelinePlugin, output: Output) -> list[str]:
    """Commands that read single frames of an output."""
    vectors = {command: label for command, (label, _) in plugin.vector_commands.items()}
    getters = {**plugin.frame_commands, **vectors, **plugin.sparse_commands}
    return [command for command, label in getters.items() if label == output.label]


def _ends(plugin: PipelinePlugin, output: Output) -> list[str]:
    return [*_getters(plugin, output), *([f"saved as {output.saving}"] if output.saving else [])]


def _no_sink(*_: Any, **__: Any) -> Any:
    raise RuntimeError("a drawing saves nothing")
