"""From what a script asks for to parameters that the server takes."""

import copy
import json
from pathlib import Path

import pytest

from lima2_tango.cameras.simulator import PLUGIN
from lima2_tango.client.parameters import Json, Settings, changed, edited, pipeline_class
from lima2_tango.core.acquisition import TriggerMode
from lima2_tango.core.errors import ParamError
from lima2_tango.core.roi import Arc, Direction, PixelPosition, PixelSize, Rectangle
from lima2_tango.core.storage import Compression, SavingParams
from lima2_tango.processing.pipelines.legacy import LegacyParams

ACQ: Json = json.loads(PLUGIN.params().json_text())
PROC: Json = json.loads(LegacyParams().json_text())
RECTANGLE = Rectangle(topleft=PixelPosition(x=1, y=2), dimensions=PixelSize(x=3, y=4))


def made(settings: Settings) -> tuple[Json, Json]:
    """The server takes what comes out."""
    acq, proc = edited(ACQ, PROC, settings)
    PLUGIN.params.parse(json.dumps(acq))
    LegacyParams.parse(json.dumps(proc))
    return acq, proc


def test_nothing_asked_for_changes_nothing() -> None:
    assert made({}) == (ACQ, PROC)


def test_what_is_given_is_not_touched() -> None:
    before = copy.deepcopy((ACQ, PROC))
    made({"nb_frames": 7, "rois": [RECTANGLE], "changes": {"det.generator.gauss.peaks[0].x0": 5.0}})
    assert (ACQ, PROC) == before


def test_times_are_seconds_and_become_microseconds() -> None:
    acq, _ = made({"expo_time": 0.0123456789, "latency_time": 1e-6, "nb_frames": 0})
    assert (acq["acq"]["expo_time"], acq["acq"]["latency_time"], acq["acq"]["nb_frames"]) == (12346, 1, 0)


@pytest.mark.parametrize("mode", [TriggerMode.SOFTWARE, "software"])
def test_an_enumeration_goes_by_value_or_name(mode: TriggerMode | str) -> None:
    assert made({"trigger_mode": mode})[0]["acq"]["trigger_mode"] == "software"


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), "1", None, True], ids=str)
def test_a_time_that_is_none_is_refused(seconds: object) -> None:
    with pytest.raises(ParamError, match=r"\$\.acq\.expo_time .* seconds"):
        edited(ACQ, PROC, {"expo_time": seconds})  # type: ignore[typeddict-item]


@pytest.mark.parametrize(
    "saving",
    ["/data/x", Path("/data/x"), {"base_path": Path("/data/x")}, SavingParams(base_path="/data/x")],
    ids=["text", "path", "by name", "all of them"],
)
def test_saving_is_a_folder_or_parameters(saving: object) -> None:
    _, proc = made({"saving": saving})  # type: ignore[typeddict-item]
    assert proc["saving"]["enabled"]
    assert proc["saving"]["base_path"] == "/data/x"


def test_saving_by_name_keeps_the_rest() -> None:
    _, before = edited(ACQ, PROC, {"changes": {"saving.compression": "zip"}})
    _, proc = edited(ACQ, before, {"saving": {"filename_prefix": "p"}})
    assert (proc["saving"]["compression"], proc["saving"]["filename_prefix"]) == ("zip", "p")
    assert edited(ACQ, before, {"saving": SavingParams()})[1]["saving"]["compression"] == Compression.BSHUF_LZ4


def test_no_saving_disables_every_saving_of_the_pipeline() -> None:
    _, proc = edited(ACQ, {"saving_dense": {"enabled": True}, "saving_peaks": {"enabled": True}}, {"saving": None})
    assert [block["enabled"] for block in proc.values()] == [False, False]


def test_regions_are_rectangles_corners_and_arcs() -> None:
    _, proc = made({"rois": [RECTANGLE, Arc(r1=1.0, r2=5.0), (5, 6, 7, 8)]})
    assert [roi["topleft"]["x"] for roi in proc["statistics"]["rect_rois"]] == [1, 5]
    assert proc["statistics"]["rect_rois"][1]["dimensions"] == {"x": 7, "y": 8}
    assert [arc["r2"] for arc in proc["statistics"]["arc_rois"]] == [5]


