"""The form out of the schemas of real classes, and what it takes back."""

import json
import math

import pytest

from lima2_tango.cameras.simulator import PLUGIN
from lima2_tango.control.parameters import pipelines
from lima2_tango.core.errors import ParamError
from lima2_tango.web.form import COMMON, Field, as_json, changes, fields
from lima2_tango.web.report import AFTER_FAULT, OTHERWISE, explained

CLASSES = sorted(pipelines())


def form_of(class_name: str) -> list[Field]:
    proc = pipelines()[class_name].params
    schemas = [json.loads(declared.schema_text()) for declared in (PLUGIN.params, proc)]
    values = [declared().model_dump(mode="json") for declared in (PLUGIN.params, proc)]
    return fields(schemas[0], values[0], schemas[1], {"class_name": class_name, **values[1]})


@pytest.mark.parametrize("class_name", CLASSES)
def test_the_form_of_each_pipeline_takes_back_what_it_shows(class_name: str) -> None:
    found = form_of(class_name)
    json.dumps(as_json(found), allow_nan=False)
    paths = [each.path for each in found]
    assert len(set(paths)) == len(paths)
    assert [path for path in COMMON if path in paths] == paths[: sum(each.common for each in found)]
    taken = changes(found, {each.path: each.value for each in found})
    acq = PLUGIN.params().model_dump(mode="json")
    for path in ("acq.expo_time", "acq.nb_frames", "acq.trigger_mode", "det.width"):
        block, name = path.split(".")
        assert taken[path] == acq[block][name]


def test_times_are_seconds_for_people() -> None:
    exposure = next(each for each in form_of("LimaProcessingLegacy") if each.path == "acq.expo_time")
    assert (exposure.value, exposure.unit, exposure.label) == (0.1, "s", "Exposure")
    assert exposure.limits["least"] == 1e-6
    assert changes([exposure], {"acq.expo_time": 0.0123456}) == {"acq.expo_time": 12346}


def test_what_others_fill_in_is_no_field() -> None:
    names = {each.path.rpartition(".")[2] for each in form_of("LimaProcessingLegacy")}
    assert not names & {"filename_rank", "class_name", "acq_mode"}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("acq.nb_frames", "many"),
        ("acq.nb_frames", True),
        ("acq.nb_frames", None),
        ("acq.expo_time", math.nan),
        ("acq.expo_time", 10**400),
        ("acq.nb_frames", -(10**400)),
        ("acq.expo_time", [1]),
        ("saving.enabled", "yes"),
        ("saving.base_path", 3),
        ("acq.trigger_mode", 1),
        ("det.modules", "[1"),
        ("no.such", 1),
        ("__class__", 1),
    ],
)
def test_what_is_no_such_value_is_refused_with_its_path(path: str, value: object) -> None:
    with pytest.raises(ParamError) as refused:
        changes(form_of("LimaProcessingLegacy"), {path: value})
    assert refused.value.path == f"$.{path}"


@pytest.mark.parametrize(
    ("text", "what", "remedy"),
    [
        ("$.acq.expo_time = 0: give at least 1 us", "$.acq.expo_time = 0", "give at least 1 us"),
        ("a is down: its server ended; start it", "a is down: its server ended", "start it"),
        ("cannot start while idle", "cannot start while idle", OTHERWISE),
        ("$.a = 0: should be at least 1", "$.a = 0", "give another value, it should be at least 1"),
        ("receiver 0 (a/b/c): frame 20 failed", "receiver 0 (a/b/c): frame 20 failed", OTHERWISE),
        ("", "", OTHERWISE),
        (": ", ": ", OTHERWISE),
    ],
)
def test_a_sentence_is_told_apart_from_its_remedy(text: str, what: str, remedy: str) -> None:
    assert explained(text) == {"what": what, "remedy": remedy}
    assert explained(text, AFTER_FAULT)["what"] == what


@pytest.mark.parametrize(
    ("value", "why"), [(0, "at least 1e-06 s"), (-1, "at least 1e-06 s"), (1e9, "at most 10000 s")]
)
def test_limits_are_told_in_the_units_of_people(value: float, why: str) -> None:
    with pytest.raises(ParamError, match=why):
        changes(form_of("LimaProcessingLegacy"), {"acq.expo_time": value})
