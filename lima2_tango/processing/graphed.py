"""The pipeline that a graph declares."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from lima2_tango.core.acquisition import AcquisitionParams
from lima2_tango.core.errors import ParamError
from lima2_tango.core.frame import Block, FrameSpec, VectorSpec
from lima2_tango.core.params import Params
from lima2_tango.core.sink import Sink
from lima2_tango.core.storage import SavingParams

from . import chain
from .flow import Delivery, Encode, Flow, Group, Work
from .graph import Graph, Output, block_at
from .pipeline import Counters, Setup
from .staged import Staged
from .task import CAMERA, Made

P = TypeVar("P", bound=Params)


def made_of(graph: Graph, params: Params, setup: Setup) -> Made:
    """Every node of the graph, made for the camera's frames.

    Raises GraphError with the address of the fault, ParamError for parameters that do not fit.
    """
    graph.check(type(params))
    made = Made.begin(setup)
    for task in graph.tasks:
        task.attach(made, [block_at(path, params, setup.acquisition) for path in task.params])
    return made


class Graphed(Staged[P, Work]):
    """Does what a graph declares. A frame is written, then readable, then counted, then come its rows.

    Placeholders of lost frames stay in the series as frames of zeros, with rows of zeros. To a sum they add nothing;
    a sum that misses a frame is written as it is, and its rows are zeros.
    """

    def __init__(self, params: P, setup: Setup, graph: Graph) -> None:
        super().__init__(params, setup)
        self.graph = graph
        graph.check(type(params))
        saved = _savings(self.graph, params, setup.acquisition)
        self._made = made_of(self.graph, params, setup)
        self.infos = {output.info: self._info(output) for output in self.graph.outputs}
        self.counters = Counters(*_counters(self.graph))
        depth = self._reserve_memory()
        sinks = {label: self._open(label, *saving) for label, saving in saved.items()}
        self._sinks = list(sinks.values())
        self._flow = self._connected(sinks)
        self.begin(depth, self._asked(self.graph.fifo), self._made.kernels)
        for ready in self._made.ready:
            ready()

    def work(self, block: Block) -> Work:
        lost = chain.placeholders(block)
        if lost is None:
            return self._flow.work(block)
        cleared = chain.zeroed(block, lost, self.setup.pool)
        try:
            return self._flow.work(cleared)
        finally:
            cleared.lease.release()

    def commit(self, result: Work) -> None:
        self._flow.commit(result, self.setup.pool, self.receivers, self.setup.rank)

    def discard(self, result: Work) -> None:
        result.discard()

    def close(self) -> None:
        for _, summing in self._made.sums.values():
            summing.close()
        try:
            super().close()
        finally:
            for watcher in self._made.watchers.values():
                watcher.close()

    def _asked(self, path: str) -> Any:
        return block_at(path, self.params, self.setup.acquisition)

    def _spec(self, output: Output) -> FrameSpec:
        return self._made.streams[self._stream(output)].spec

    def _stream(self, output: Output) -> str:
        return self._made.stands_for[output.stream]

    def _info(self, output: Output) -> FrameSpec | VectorSpec:
        spec = self._spec(output)
        return VectorSpec(spec.width, spec.dtype) if output.vectors else spec

    def _reserve_memory(self) -> int:
        """Returns how many blocks may be in flight; raises MemoryBudgetError."""
        depth = self.reserve(self._made.specs[CAMERA])
        for name in self._made.sums:
            for spec in (self._made.streams[name].spec, *self._made.specs[name]):
                self.setup.pool.reserve(spec.nbytes, 2)
        return depth

    def _open(self, label: str, path: str, saving: SavingParams) -> Sink:
        output = next(output for output in self.graph.outputs if output.label == label)
        opened, spec = self.setup.open_sink, self._spec(output)
        stream = self._stream(output)
        if (sparse := self._made.streams[stream].sparse) is not None:
            sink = opened(saving, spec, path, sparse=sparse)
        else:
            sink = opened(saving, spec, path, vectors=True) if output.vectors else opened(saving, spec, path)
        self._made.ops[self._made.streams[stream].pace].append(Encode(label, stream, sink))
        return sink

    def _connected(self, sinks: Mapping[str, Sink]) -> Flow:
        """All that the made nodes do, and what is kept of it."""
        deliveries: dict[str, list[Delivery]] = {pace: [] for pace in self._made.ops}
        for pace, outputs in reversed(self._together()):
            deliveries[pace].insert(0, self._delivery(outputs, sinks))
        return self._flow_of(CAMERA, deliveries)

    def _together(self) -> list[tuple[str, list[Output]]]:
        """(pace, outputs that are delivered together, the saved one last), in order of delivery."""
        found: list[tuple[str, list[Output]]] = []
        for output in reversed(self.graph.outputs):
            pace = self._made.streams[self._stream(output)].pace
            last = next((outputs for other, outputs in reversed(found) if other == pace), None)
            if output.saving or last is None:
                found.append((pace, [output]))
            else:
                last.insert(0, output)
        return found

    def _delivery(self, outputs: Sequence[Output], sinks: Mapping[str, Sink]) -> Delivery:
        saved = outputs[-1].label
        delivery = Delivery(self.counters, sinks.get(saved), saved)
        for stream in dict.fromkeys(self._stream(output) for output in outputs):
            same = [output for output in outputs if self._stream(output) == stream]
            history = self.keep((output.label for output in same), max(self._asked(output.buffer) for output in same))
            delivery.keeps.append((history, stream))
        for output in outputs:
            self._deliver(delivery, output)
        return delivery

    def _deliver(self, delivery: Delivery, output: Output) -> None:
        delivery.counts += output.counts
        if output.saved and self._sinks:
            delivery.counts.append(output.saved)
        delivery.tallies |= output.tallies
        if output.index and self._asked(output.index):
            delivery.index = self._frame_idx
        for name in output.rows:
            if name in self._made.rows:
                delivery.rows[name] = self._made.rows[name]
                self.rows[self._made.rows[name].name] = self._made.rows[name]

    def _flow_of(self, pace: str, deliveries: Mapping[str, list[Delivery]]) -> Flow:
        groups = [
            Group(name, reads, summing, self._flow_of(name, deliveries))
            for name, (reads, summing) in self._made.sums.items()
            if self._made.streams[reads].pace == pace
        ]
        return Flow(pace, self._made.ops[pace], deliveries[pace], groups)


def _savings(graph: Graph, params: Params, acquisition: AcquisitionParams) -> dict[str, tuple[str, SavingParams]]:
    """Label -> JSON path and parameters of what is to be saved.

    Raises ParamError where two streams, or their master files, would have the same names.
    """
    wanted: dict[str, tuple[str, SavingParams]] = {}
    names: dict[str, Output] = {}
    for output in graph.outputs:
        saving = block_at(output.saving, params, acquisition) if output.saving else None
        if saving is None or not saving.enabled:
            continue
        wanted[output.label] = output.saving, saving
        name = os.path.join(os.path.realpath(saving.base_path), saving.filename_prefix)
        other = names.setdefault(name, output)
        if other is not output:
            raise ParamError(
                f"{output.saving}.filename_prefix",
                saving.filename_prefix,
                f"the {'vectors' if other.vectors else 'frames'} ({other.saving}) have files of the same names in the "
                "same folder; choose another prefix or base_path",
            )
    return wanted


def _counters(graph: Graph) -> list[str]:
    """Names of all counters, each once."""
    names = [name for output in graph.outputs for name in (*output.counts, output.saved, *output.tallies) if name]
    return list(dict.fromkeys(names))
