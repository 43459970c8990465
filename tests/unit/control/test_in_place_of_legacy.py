"""A pipeline of one's own: what it declares is enough for the control, and for clients that only know Legacy."""

import json
from dataclasses import replace
from typing import Annotated, Any, Literal

import h5py
import hdf5plugin  # noqa: F401  (the filter that the files are compressed with)
import numpy as np
import pytest
from driving import driven
from pydantic import Field

from lima2_tango.control import parameters
from lima2_tango.control.own import faults
from lima2_tango.control.parameters import choose, pipelines
from lima2_tango.control.settings import Settings
from lima2_tango.core.errors import GraphError, ParamError
from lima2_tango.core.frame import FrameSpec
from lima2_tango.core.params import Int, Params
from lima2_tango.core.storage import SavingParams
from lima2_tango.processing.graph import Graph, Output
from lima2_tango.processing.nodes.histogram import Histogram
from lima2_tango.processing.offline import find_pipeline
from lima2_tango.processing.params import Accumulation, Fifo
from lima2_tango.processing.pipelines.legacy import PLUGIN as LEGACY
from lima2_tango.processing.plugin import PipelinePlugin, Product, build_graph
from lima2_tango.processing.task import CAMERA, Frames
from lima2_tango.processing.tasks import IMAGE, SUMS
from lima2_tango.testing.pipelines import Rig
from lima2_tango.testing.plugins import installed, write_package

OWN = "LimaProcessingCounted"
BINS = 8
DATA = "entry_0000/instrument/detector/data"


class CountedSaving(SavingParams):
    filename_prefix: str = "counted"


class CountedParams(Params):
    class_name: Literal["LimaProcessingCounted"] = OWN
    fifo: Fifo = Fifo()
    frame_idx_enabled: bool = False
    kept: Int = 50
    top: Annotated[Int, Field(ge=1)] = 64
    accumulation: Accumulation = Accumulation()
    saving: SavingParams = SavingParams()
    saving_counts: CountedSaving = CountedSaving()


GRAPH = Graph(
    tasks=(
        *IMAGE,
        replace(SUMS, reads="region"),
        Frames(
            name="histogram",
            does="how often each value occurs",
            reads="region",
            params=("$.top",),
            make=lambda place, top: Histogram(0, top, BINS, place.stream.spec, place.stream.valid),
        ),
    ),
    outputs=(
        Output(
            label="input",
            stream=CAMERA,
            buffer="$.kept",
            info="input_frame_info",
            counts=("nb_frames_source", "nb_frames_input"),
            index="$.frame_idx_enabled",
        ),
        Output(
            label="processed",
            stream="accumulation",
            buffer="$.kept",
            info="processed_frame_info",
            saving="$.saving",
            counts=("nb_frames_processed",),
        ),
        Output(
            label="counts",
            stream="histogram",
            buffer="$.kept",
            info="counts_info",
            saving="$.saving_counts",
            vectors=True,
            counts=("nb_vectors",),
        ),
    ),
)

