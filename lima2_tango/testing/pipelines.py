"""What every pipeline has to do, as tests to inherit; and what surrounds a pipeline, as parts that behave."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any, Self

import jsonschema_default
import jsonschema_rs
import numpy as np
import pytest
from numpy.typing import NDArray

from lima2_tango.core.acquisition import AcquisitionParams
from lima2_tango.core.errors import Lima2Error, NotAvailableError, ParamError, ProcessingError, SavingError
from lima2_tango.core.frame import Block, FrameSpec
from lima2_tango.core.meter import Meter
from lima2_tango.core.params import Params
from lima2_tango.core.pool import Pool
from lima2_tango.core.sparse import SparseSpec
from lima2_tango.core.storage import SavingParams
from lima2_tango.processing.drawing import Drawing
from lima2_tango.processing.executor import Workers
from lima2_tango.processing.pipeline import Pipeline, Setup
from lima2_tango.processing.plugin import PipelinePlugin
from lima2_tango.processing.task import Rows

SPEC = FrameSpec(1, 12, 16, np.dtype("u2"))
BUDGET = 64 << 20
"""Frame memory of a rig [byte]."""
SCHEMA_LIMIT = 60_000
"""A class property of the Tango database holds no longer text [byte]."""


def image(spec: FrameSpec, index: int) -> NDArray[Any]:
    """Pixels of frame `index`: 0 to 49 over the image, plus the last digits of its number; fits every pixel type."""
    ramp = np.arange(np.prod(spec.shape)) % 50 + index % 50
    return ramp.reshape(spec.shape).astype(spec.dtype)


def make_blocks(
    pool: Pool, spec: FrameSpec, indices: Sequence[int], per_block: int = 4, lost: Sequence[int] = ()
) -> Iterator[Block]:
    """One receiver's frames with these global indices, as a camera delivers them; those in `lost` are placeholders."""
    for local in range(0, len(indices), per_block):
        part = np.array(indices[local : local + per_block], np.int64)
        lease = pool.take(per_block * spec.nbytes)
        assert lease.buffer is not None
        data = lease.buffer[: len(part) * spec.nbytes].view(spec.dtype).reshape(len(part), *spec.shape)
        for position, index in enumerate(part):
            data[position] = image(spec, int(index))
        valid = ~np.isin(part, lost) if np.isin(part, lost).any() else None
        yield Block(data, part, local, part.astype(np.float64) * 1e-3, lease, valid)


@dataclass(slots=True)
class _Encoded:
    local: int
    index: list[int]
    data: NDArray[Any]


class MemorySink:
    """A sink that keeps frames in memory, and refuses what a file would lose: gaps, repeats, frames after the end."""

    def __init__(self, spec: FrameSpec = SPEC, fail_at: int | None = None) -> None:
        """From frame `fail_at` (local index) on there is no space left."""
        self.spec = spec
        self.closed = 0
        """How often it was closed."""
        self.outstanding = 0
        """Blocks that were encoded, and neither appended nor discarded."""
        self.index: list[int] = []
        """Global index of each frame kept."""
        self.frames: list[NDArray[Any]] = []
        self.before_encode: Callable[[Block], None] = lambda block: None
        self.written = Meter()
        self._fail_at = fail_at
        self._lock = Lock()

    @property
    def nb_frames_saved(self) -> int:
        return len(self.frames)

    def encode(self, block: Block) -> _Encoded:
        self.before_encode(block)
        if block.spec != self.spec:
            raise SavingError(f"opened for {self.spec}, got {block.spec}")
        with self._lock:
            self.outstanding += 1
        return _Encoded(block.local, block.index.tolist(), block.data.copy())

    def append(self, encoded: _Encoded) -> None:
        self.discard(encoded)
        if self.closed:
            raise SavingError("a frame came after the end of the file")
        if encoded.local != len(self.frames):
            raise SavingError(f"frame {encoded.local} came where {len(self.frames)} was expected")
        fitting = len(encoded.index) if self._fail_at is None else max(0, self._fail_at - encoded.local)
        self.index += encoded.index[:fitting]
        self.frames += list(encoded.data[:fitting])
        self.written.add(encoded.data[:fitting].nbytes)
        if fitting < len(encoded.index):
            raise SavingError("no space left on the device")

    def discard(self, encoded: _Encoded) -> None:
        with self._lock:
            self.outstanding -= 1

    def close(self) -> None:
        self.closed += 1


