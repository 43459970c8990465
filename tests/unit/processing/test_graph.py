"""A pipeline declared as data: what is refused and where, what runs, and how it is drawn."""

import json
from dataclasses import replace
from itertools import pairwise
from typing import Literal

import numpy as np
import pytest

from lima2_tango.core.acquisition import AcquisitionParams
from lima2_tango.core.errors import GraphError, ParamError, ProcessingError
from lima2_tango.core.frame import FrameSpec
from lima2_tango.core.params import Params
from lima2_tango.core.roi import PixelSize, Rectangle
from lima2_tango.core.storage import SavingParams
from lima2_tango.processing.drawing import Drawing
from lima2_tango.processing.fai import GRAPH as FAI
from lima2_tango.processing.graph import Graph, Output
from lima2_tango.processing.graphed import Graphed
from lima2_tango.processing.legacy import GRAPH as LEGACY
from lima2_tango.processing.node import Node
from lima2_tango.processing.nodes.centre import CENTRE, CentreOfMass
from lima2_tango.processing.nodes.derive import derive
from lima2_tango.processing.nodes.difference import Difference
from lima2_tango.processing.nodes.histogram import Histogram
from lima2_tango.processing.nodes.rotation import Rotation
from lima2_tango.processing.nodes.threshold import Threshold
from lima2_tango.processing.params import Accumulation, Count, Fifo, ImageFile, Statistics
from lima2_tango.processing.pipelines.fai import FaiParams
from lima2_tango.processing.pipelines.legacy import PLUGIN, LegacyParams
from lima2_tango.processing.plugin import PipelinePlugin, build_graph
from lima2_tango.processing.rows import ROI
from lima2_tango.processing.task import CAMERA, Frames, Joined, Rows, Sums
from lima2_tango.processing.tasks import IMAGE, SUMS, mask_alone, regions_of
from lima2_tango.testing.pipelines import SPEC, Rig, image


class HistogramSaving(SavingParams):
    filename_prefix: str = "histogram"


class OwnParams(Params):
    """Those of a user's own pipeline."""

    class_name: Literal["LimaProcessingOwn"] = "LimaProcessingOwn"
    fifo: Fifo = Fifo()
    nb_frames_buffer: Count = 100
    frame_idx_enabled: bool = True
    mask: ImageFile = ImageFile()
    turns: int = 1
    low: float = 3.0
    accumulation: Accumulation = Accumulation(enabled=True, nb_frames=3)
    statistics: Statistics = Statistics()
    saving: SavingParams = SavingParams()
    saving_histogram: HistogramSaving = HistogramSaving()


def centre(place, *_):
    spec = place.stream.spec
    whole = Rectangle(dimensions=PixelSize(x=spec.width, y=spec.height))
    return CentreOfMass([whole], "$.rois", spec, place.stream.valid)


OWN = Graph(
    tasks=(
        *IMAGE,
        Frames(name="correction", does="0 where masked", reads="region", params=("$.mask",), make=mask_alone),
        Frames(
            name="rotation",
            does="turned by right angles",
            reads="correction",
            params=("$.turns",),
            make=lambda _, turns: Rotation(turns),
        ),
        Frames(
            name="threshold",
            does="small values to 0",
            reads="rotation",
            params=("$.low",),
            make=lambda _, low: Threshold(low=low),
        ),
        Rows(name="centre", does="centre of mass", reads="threshold", make=centre, command="popCentres"),
        replace(SUMS, reads="threshold"),
        *regions_of("accumulation")[:1],
        Frames(
            name="histogram",
            does="of the values of sums",
            reads="accumulation",
            make=lambda place: Histogram(0, 200, 20, place.stream.spec, place.stream.valid),
        ),
    ),
    outputs=(
        Output(
            label="frames",
            stream="threshold",
            buffer="$.nb_frames_buffer",
            info="frame_info",
            counts=("nb_frames_source", "nb_frames_frames"),
            index="$.frame_idx_enabled",
            rows=("centre",),
        ),
        Output(
            label="sums",
            stream="accumulation",
            buffer="$.nb_frames_buffer",
            info="sum_info",
            saving="$.saving",
            counts=("nb_frames_sums",),
            saved="nb_frames_saved",
            rows=("statistics",),
        ),
        Output(
            label="histograms",
            stream="histogram",
            buffer="$.nb_frames_buffer",
            info="vector_info",
            saving="$.saving_histogram",
            vectors=True,
            counts=("nb_frames_histograms",),
        ),
    ),
)
OWN_PLUGIN = PipelinePlugin(
    class_name="LimaProcessingOwn",
    doc="A user's own.",
    params=OwnParams,
    build=build_graph(lambda: OWN),
    frame_commands={"getFrame": "frames", "getSum": "sums"},
    vector_commands={"getHistogram": ("histograms", 0)},
    row_commands=("popCentres", "popRoiStatistics", "popFrameIdx"),
    info_attributes=("frame_info", "sum_info", "vector_info"),
    graph=lambda: OWN,
)


