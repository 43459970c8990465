"""Readings of a detector as attributes: value, unit, and when they are in alarm."""

import pytest
from tango import AttrQuality

from lima2_tango.cameras.base import Reading
from lima2_tango.core.plugins import available, load
from lima2_tango.devices.control import ControlDevice
from lima2_tango.devices.factory import camera_classes
from lima2_tango.devices.readings import timed
from lima2_tango.devices.scalars import scalar_attributes

WARMTH = Reading(float, "How warm it is.", "degC", most=40.0)
VOLTAGE = Reading(str, "Of the sensor.", good=("READY",))
STATE = Reading(str, "What it does.", good=("idle",), key="state")


def found(reading: Reading, status: dict[str, object]) -> tuple[object, AttrQuality]:
    value, _, quality = timed("one", reading, status)
    return value, quality


@pytest.mark.parametrize(
    ("reading", "status", "value", "quality"),
    [
        (WARMTH, {"one": 22.5}, 22.5, AttrQuality.ATTR_VALID),
        (WARMTH, {"one": 22.5, "alarms": ["one"]}, 22.5, AttrQuality.ATTR_ALARM),
        (WARMTH, {"one": 22.5, "alarms": ["other"]}, 22.5, AttrQuality.ATTR_VALID),
        (WARMTH, {"one": 22.5, "state": "unreachable"}, 22.5, AttrQuality.ATTR_INVALID),
        (WARMTH, {}, 0.0, AttrQuality.ATTR_INVALID),
        (VOLTAGE, {"one": "READY"}, "READY", AttrQuality.ATTR_VALID),
        (VOLTAGE, {"one": "NA"}, "NA", AttrQuality.ATTR_ALARM),
        (STATE, {"state": "idle"}, "idle", AttrQuality.ATTR_VALID),
        (STATE, {"state": "unreachable"}, "unreachable", AttrQuality.ATTR_ALARM),
    ],
)
def test_a_reading_is_told_with_its_quality(reading, status, value, quality):
    assert found(reading, status) == (value, quality)


@pytest.mark.parametrize("name", available("cameras"))
def test_each_is_on_the_control_alone_and_hides_nothing(name):
    camera = load("cameras", name)
    classes = camera_classes({f"Lima{camera.name}Control", f"Lima{camera.name}Receiver"})
    control, receiver = (
        classes[f"Lima{camera.name}{role}"].TangoClassClass.attr_list for role in ("Control", "Receiver")
    )
    names = set(camera.readings)
    assert names <= set(control)
    assert not names & set(receiver)
    assert not names & {*dir(ControlDevice), *scalar_attributes(camera)}