@dataclass
class Rig:
    """One receiver's surroundings: memory, threads, and sinks that remember."""

    spec: FrameSpec = SPEC
    acquisition: AcquisitionParams = field(default_factory=AcquisitionParams)
    rank: int = 0
    allowed_commands: tuple[str, ...] = ()
    fail_saving_at: int | None = None
    workers_count: int = 3
    budget: int = BUDGET

    def __post_init__(self) -> None:
        self.pool = Pool(self.budget)
        self.workers = Workers(self.workers_count)
        self.sinks: list[MemorySink] = []
        self.paths: list[str] = []
        """JSON path of the parameters of each sink."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.workers.close()

    @property
    def sink(self) -> MemorySink:
        """The only sink."""
        (sink,) = self.sinks
        return sink

    def open_sink(
        self,
        params: SavingParams,
        spec: FrameSpec,
        path: str,
        /,
        *,
        vectors: bool = False,
        sparse: SparseSpec | None = None,
        fewer: bool = False,
    ) -> MemorySink:
        """As `core.sink.OpenSink`; base_path /refused is one that cannot be written."""
        if params.base_path == "/refused":
            raise ParamError(f"{path}.base_path", params.base_path, "it cannot be written; choose another folder")
        self.sinks.append(MemorySink(spec, self.fail_saving_at))
        self.paths.append(path)
        return self.sinks[-1]

    @property
    def setup(self) -> Setup:
        return Setup(
            self.acquisition, self.spec, self.rank, self.pool, self.workers, self.open_sink, self.allowed_commands
        )

    def feed(
        self, pipeline: Pipeline[Any], indices: Sequence[int], per_block: int = 4, lost: Sequence[int] = ()
    ) -> None:
        """Put frames as the acquisition's thread does."""
        for block in make_blocks(self.pool, self.spec, indices, per_block, lost):
            pipeline.put(block)

    def run(self, pipeline: Pipeline[Any], indices: Sequence[int], receivers: int = 1, **options: Any) -> None:
        """A whole run as the receiver drives it: activate, feed, finish; abort where one of them raises."""
        try:
            pipeline.activate(receivers)
            self.feed(pipeline, indices, **options)
            pipeline.finish()
        except Lima2Error as error:
            pipeline.abort(error)
            raise


def leaves(node: dict[str, Any], path: str = "$") -> Iterator[tuple[str, dict[str, Any]]]:
    """(path, schema) of every value that is not an object."""
    if "properties" in node:
        for name, child in node["properties"].items():
            yield from leaves(child, f"{path}.{name}")
        return
    yield path, node
    if "properties" in node.get("items", {}):
        yield from leaves(node["items"], f"{path}[]")


def labels(plugin: PipelinePlugin) -> set[str]:
    """Streams that can be read frame by frame."""
    vectors = (label for label, _ in plugin.vector_commands.values())
    return {*plugin.frame_commands.values(), *vectors, *plugin.sparse_commands.values()}