@pytest.fixture
def rig():
    with Rig(budget=256 << 20) as rig:
        yield rig
        assert rig.pool.lent == 0
        assert all(sink.outstanding == 0 for sink in rig.sinks)


def own(rig, **params):
    return OWN_PLUGIN.build(OwnParams.model_validate(params, strict=False), rig.setup)


class TestAUsersGraph:
    def test_runs_at_both_paces(self, rig):
        pipeline = own(rig, statistics={"rect_rois": [{"dimensions": {"x": 2, "y": 3}}]})
        rig.run(pipeline, range(0, 20, 2), receivers=2, per_block=4)
        frames = np.stack([np.rot90(image(SPEC, i), 1, (1, 2)) for i in range(0, 20, 2)])
        frames = np.where(frames >= 3, frames, 0).astype("u2")
        sums = frames[:9].reshape(3, 3, 1, 16, 12).astype("u4").sum(1)
        assert rig.paths == ["$.saving", "$.saving_histogram"]
        assert np.array_equal(rig.sinks[0].frames, sums)
        assert rig.sinks[0].index == rig.sinks[1].index == [0, 2, 4]
        expected = [np.histogram(each, 20, (0, 200))[0] for each in sums]
        assert np.array_equal(np.array(rig.sinks[1].frames)[:, 0, 0], expected)
        assert pipeline.counters.read() == {
            "nb_frames_source": 10,
            "nb_frames_frames": 10,
            "nb_frames_sums": 3,
            "nb_frames_saved": 3,
            "nb_frames_histograms": 3,
        }
        assert pipeline.last_frames() == {"frames_idx": 18, "sums_idx": 4, "histograms_idx": 4}
        centres = np.frombuffer(pipeline.pop("popCentres"), CENTRE)
        weight = frames[4, 0].astype(float)
        assert centres["frame_idx"].tolist() == list(range(0, 20, 2))
        assert centres["y"][4] == pytest.approx((weight.sum(1) * np.arange(16)).sum() / weight.sum())
        statistics = np.frombuffer(pipeline.pop("popRoiStatistics"), ROI)
        assert statistics["sum"].tolist() == [each[0, :3, :2].sum() for each in sums]
        pipeline.erase()

    def test_frames_that_fail_leave_the_earlier_ones(self, rig):
        pipeline = own(rig)
        rig.sinks[1]._fail_at = 1
        with pytest.raises(Exception, match="no space left"):
            rig.run(pipeline, range(30))
        counts = pipeline.counters.read()
        assert (counts["nb_frames_histograms"], counts["nb_frames_sums"]) == (1, 1)
        pipeline.erase()

    def test_a_mask_turns_with_the_frame(self, rig, tmp_path):
        valid = np.ones((12, 16), "u1")
        valid[0, :5] = 0
        np.save(tmp_path / "mask.npy", valid)
        region = {"topleft": {"x": 0, "y": 11}, "dimensions": {"x": 1, "y": 5}}
        pipeline = own(
            rig,
            mask={"enabled": True, "path": str(tmp_path / "mask.npy")},
            statistics={"rect_rois": [region]},
            accumulation={"enabled": False},
        )
        rig.run(pipeline, range(3))
        assert np.frombuffer(pipeline.pop("popRoiStatistics"), ROI)["max"].tolist() == [0, 0, 0]
        pipeline.erase()

    def test_without_sums_all_goes_at_one_pace(self, rig):
        pipeline = own(rig, accumulation={"enabled": False})
        rig.run(pipeline, range(7))
        counts = pipeline.counters.read()
        assert {counts[name] for name in ("nb_frames_source", "nb_frames_sums", "nb_frames_histograms")} == {7}
        pipeline.erase()

    def test_a_lost_frame_is_zeros_and_its_sum_counts(self, rig):
        pipeline = own(rig)
        rig.run(pipeline, range(6), lost=[4])
        with pipeline.history("frames").frame(4) as (_, data):
            assert not data.any()
        assert np.frombuffer(pipeline.pop("popCentres"), CENTRE)["sum"][4] == 0
        assert [bool(frame.any()) for frame in rig.sinks[0].frames] == [True, True]
        pipeline.erase()


