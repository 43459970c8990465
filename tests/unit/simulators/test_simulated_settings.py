"""The simulated detector's parameters: limits, and what follows from what."""

import json

import numpy as np
import pytest

from lima2_tango.core.errors import ParamError
from lima2_tango.simulators.dectris import settings
from lima2_tango.simulators.dectris.models import MODELS, READOUT_TIME, find_model
from lima2_tango.simulators.dectris.values import RefusedError, Value, array_of, darray

MODEL = find_model("eiger2-16m")


@pytest.fixture
def table():
    return settings.detector_table(MODEL, "1.8.0")


def put(table, key, value):
    return settings.put(table, key, value, MODEL)


@pytest.mark.parametrize("name", MODELS)
def test_every_model_has_consistent_parameters(name):
    model = MODELS[name]
    table = settings.detector_table(model, "1.8.0")
    assert (table["x_pixels_in_detector"].value, table["y_pixels_in_detector"].value) == (
        model.full.width,
        model.full.height,
    )
    assert len(settings.thresholds(table)) == model.thresholds
    assert ("extg" in table["trigger_mode"].allowed) is name.startswith("eiger2")
    for key, value in table.items():
        if "w" in value.access:
            assert value.checked(key, value.value) == value.value
        json.dumps(value.as_json())


def test_a_value_says_all_that_a_client_asks(table):
    assert table["count_time"].as_json() == {
        "access_mode": "rw",
        "value": 0.5,
        "value_type": "float",
        "unit": "s",
        "min": READOUT_TIME,
        "max": settings.LONGEST,
    }
    assert table["trigger_mode"].as_json()["allowed_values"] == ["exte", "extg", "exts", "inte", "ints"]
    assert "min" not in table["description"].as_json()


def test_a_longer_count_time_makes_the_frame_time_longer(table):
    changed = put(table, "count_time", 2)
    assert table["frame_time"].value == pytest.approx(2 + READOUT_TIME)
    assert {"count_time", "frame_time"} <= set(changed)
    assert isinstance(table["count_time"].value, float)


def test_a_shorter_frame_time_makes_the_count_time_shorter(table):
    put(table, "frame_time", 0.1)
    assert table["count_time"].value == pytest.approx(0.1 - READOUT_TIME)


@pytest.mark.parametrize(("frame_time", "bits"), [(0.5, 32), (0.02, 16), (1 / 133, 16), (1 / 200, 8)])
def test_the_frame_time_decides_the_bits_of_a_pixel(table, frame_time, bits):
    put(table, "frame_time", frame_time)
    assert table["bit_depth_image"].value == bits


def test_without_summation_there_are_16_bits(table):
    put(table, "auto_summation", False)
    assert table["bit_depth_image"].value == 16


def test_a_region_of_interest_is_smaller_and_faster(table):
    slow = table["frame_time"].least
    changed = put(table, "roi_mode", "4M-L")
    assert {"x_pixels_in_detector", "y_pixels_in_detector"} <= set(changed)
    assert (table["x_pixels_in_detector"].value, table["y_pixels_in_detector"].value) == (2068, 2162)
    assert table["frame_time"].least < slow


def test_the_energy_sets_wavelength_and_thresholds(table):
    changed = put(table, "photon_energy", 8041.0)
    assert table["threshold/1/energy"].value == table["threshold_energy"].value == 4020.5
    assert table["wavelength"].value == pytest.approx(1.5419, abs=1e-3)
    assert {"incident_energy", "wavelength", "threshold/2/energy"} <= set(changed)
    put(table, "element", "Cu")
    assert table["photon_energy"].value == settings.K_ALPHA["Cu"]
    put(table, "wavelength", 1.0)
    assert table["element"].value == ""


def test_difference_and_thresholds_exclude_each_other(table):
    assert settings.channels(table) == ["threshold_1"]
    put(table, "threshold/2/mode", "enabled")
    assert settings.channels(table) == ["threshold_1", "threshold_2"]
    changed = put(table, "threshold/difference/mode", "enabled")
    assert settings.channels(table) == ["difference"]
    assert {"threshold/1/mode", "threshold/2/mode"} <= set(changed)
    put(table, "threshold/2/mode", "enabled")
    assert settings.channels(table) == ["threshold_2"]


def test_version_1_6_knows_one_threshold():
    table = settings.detector_table(MODEL, "1.6.0")
    assert not any(key.startswith("threshold/") for key in table)
    assert settings.channels(table) == ["threshold_1"]
    assert "format" not in settings.stream_table("1.6.0")
    put(table, "photon_energy", 8000.0)
    assert table["threshold_energy"].value == 4000.0


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("count_time", 1e9, "out of range: 1e-07 to 3600 s"),
        ("count_time", float("nan"), "out of range"),
        ("count_time", "1", "type float"),
        ("count_time", True, "type float"),
        ("nimages", 0, "out of range"),
        ("nimages", 2.5, "type uint"),
        ("trigger_mode", "extx", "one of exte, extg"),
        ("mask_to_zero", 1, "type bool"),
        ("description", "mine", "read-only"),
        ("frame_time", 1e-6, "out of range"),
    ],
)
def test_what_is_wrong_is_refused_and_changes_nothing(table, key, value, why):
    before = {name: entry.value for name, entry in table.items()}
    with pytest.raises(RefusedError, match=why) as caught:
        put(table, key, value)
    assert caught.value.status == 400
    assert key in str(caught.value)
    assert {name: entry.value for name, entry in table.items()} == before


def test_what_there_is_not_is_not_found(table):
    with pytest.raises(RefusedError, match="unknown path") as caught:
        put(table, "nimage", 1)
    assert caught.value.status == 404


def test_a_mask_goes_there_and_back():
    mask = np.arange(6, dtype=np.uint32).reshape(2, 3)
    value = Value(mask, "uint[][]")
    assert (value.checked("pixel_mask", darray(mask)) == mask).all()
    assert value.as_json()["value"]["shape"] == [2, 3]
    assert (array_of("pixel_mask", {**darray(mask), "shape": [3, 2]}, mask) == mask).all()


@pytest.mark.parametrize("broken", [None, 3, {}, {"data": "AAAA", "type": "<u4", "shape": [2, 3]}, {"data": 1}])
def test_a_mask_that_does_not_fit_is_refused(broken):
    value = Value(np.zeros((2, 3), np.uint32), "uint[][]")
    with pytest.raises(RefusedError, match="pixel_mask"):
        value.checked("pixel_mask", broken)


def test_a_model_that_there_is_not():
    with pytest.raises(ParamError, match="eiger2-1m"):
        find_model("eiger3")
