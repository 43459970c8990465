"""What BLISS and the conductor write for a Dectris detector is known, and what it asks for is told from the schema."""

import json
from typing import Any

import jsonschema_default
import jsonschema_rs
import pytest

from lima2_tango.cameras.dectris import PLUGIN
from lima2_tango.cameras.dectris._params import DectrisParams
from lima2_tango.core.errors import ParamError
from lima2_tango.core.params import Params

BLISS: dict[str, Any] = {
    "acq": {
        "nb_frames": 1,
        "expo_time": 100000,
        "latency_time": 10,
        "trigger_mode": "internal",
        "nb_frames_per_trigger": 1,
    },
    "det": {
        "thresholds": [{"energy": 4020.5, "enabled": True}, {"energy": 4020.5, "enabled": True}],
        "difference": {"enabled": False},
        "roi": "full",
        "trigger_start_delay": 0.0,
        "nb_pipeline_threads": 1,
        "pixel_mask_applied": True,
        "mask_to_zero": False,
        "flatfield_correction_applied": True,
    },
    "exp": {"photon_energy": 8041},
    "saving": {
        "enabled": False,
        "base_path": "/tmp",
        "filename_format": "{filename_prefix}_{filename_rank}_{file_number:05d}{filename_suffix}",
        "filename_prefix": "lima2",
        "filename_rank": 0,
        "filename_suffix": ".h5",
        "start_number": 0,
        "nb_frames_per_file": 50,
        "file_exists_policy": "abort",
        "nb_dimensions": "dim_3d_or_4d",
        "nx_entry_name": "entry_0000",
        "nx_instrument_name": "instrument",
        "nx_detector_name": "detector",
        "include_frame_idx": False,
    },
}


def test_what_bliss_writes_is_taken() -> None:
    params = PLUGIN.params.parse(json.dumps(BLISS))
    assert isinstance(params, DectrisParams)
    assert [threshold.enabled for threshold in params.det.thresholds] == [True, True]
    assert params.exp.photon_energy == 8041.0


def test_the_schema_makes_its_own_defaults_and_takes_them_and_what_bliss_writes() -> None:
    schema = DectrisParams.schema_text()
    made = jsonschema_default.create_from(schema)
    assert DectrisParams.parse(json.dumps(made)) == DectrisParams()
    for asked in (made, BLISS):
        jsonschema_rs.validator_for(schema).validate(asked)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("det.overload", "wait"),
        ("det.stream", "stream3"),
        ("det.roi", ""),
        ("det.nb_pipeline_threads", 0),
        ("exp.photon_energy", 0),
        ("det.thresholds", [{"energy": -1}]),
        ("det.surprise", 1),
    ],
)
def test_what_cannot_be_is_refused_with_its_path(path: str, value: object) -> None:
    block, key = path.split(".")
    with pytest.raises(ParamError) as caught:
        DectrisParams.parse(json.dumps({block: {key: value}}))
    assert caught.value.path.startswith(f"$.{path}")


def test_every_parameter_says_what_it_is() -> None:
    def check(model: type[Params], path: str) -> None:
        for name, field in model.model_json_schema()["properties"].items():
            assert field.get("description") or "$ref" in field or "allOf" in field, f"{path}.{name}"

    check(type(DectrisParams().det), "$.det")