class PipelineContract:
    """Inherit, and give a fixture `plugin`: what the pipeline's file exports."""

    def parameters(self, plugin: PipelinePlugin, folder: Path) -> Params:
        """Parameters with which the pipeline runs; `folder` is for the files that they need."""
        return plugin.params()

    @pytest.fixture
    def rig(self) -> Iterator[Rig]:
        with Rig() as rig:
            yield rig

    @pytest.fixture
    def pipeline(self, plugin: PipelinePlugin, rig: Rig, tmp_path: Path) -> Iterator[Pipeline[Any]]:
        pipeline = plugin.build(self.parameters(plugin, tmp_path), rig.setup)
        yield pipeline
        pipeline.erase()
        assert rig.pool.lent == 0, "the pipeline keeps memory after its erase"
        assert all(sink.outstanding == 0 for sink in rig.sinks), "encoded frames were neither written nor discarded"

    def test_defaults_of_the_schema_are_valid_and_parse_to_the_defaults(self, plugin: PipelinePlugin) -> None:
        text = plugin.params.schema_text()
        defaults = jsonschema_default.create_from(json.loads(text))
        jsonschema_rs.validator_for(text).validate(defaults)
        assert plugin.params.parse(json.dumps(defaults)) == plugin.params()
        assert defaults["class_name"] == plugin.class_name

    def test_schema_has_a_default_on_every_leaf(self, plugin: PipelinePlugin) -> None:
        schema = json.loads(plugin.params.schema_text())
        assert [path for path, leaf in leaves(schema) if "default" not in leaf] == []

    def test_schema_survives_the_database_and_the_clients(self, plugin: PipelinePlugin) -> None:
        text = plugin.params.schema_text()
        assert len(text) < SCHEMA_LIMIT
        assert "\\" not in text
        assert [word for word in ('"$ref"', '"allOf"', '"anyOf"', '"oneOf"', "null") if word in text] == []

    def test_parameters_hold_no_null(self, plugin: PipelinePlugin) -> None:
        assert "null" not in plugin.params().model_dump_json()

    def test_unknown_parameter_is_refused_with_its_path(self, plugin: PipelinePlugin) -> None:
        with pytest.raises(ParamError, match=r"\$\.colour"):
            plugin.params.parse('{"colour": "blue"}')

    def test_products_are_counted_described_and_saved_as_they_say(
        self, plugin: PipelinePlugin, pipeline: Pipeline[Any]
    ) -> None:
        counters, defaults = pipeline.counters.read(), plugin.params()
        assert plugin.progress in counters
        for product in plugin.products():
            assert product.label in labels(plugin)
            assert product.counter in counters
            assert product.info in pipeline.infos
            assert product.info in plugin.info_attributes
            assert not product.saving or isinstance(getattr(defaults, product.saving), SavingParams)
        saved = {name for name in type(defaults).model_fields if isinstance(getattr(defaults, name), SavingParams)}
        assert saved == {product.saving for product in plugin.products()} - {""}

    def test_graph_fits_what_the_plugin_offers(self, plugin: PipelinePlugin) -> None:
        if plugin.graph is None:
            return
        graph = plugin.graph()
        graph.check(plugin.params)
        assert {output.label for output in graph.outputs} <= labels(plugin)
        commands = {task.command for task in graph.tasks if isinstance(task, Rows)}
        index = {"popFrameIdx"} if any(output.index for output in graph.outputs) else set()
        assert commands | index <= set(plugin.row_commands)

    def test_graph_can_be_drawn(self, plugin: PipelinePlugin) -> None:
        if plugin.graph is None:
            return
        drawing = Drawing.declared(plugin)
        names = [task.name for task in drawing.graph.tasks]
        assert [node["name"] for node in json.loads(json.dumps(drawing.document()))["nodes"]] == names
        assert all(name in drawing.tree() and f" --> {name}" in drawing.mermaid() for name in names)

    def test_prepared_pipeline_answers_before_any_frame(self, plugin: PipelinePlugin, pipeline: Pipeline[Any]) -> None:
        assert set(pipeline.counters.read().values()) == {0}
        assert set(pipeline.last_frames().values()) <= {-1}
        assert set(plugin.info_attributes) <= set(pipeline.infos)
        assert [pipeline.pop(command) for command in plugin.row_commands] == [b""] * len(plugin.row_commands)
        for label in labels(plugin):
            with pytest.raises(NotAvailableError), pipeline.history(label).frame(-1):
                pytest.fail("there is no frame yet")

    def test_every_label_has_its_counter(self, pipeline: Pipeline[Any]) -> None:
        names = {"nb_frames_source", *(f"nb_frames_{key.removesuffix('_idx')}" for key in pipeline.last_frames())}
        assert names <= set(pipeline.counters.read())

    def test_run_counts_every_frame_once(self, pipeline: Pipeline[Any], rig: Rig) -> None:
        names = set(pipeline.counters.read())
        rig.run(pipeline, range(10))
        assert pipeline.counters.read()["nb_frames_source"] == 10
        assert set(pipeline.counters.read()) == names

    def test_finished_pipeline_can_be_read_finished_aborted_and_erased_again(
        self, plugin: PipelinePlugin, pipeline: Pipeline[Any], rig: Rig
    ) -> None:
        rig.run(pipeline, range(5))
        pipeline.finish()
        pipeline.abort(ProcessingError("too late to matter"))
        pipeline.erase()
        assert [pipeline.pop(command) for command in plugin.row_commands] == [b""] * len(plugin.row_commands)
        assert pipeline.counters.read()["nb_frames_source"] == 5

    def test_run_without_frames_finishes(self, pipeline: Pipeline[Any], rig: Rig) -> None:
        rig.run(pipeline, [])
        assert set(pipeline.counters.read().values()) == {0}

    def test_aborted_pipeline_refuses_frames_with_the_error_that_stopped_it(
        self, pipeline: Pipeline[Any], rig: Rig
    ) -> None:
        pipeline.activate(1)
        rig.feed(pipeline, range(4))
        error = ProcessingError("the camera burnt")
        pipeline.abort(error)
        counts = pipeline.counters.read()
        with pytest.raises(Lima2Error, match="the camera burnt"):
            rig.feed(pipeline, range(4, 8))
        with pytest.raises(Lima2Error, match="the camera burnt"):
            pipeline.finish()
        assert pipeline.counters.read() == counts

    def test_erased_pipeline_holds_no_frame(self, plugin: PipelinePlugin, pipeline: Pipeline[Any], rig: Rig) -> None:
        rig.run(pipeline, range(8))
        pipeline.erase()
        assert rig.pool.lent == 0
        for label in labels(plugin):
            with pytest.raises(NotAvailableError), pipeline.history(label).frame(-1):
                pytest.fail("the frame was erased")