def moved(graph, name, /, **changes):
    """The graph with one task changed."""
    return replace(graph, tasks=tuple(replace(t, **changes) if t.name == name else t for t in graph.tasks))


def kept(graph, label, /, **changes):
    """The graph with one output changed."""
    return replace(graph, outputs=tuple(replace(o, **changes) if o.label == label else o for o in graph.outputs))


FAULTS = {
    "two of a name": (moved(LEGACY, "flip", name="binning"), "node binning: there are two of this name"),
    "unknown source": (moved(LEGACY, "flip", reads="bining"), "node flip: it reads bining, which no node before it"),
    "later source": (moved(LEGACY, "binning", reads="region"), "node binning: it reads region, which no node before"),
    "source of rows": (moved(LEGACY, "profiles", reads="statistics"), "node profiles: it reads statistics"),
    "unknown mask": (moved(LEGACY, "protection", masked_as="mask"), "node protection: it reads mask"),
    "unknown parameter": (
        moved(LEGACY, "statistics", params=("$.statistisc",)),
        r"node statistics: there is no parameter \$\.statistisc",
    ),
    "unknown leaf": (moved(LEGACY, "flip", params=("$.img.flop",)), r"node flip: there is no parameter \$\.img\.flop"),
    "unknown stream": (kept(LEGACY, "processed", stream="summed"), "output processed: it keeps summed"),
    "kept rows": (kept(LEGACY, "processed", stream="statistics"), "output processed: it keeps statistics"),
    "unknown saving": (kept(LEGACY, "processed", saving="$.save"), r"output processed: there is no parameter \$\.save"),
    "unknown rows": (kept(LEGACY, "processed", rows=("roi",)), "output processed: it delivers what roi makes"),
    "other pace": (kept(LEGACY, "input", rows=("profiles",)), "output input: .* at another pace than camera"),
    "label of two": (
        replace(LEGACY, outputs=(*LEGACY.outputs, replace(LEGACY.outputs[0], counts=("nb_more",), rows=()))),
        f"output {LEGACY.outputs[0].label}: there is another with the label {LEGACY.outputs[0].label}",
    ),
    "counter of two": (
        replace(LEGACY, outputs=(*LEGACY.outputs, replace(LEGACY.outputs[0], label="again", rows=()))),
        f"output again: there is another with the counter {LEGACY.outputs[0].counts[0]}",
    ),
    "rows twice": (
        kept(LEGACY, "processed", rows=("statistics", "profiles", "statistics")),
        "output processed: there is another with the rows of node statistics",
    ),
    "command of two": (
        moved(LEGACY, "profiles", command="popRoiStatistics"),
        "node profiles: there is another with the command popRoiStatistics",
    ),
    "reads itself": (moved(LEGACY, "flip", reads="flip"), "node flip: it reads flip, which no node before it makes"),
    "rows for nobody": (kept(LEGACY, "processed", rows=("profiles",)), "node statistics: no output delivers"),
}