def test_regions_replace_those_before() -> None:
    _, before = made({"rois": [RECTANGLE], "profiles": [(RECTANGLE, "vertical")]})
    _, proc = edited(ACQ, before, {"rois": (), "profiles": ()})
    assert proc["statistics"]["rect_rois"] == proc["profiles"]["rois"] == proc["profiles"]["directions"] == []


def test_profiles_have_a_direction_each() -> None:
    _, proc = made({"profiles": [(RECTANGLE, Direction.VERTICAL), ((0, 0, 9, 9), "horizontal")]})
    assert proc["profiles"]["directions"] == ["vertical", "horizontal"]
    assert len(proc["profiles"]["rois"]) == 2


def test_changes_come_last_and_reach_everything() -> None:
    changes = {"acq.nb_frames": 9, "$.det.generator.gauss.peaks[0].x0": 3.5, "buffers.nb_frames_buffer": 4}
    acq, proc = made({"nb_frames": 1, "changes": changes})
    assert acq["acq"]["nb_frames"] == 9
    assert acq["det"]["generator"]["gauss"]["peaks"][0]["x0"] == 3.5
    assert proc["buffers"]["nb_frames_buffer"] == 4


@pytest.mark.parametrize(
    ("path", "near"),
    [("acq.nb_framse", "acq.nb_frames"), ("nb_frames", ""), ("savng.base_path", "saving.base_path"), ("acq", None)],
)
def test_an_unknown_path_is_refused_with_one_that_is_near(path: str, near: str | None) -> None:
    if near is None:
        changed(ACQ, PROC, {path: ACQ["acq"]})
        return
    with pytest.raises(ParamError, match="there is no such parameter") as refusal:
        changed(ACQ, PROC, {path: 3})
    assert near in str(refusal.value)
    assert refusal.value.path == f"$.{path}"


@pytest.mark.parametrize("path", ["", "$.", ".acq", "acq..nb_frames", "acq.", "[0]", "a]b", "acq[x]"])
def test_what_is_no_path_is_refused(path: str) -> None:
    with pytest.raises(ParamError, match="path of a parameter|no such parameter"):
        changed(ACQ, PROC, {path: 3})


@pytest.mark.parametrize(
    "path", ["det.generator.gauss.peaks[7].x0", "acq.nb_frames.x", "acq[0]", "det.generator.gauss.peaks.x0"]
)
def test_a_path_that_leads_nowhere_is_refused(path: str) -> None:
    with pytest.raises(ParamError, match="no such parameter"):
        changed(ACQ, PROC, {path: 3})


@pytest.mark.parametrize(
    "settings", [{"saving": "/data"}, {"rois": [RECTANGLE]}, {"profiles": [(RECTANGLE, "vertical")]}]
)
def test_what_a_pipeline_does_not_have_is_refused_where_it_is_asked_for(settings: Settings) -> None:
    bare: Json = {"class_name": "LimaProcessingBare"}
    with pytest.raises(ParamError, match="LimaProcessingBare"):
        edited(ACQ, bare, settings)
    assert edited(ACQ, bare, {"saving": None, "rois": (), "profiles": ()}) == (ACQ, bare)


@pytest.mark.parametrize("region", [(1, 2, 3), "abcde", 5, None])
def test_a_region_that_is_none_is_refused(region: object) -> None:
    with pytest.raises(ParamError, match="rectangle"):
        edited(ACQ, PROC, {"rois": [region]})  # type: ignore[list-item]


@pytest.mark.parametrize("name", ["Legacy", "legacy", "LimaProcessingLegacy"])
def test_a_pipeline_goes_by_its_class_or_the_end_of_it(name: str) -> None:
    assert pipeline_class(name) == "LimaProcessingLegacy"