PLUGIN = PipelinePlugin(
    class_name=OWN,
    doc="Frames, or their sums, and histograms of all.",
    params=CountedParams,
    build=build_graph(lambda: GRAPH),
    graph=lambda: GRAPH,
    frame_commands={"getInputFrame": "input", "getFrame": "processed"},
    vector_commands={"getCounts": ("counts", 0)},
    row_commands=("popFrameIdx",),
    info_attributes=("input_frame_info", "processed_frame_info", "counts_info"),
    progress="nb_vectors",
)


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pipeline is installed."""
    found = {**pipelines(), OWN: PLUGIN}
    monkeypatch.setattr(parameters, "pipelines", lambda: found)


def in_place_of_legacy(own: dict[str, Any], **legacy: Any) -> Any:
    asked = {"class_name": "LimaProcessingLegacy", "pipeline": {"class_name": OWN, **own}, **legacy}
    return choose(json.dumps(asked), Settings())


def test_a_graph_tells_what_it_delivers() -> None:
    assert PLUGIN.products() == (
        Product("input", "dense", "input_frame_info", "nb_frames_source"),
        Product("processed", "dense", "processed_frame_info", "nb_frames_processed", "saving", "accumulation"),
        Product("counts", "vector", "counts_info", "nb_vectors", "saving_counts"),
    )


@pytest.mark.parametrize("sums", [False, True])
def test_the_control_that_drives_knows_frames_vectors_and_sums_by_what_is_declared(tmp_path, sums) -> None:
    saving = {"base_path": str(tmp_path), "nb_frames_per_file": 3}
    proc = {
        "class_name": OWN,
        "saving": saving,
        "saving_counts": {**saving, "filename_prefix": "counted"},
        "accumulation": {"enabled": sums, "nb_frames": 2},
    }
    with driven() as job:
        job.write(tmp_path, proc, nb_frames=12)
        record = job.complete()
    assert (record.state.value, record.error) == ("done", "")
    assert (record.nb_frames_processed, record.nb_frames_saved) == (12, 6 if sums else 12)
    with h5py.File(tmp_path / "lima2_master.h5") as dense, h5py.File(tmp_path / "counted_master.h5") as counted:
        frames = dense[DATA][...]
        vectors = counted[DATA][...]
    assert vectors.shape == (12, BINS)
    assert (vectors.sum(axis=1) > 0).all()
    assert frames.shape[0] == (6 if sums else 12)
    if not sums:
        assert np.array_equal(vectors, [np.histogram(frame, BINS, (0, 64))[0] for frame in frames])
    assert len(list(tmp_path.glob("*.h5"))) == record.nb_files == 2 + 2 * 2 + (2 if sums else 4)


def test_in_the_place_of_legacy_it_takes_what_both_have_from_legacy() -> None:
    saving = {"base_path": "/data", "filename_rank": 3, "include_frame_idx": True, "filename_prefix": "x"}
    choice = in_place_of_legacy({"top": 10}, saving=saving, accumulation={"enabled": True, "nb_frames": 5})
    params = choice.params
    assert isinstance(params, CountedParams)
    assert (choice.plugin.class_name, choice.served.class_name) == (OWN, "LimaProcessingLegacy")
    assert (params.top, params.accumulation.nb_frames, params.saving.filename_prefix) == (10, 5, "x")
    assert (params.saving.filename_rank, params.saving_counts.filename_rank) == (3, 3)
    assert params.saving_counts.include_frame_idx
    assert params.saving_counts.filename_prefix == "counted"


def test_in_the_place_of_legacy_it_has_the_streams_that_clients_of_legacy_read() -> None:
    choice = in_place_of_legacy({}, saving={"enabled": False})
    with Rig() as rig:
        pipeline = choice.plugin.build(
            choice.params.model_copy(update={"saving_counts": CountedSaving(enabled=False)}), rig.setup
        )
        rig.run(pipeline, range(6))
        legacy = LEGACY.build(LEGACY.params(saving=SavingParams(enabled=False)), rig.setup)
        assert set(legacy.last_frames()) <= set(pipeline.last_frames())
        assert {"nb_frames_source", "nb_frames_input", "nb_frames_processed"} <= set(pipeline.counters.read())
        assert isinstance(pipeline.infos["processed_frame_info"], FrameSpec)
        for each in (pipeline, legacy):
            each.erase()


@pytest.mark.parametrize(
    ("own", "legacy", "refusal"),
    [
        ({"top": 0}, {}, r"\$\.pipeline\.top = 0: "),
        ({"tops": 1}, {}, r"\$\.pipeline\.tops = 1: "),
        ({}, {"accumulation": {"nb_frames": 0}}, r"\$\.accumulation\.nb_frames = 0: "),
        ({"accumulation": {}}, {}, r"\$\.pipeline\.accumulation = \{\}: the clients know it: give it as \$\.accum"),
        ({}, {"mask": {"enabled": True, "path": "m"}}, rf"\$\.mask = .*: the pipeline {OWN} has no mask"),
        ({}, {"statistics": {"rect_rois": [{}]}}, rf"\$\.statistics = .*: the pipeline {OWN} has no statistics"),
        ({"class_name": "Nobody"}, {}, r"\$\.pipeline\.class_name = \"Nobody\": choose one of .*LimaProcessingCounted"),
        ({"class_name": None}, {}, r"\$\.pipeline\.class_name = null: choose one of"),
        ({"class_name": ["x"]}, {}, r"\$\.pipeline\.class_name = \[\"x\"\]: choose one of"),
        ({"class_name": {"x": 1}}, {}, r"\$\.pipeline\.class_name = \{.*: choose one of"),
        ({"pipeline": {}}, {}, r"\$\.pipeline\.pipeline = \{\}: one pipeline takes the place of Legacy"),
        ({"saving_counts": {"nb_frames_per_file": 0}}, {}, r"\$\.pipeline\.saving_counts\.nb_frames_per_file = 0: "),
        ({"nodes": [{"reads": "itself"}] * 10_000}, {}, r"\$\.pipeline\.nodes = \[\{.{100,120}: there is no such"),
        ({"top": float("inf")}, {}, r"\$\.pipeline\.top = Infinity: "),
    ],
)
def test_what_is_asked_wrongly_is_refused_where_the_client_wrote_it(own, legacy, refusal) -> None:
    with pytest.raises(ParamError, match=refusal):
        in_place_of_legacy(own, **legacy)


def test_legacy_without_the_key_is_legacy() -> None:
    assert choose('{"class_name": "LimaProcessingLegacy", "pipeline": {}}', Settings()).plugin is LEGACY


def test_a_pipeline_that_clients_of_legacy_could_not_read_is_refused_at_prepare() -> None:
    fai = choose('{"class_name": "LimaProcessingLegacy", "pipeline": {"class_name": "LimaProcessingFai"}, '
                 '"saving": {"enabled": false}}', Settings())  # fmt: skip
    with Rig() as rig, pytest.raises(GraphError, match="LimaProcessingFai cannot run in the place of .*getInputFrame"):
        fai.plugin.build(fai.params, rig.setup)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"frame_commands": {"getInputFrame": "input"}}, "getFrame has to read an output processed"),
        ({"info_attributes": ("input_frame_info",)}, "the info of output processed has to be processed_frame_info"),
        ({"params": LEGACY.params, "row_commands": ("popRoiProfiles",)}, "it has to have the command popRoiStatistics"),
        ({"params": Params}, "it needs the parameter frame_idx_enabled"),
    ],
)
def test_faults_are_told(changes, fault) -> None:
    assert fault in " ".join(faults(replace(PLUGIN, **changes)))
    assert list(faults(PLUGIN)) == []


def test_a_broken_package_keeps_nobody_from_the_other_pipelines(tmp_path, monkeypatch, caplog) -> None:
    monkeypatch.undo()  # `known` above
    same = "from lima2_tango.processing.pipelines.failing import PLUGIN"
    files = {"broken": "import nothing_of_this_name", "number": "PLUGIN = 3", "same": f"{same}\n"}
    write_package(tmp_path, files, {"processing.pipelines": {name: f"{name}:PLUGIN" for name in files}})
    (tmp_path / "same.py").write_text(f"from dataclasses import replace\n{same} as THAT\nPLUGIN = replace(THAT)\n")
    with installed(tmp_path):
        assert choose('{"class_name": "LimaProcessingLegacy"}', Settings()).plugin is LEGACY
        assert find_pipeline("Fai").class_name == "LimaProcessingFai"
        for refused in (lambda: choose('{"class_name": "Broken"}', Settings()), lambda: find_pipeline("Broken")):
            with pytest.raises(ParamError) as error:
                refused()
            assert "the pipeline broken cannot be imported (ModuleNotFoundError: No module named" in error.value.reason
            assert "the pipeline number is a int, not a PipelinePlugin" in error.value.reason
            assert "the pipeline same has the class name of another, LimaProcessingFailing" in error.value.reason
    assert "the pipeline broken cannot be imported" in caplog.text