@pytest.mark.parametrize(("graph", "fault"), FAULTS.values(), ids=FAULTS)
def test_a_graph_that_does_not_fit_is_refused_with_the_address(rig, graph, fault):
    with pytest.raises(GraphError, match=f"^{fault}"):
        Graphed(LegacyParams(), rig.setup, graph)


def test_a_control_that_asks_first_what_a_graph_in_circles_delivers_gets_an_answer():
    circle = moved(moved(LEGACY, "binning", reads="region"), "correction", reads="correction")
    assert [circle.product(output, sparse=False).label for output in circle.outputs] == ["input", "processed"]
    unknown = kept(LEGACY, "processed", stream="nothing")
    assert unknown.product(unknown.outputs[-1], sparse=False).sums == ""


def test_a_graph_of_ten_thousand_nodes_is_checked_in_one_go():
    names = [CAMERA, *(f"node{i}" for i in range(10_000))]
    tasks = tuple(
        Joined(name=name, does="", reads=before, also=(CAMERA,), make=lambda *_: None)
        for before, name in pairwise(names)
    )
    output = replace(LEGACY.outputs[0], stream=names[-1], rows=(), tallies={}, index="")
    graph = Graph(tasks, (output,))
    graph.check(LegacyParams)
    with pytest.raises(GraphError, match="node node9999: it reads nobody"):
        moved(graph, "node9999", reads="nobody").check(LegacyParams)


@pytest.mark.parametrize(("graph", "params"), [(LEGACY, LegacyParams), (FAI, FaiParams), (OWN, OwnParams)])
def test_a_graph_fits_its_parameters(graph, params):
    graph.check(params)


def with_node(make):
    tasks = (*IMAGE, Frames(name="mine", does="", reads="region", params=("$.background",), make=make))
    return replace(LEGACY, tasks=(*tasks, *moved(LEGACY, "correction", reads="mine").tasks[3:]))


class Odd(Node):
    """Promises frames of its own spec, and delivers others."""

    def output_spec(self, spec):
        return FrameSpec(*spec.shape, np.dtype("f4"))

    def process(self, block, pool):
        return derive(block, block.spec, pool, lambda out: np.copyto(out, block.data))


@pytest.mark.parametrize("error", [ValueError("odd"), GraphError("odd"), KeyError("odd")])
def test_what_a_node_raises_has_its_address(rig, error):
    def make(*_):
        raise error

    with pytest.raises(GraphError, match=r"^node mine \(parameters \$\.background\), which reads region: .*odd"):
        Graphed(LegacyParams(), rig.setup, with_node(make))


def test_a_refused_parameter_keeps_its_own_path(rig):
    def make(*_):
        raise ParamError("$.background.path", "", "odd")

    with pytest.raises(ParamError, match=r"^\$\.background\.path"):
        Graphed(LegacyParams(), rig.setup, with_node(make))


def test_a_node_that_breaks_its_promise_is_refused_at_prepare(rig):
    with pytest.raises(ProcessingError, match="node mine made uint16 of"):
        Graphed(LegacyParams(), rig.setup, with_node(lambda *_: Odd()))


def test_a_mask_of_other_frames_is_refused(rig):
    graph = moved(LEGACY, "protection", reads=CAMERA)
    params = LegacyParams.model_validate({"max_countrate_protection": {"enabled": True}})
    binned = replace(rig.setup, acquisition=AcquisitionParams.model_validate({"img": {"binning": {"x": 2, "y": 2}}}))
    with pytest.raises(GraphError, match="node protection .* masked as correction"):
        Graphed(params, binned, graph)


