"""The control's attributes for generic clients, as Jive and the pages see them."""

import pytest
import tango

from lima2_tango.control.parameters import pipelines
from lima2_tango.core.plugins import available, load
from lima2_tango.devices.control import ControlDevice
from lima2_tango.devices.factory import camera_classes
from lima2_tango.devices.scalars import PIPELINE, scalar_attributes

CAMERAS = available("cameras")
COMMANDS = {"SetRoi", "SaveConfig", "LoadConfig", "ListCameras", "ListPipelines"}


@pytest.fixture(scope="module")
def classes():
    return camera_classes()


def own(name):
    return scalar_attributes(load("cameras", name))


@pytest.mark.parametrize("name", CAMERAS)
def test_the_control_has_them_all_and_the_receiver_none(classes, name):
    camera = load("cameras", name).name
    listed = classes[f"Lima{camera}Control"].TangoClassClass
    assert set(listed.attr_list) >= set(own(name))
    assert set(listed.cmd_list) >= COMMANDS
    assert not set(classes[f"Lima{camera}Receiver"].TangoClassClass.attr_list) & set(own(name))


@pytest.mark.parametrize("name", CAMERAS)
def test_none_hides_what_the_control_has_anyway(name):
    present = {member.lower() for member in dir(ControlDevice)}
    assert not present & {attribute.lower() for attribute in own(name)}


@pytest.mark.parametrize("name", CAMERAS)
def test_they_are_read_and_written_kept_nowhere_and_of_the_declared_type(name):
    kinds = {
        "nb_frames": tango.DevLong64,
        "expo_time": tango.DevDouble,
        "trigger_mode": tango.DevEnum,
        "saving_enabled": tango.DevBoolean,
        "saving_directory": tango.DevString,
        PIPELINE: tango.DevEnum,
    }
    found = own(name)
    assert {attribute: found[attribute].attr_type for attribute in kinds} == kinds
    for attribute in found.values():
        assert attribute.attr_write == tango.AttrWriteType.READ_WRITE
        assert attribute.attr_format == tango.AttrDataFormat.SCALAR
        assert not attribute.memorized


def test_the_common_ones_are_for_operators_and_the_others_for_experts():
    found = own("simulator")
    assert found["expo_time"].display_level == found["saving_directory"].display_level == tango.DispLevel.OPERATOR
    assert found["det_width"].display_level == found["img_flip"].display_level == tango.DispLevel.EXPERT


@pytest.mark.parametrize("name", CAMERAS)
def test_every_one_is_described(name):
    for attribute in own(name).values():
        assert len(attribute.__doc__) > 40


def test_a_class_is_made_with_the_pipelines_that_there_are():
    doc = own("simulator")["saving_directory"].__doc__
    assert any(name in doc for name in pipelines())
