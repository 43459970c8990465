"""Every attribute and command of every class tells a person what it is."""

import pytest
import tango

from lima2_tango.devices.driven import DrivingDevice
from lima2_tango.devices.factory import camera_classes, processing_classes
from lima2_tango.devices.live import LiveDevice
from lima2_tango.devices.processing import ProcessingDevice
from lima2_tango.devices.receiver import ReceiverDevice
from lima2_tango.devices.scalars import GenericControlDevice

NUMBERS = {
    "acq_state",
    "last_image_frame",
    "last_image_copies",
    "roi_frame",
    "roi_history_region",
    "roi_history_frames",
    "is_finished",
}
"""Without a unit: numbers of frames and regions, and states."""
NUMERIC = {
    tango.DevDouble,
    tango.DevFloat,
    tango.DevLong,
    tango.DevLong64,
    tango.DevULong,
    tango.DevULong64,
    tango.DevShort,
    tango.DevUShort,
}
TOO_SHORT = 10
OURS = {name for made in (GenericControlDevice, ReceiverDevice, ProcessingDevice) for name in vars(made)} | {
    name for made in (DrivingDevice, LiveDevice) for name in vars(made)
}
"""Not from a camera's or a pipeline's declaration."""
CLASSES = camera_classes() | processing_classes()


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_every_attribute_has_a_label_and_a_description(name):
    for attribute, made in CLASSES[name].TangoClassClass.attr_list.items():
        assert made.att_prop.label not in {"", attribute}, attribute
        assert len(made.__doc__) > TOO_SHORT, attribute
        assert made.att_prop.description in {"", made.__doc__}, attribute


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_every_quantity_has_a_unit(name):
    for attribute, made in CLASSES[name].TangoClassClass.attr_list.items():
        if made.attr_type in NUMERIC and attribute not in NUMBERS:
            assert made.att_prop.unit or "[" not in made.__doc__, attribute
            assert made.att_prop.unit or attribute not in OURS, attribute


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_every_command_says_what_it_does_or_takes(name):
    for command, ((_, taken), (_, given), *_) in CLASSES[name].TangoClassClass.cmd_list.items():
        for text in (taken, given):
            assert len(text) > TOO_SHORT, (command, text)
            assert ":class:" not in text, (command, text)


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_enumerations_have_labels(name):
    for attribute, made in CLASSES[name].TangoClassClass.attr_list.items():
        assert (made.attr_type == tango.DevEnum) == bool(made.att_prop.enum_labels), attribute