class TestDrawing:
    def test_as_declared_every_node_stands_below_what_it_reads(self):
        tree = Drawing.declared(PLUGIN).tree().splitlines()
        depth = {line.strip("│├└─ ").split()[0]: len(line) - len(line.lstrip("│├└─ ")) for line in tree}
        for task in LEGACY.tasks:
            assert depth[task.name] > depth[task.reads]
        assert any("[processed]" in line and "getFrame, saved as $.saving" in line for line in tree)

    def test_a_chain_of_five_thousand_nodes_is_drawn_no_wider_than_a_page(self):
        names = [CAMERA, *(f"node{i}" for i in range(5000))]
        tasks = tuple(
            Frames(name=name, does="", reads=before, make=lambda *_: None) for before, name in pairwise(names)
        )
        output = replace(LEGACY.outputs[0], stream=names[-1], rows=(), tallies={}, index="")
        drawing = Drawing.declared(replace(PLUGIN, graph=lambda: Graph(tasks, (output,))))
        lines = drawing.tree().splitlines()
        told = [line.strip("│├└─ ").split()[0] for line in lines if "from above" not in line]
        assert told == [*names, f"[{output.label}]"]
        assert max(map(len, lines)) < 200
        assert all(f"{before} --> {name}" in drawing.mermaid() for before, name in pairwise(names[-3:]))
        assert len(drawing.document()["nodes"]) == 5000

    def test_a_branch_that_goes_on_too_deep_is_drawn_below_where_others_ended(self):
        names = [CAMERA, *(f"node{i}" for i in range(40))]
        chain = [Frames(name=name, does="", reads=before, make=lambda *_: None) for before, name in pairwise(names)]
        side = Frames(name="side", does="", reads="node3", make=lambda *_: None)
        output = replace(LEGACY.outputs[0], stream=names[-1], rows=(), tallies={}, index="")
        tree = Drawing.declared(replace(PLUGIN, graph=lambda: Graph((*chain, side), (output,)))).tree().splitlines()
        told = [line.strip("│├└─ ").split()[0] for line in tree]
        again = tree.index(next(line for line in tree if "from above" in line))
        assert told == [*names[: again - 1], "side", told[again], *names[again - 1 :], f"[{output.label}]"]
        assert told[again] == told[again - 2]

    def test_as_prepared_it_shows_what_leaves_each_node(self):
        params = OwnParams.model_validate({"statistics": {"rect_rois": [{"dimensions": {"x": 2, "y": 3}}]}})
        drawing = Drawing.declared(OWN_PLUGIN).prepared(params, AcquisitionParams(), SPEC)
        tree = drawing.tree()
        assert "turned by right angles ($.turns): 1 x 16 x 12 uint16" in tree
        assert "sum of consecutive frames ($.accumulation): 1 x 16 x 12 uint32, one for 3 of the camera" in tree
        nodes = {node["name"]: node for node in drawing.document()["nodes"]}
        assert nodes["histogram"]["spec"] == {"channels": 1, "height": 1, "width": 20, "dtype": "uint32", "per": 3}
        assert not nodes["binning"]["active"]
        assert nodes["statistics"]["active"]
        assert nodes["statistics"]["spec"] is None

    def test_a_program_reads_the_same(self):
        document = json.loads(json.dumps(Drawing.declared(PLUGIN).document()))
        assert [node["name"] for node in document["nodes"]] == [task.name for task in LEGACY.tasks]
        assert [output["label"] for output in document["outputs"]] == ["input", "processed"]
        assert document["outputs"][1]["counters"] == ["nb_frames_processed", "nb_frames_saved"]

    def test_a_page_shows_every_edge(self):
        chart = Drawing.declared(OWN_PLUGIN).mermaid()
        assert chart.startswith("flowchart")
        assert all(f"    {task.reads} --> {task.name}" in chart for task in OWN.tasks)

    def test_what_prepare_refuses_is_refused(self):
        params = OwnParams.model_validate({"statistics": {"rect_rois": [{"dimensions": {"x": 99, "y": 3}}]}})
        with pytest.raises(ParamError, match=r"\$\.statistics\.rect_rois\[0\]"):
            Drawing.declared(OWN_PLUGIN).prepared(params, AcquisitionParams(), SPEC)

    def test_a_pipeline_of_code_alone_has_no_drawing(self):
        with pytest.raises(ParamError, match="declares no graph"):
            Drawing.declared(replace(PLUGIN, graph=None))


def test_sums_of_sums_are_another_pace(rig):
    twice = Sums(
        name="again",
        does="sums of sums",
        reads="accumulation",
        params=("$.accumulation",),
        make=SUMS.make,
        kernels="accumulation",
    )
    graph = replace(kept(OWN, "sums", stream="again", rows=()), tasks=(*OWN.tasks, twice))
    graph = replace(graph, tasks=tuple(task for task in graph.tasks if task.name != "statistics"))
    pipeline = Graphed(OwnParams(), rig.setup, graph)
    rig.run(pipeline, range(20))
    counts = pipeline.counters.read()
    assert (counts["nb_frames_source"], counts["nb_frames_histograms"], counts["nb_frames_sums"]) == (20, 6, 2)
    pipeline.erase()


JOINED = Graph(
    tasks=(
        *OWN.tasks[:4],  # image operations, mask
        Frames(
            name="background",
            does="large values to 0",
            reads="correction",
            make=lambda _: Threshold(high=30.0),
        ),
        Joined(
            name="rest",
            does="what is left of a frame",
            reads="correction",
            also=("background",),
            make=lambda _: Difference(),
        ),
    ),
    outputs=(replace(OWN.outputs[0], stream="rest", rows=(), saving="$.saving"),),
)


@pytest.mark.parametrize("lost", [(), (3,)])
def test_two_streams_come_together_in_one_node(rig, tmp_path, lost):
    valid = np.random.default_rng(0).random(SPEC.shape[1:]) > 0.2
    np.save(tmp_path / "valid.npy", valid)
    params = OwnParams(mask=ImageFile(enabled=True, path=f"{tmp_path}/valid.npy"))
    pipeline = Graphed(params, rig.setup, JOINED)
    rig.run(pipeline, range(9), lost=lost)
    frames = np.stack([np.where(valid, image(SPEC, i), 0) * (i not in lost) for i in range(9)])
    assert np.array_equal(rig.sinks[0].frames, np.where(frames > 30, frames, 0).astype("f4"))
    pipeline.erase()


def test_streams_of_another_pace_do_not_come_together():
    tasks = (*OWN.tasks, Joined(name="rest", does="", reads="threshold", also=("accumulation",), make=Difference))
    with pytest.raises(GraphError, match="node rest: it reads threshold and accumulation, which go at another pace"):
        replace(OWN, tasks=tasks).check(OwnParams)


def test_a_stream_that_is_not_there_cannot_be_joined():
    tasks = (*OWN.tasks, Joined(name="rest", does="", reads="threshold", also=("nothing",), make=Difference))
    with pytest.raises(GraphError, match="node rest: it reads nothing, which no node before it makes"):
        replace(OWN, tasks=tasks).check(OwnParams)


def test_streams_that_do_not_fit_are_refused_with_both_names(rig):
    turned = replace(OWN.tasks[4], make=lambda *_: Rotation(1), params=())
    joined = replace(JOINED.tasks[-1], also=("rotation",))
    with pytest.raises(GraphError, match="node rest, which reads correction and rotation: .* have no difference"):
        Graphed(OwnParams(), rig.setup, replace(JOINED, tasks=(*JOINED.tasks[:4], turned, joined)))


def test_what_is_joined_is_drawn_with_both():
    plugin = replace(OWN_PLUGIN, graph=lambda: JOINED)
    drawing = Drawing.declared(plugin)
    assert "background --> rest" in drawing.mermaid()
    assert "correction --> rest" in drawing.mermaid()
    assert "what is left of a frame, with background" in drawing.tree()
    assert drawing.document()["nodes"][-1]["also"] == ["background"]
