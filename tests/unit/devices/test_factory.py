"""Tango classes are made from what plugins declare."""

import json

import pytest

from lima2_tango.cameras.base import ControlHalf
from lima2_tango.control.parameters import pipelines
from lima2_tango.core.errors import DetectorError, ParamError
from lima2_tango.core.plugins import available, load
from lima2_tango.devices.base import LOG_LEVELS
from lima2_tango.devices.control import ControlDevice
from lima2_tango.devices.factory import PROCESSING_VERSION, camera_classes, processing_classes
from lima2_tango.devices.processing import EVENTS, ProcessingDevice
from lima2_tango.devices.receiver import ReceiverDevice

CONTROL_COMMANDS = {"Prepare", "Start", "Trigger", "Stop", "Close", "Reset"}
RECEIVER_COMMANDS = {"Prepare", "Start", "Stop", "Reset", "erasePipeline"}
CONTROL_ATTRIBUTES = {
    "acq_state",
    "acq_params",
    "version",
    "det_info",
    "det_status",
    "det_capabilities",
    "nb_frames_acquired",
    "log_level",
}
RECEIVER_ATTRIBUTES = {
    "acq_state",
    "acq_params",
    "proc_params",
    "nb_frames_xferred",
    "pipelines",
    "last_error",
    "log_level",
}
PROCESSING_ATTRIBUTES = {"progress_counters", "last_frames", "is_finished", "last_error"}


@pytest.fixture(scope="module")
def cameras():
    return camera_classes()


@pytest.fixture(scope="module")
def processing():
    return processing_classes()


def commands(made):
    return set(made.TangoClassClass.cmd_list)


def attributes(made):
    return set(made.TangoClassClass.attr_list)


def test_every_camera_has_a_control_and_a_receiver_class(cameras):
    names = [load("cameras", name).name for name in available("cameras")]
    assert set(cameras) == {f"Lima{name}{role}" for name in names for role in ("Control", "Receiver")}


@pytest.mark.parametrize("name", available("cameras"))
def test_classes_offer_what_the_contract_lists(cameras, name):
    plugin = load("cameras", name)
    control, receiver = cameras[f"Lima{plugin.name}Control"], cameras[f"Lima{plugin.name}Receiver"]
    assert issubclass(control, ControlDevice)
    assert issubclass(receiver, ReceiverDevice)
    assert commands(control) >= CONTROL_COMMANDS
    assert commands(receiver) >= RECEIVER_COMMANDS
    assert attributes(control) >= CONTROL_ATTRIBUTES
    assert attributes(receiver) >= RECEIVER_ATTRIBUTES
    assert "Close" not in commands(receiver)
    assert "Trigger" not in commands(receiver)


@pytest.mark.parametrize("name", available("cameras"))
def test_a_cameras_own_commands_are_on_its_control_only(cameras, name):
    plugin = load("cameras", name)
    assert commands(cameras[f"Lima{plugin.name}Control"]) >= set(plugin.commands)
    assert not set(plugin.commands) & commands(cameras[f"Lima{plugin.name}Receiver"])


def test_a_control_half_that_has_no_detector_says_how_it_gets_one():
    half = load("cameras", "dectris").control()
    with pytest.raises(DetectorError, match="device property detector"):
        half.info()
    half.close()


@pytest.mark.parametrize("name", sorted({*available("cameras")} - {"dectris"}))
def test_a_control_half_costs_nothing_until_it_is_prepared(name):
    half = load("cameras", name).control()
    assert isinstance(half, ControlHalf)
    info = half.info().as_json()
    assert set(info) >= {"plugin", "model", "sn", "pixel_size", "dimensions"}
    assert "null" not in json.dumps([info, half.status(), half.capabilities.as_json()])
    half.close()


def test_only_the_wanted_classes_are_made():
    assert set(camera_classes({"LimaSimulatorControl"})) == {"LimaSimulatorControl"}


@pytest.mark.parametrize("other", ["TangoTest", "LimaProcessingLegacy", "Starter"])
def test_classes_that_are_not_ours_are_left_to_tango(other):
    assert camera_classes({other}) == {}


@pytest.mark.parametrize("name", ["LimaPinholeControl", "LimaPinholeReceiver"])
def test_a_class_that_no_camera_has_is_refused_with_the_cameras(name):
    with pytest.raises(ParamError, match="reader, simulator") as refused:
        camera_classes({name})
    assert name in str(refused.value)


@pytest.mark.parametrize("name", pipelines())
def test_processing_classes_offer_what_their_plugin_declares(processing, name):
    made, plugin = processing[name], pipelines()[name]
    assert issubclass(made, ProcessingDevice)
    assert made.__name__ == name
    assert commands(made) >= {*plugin.frame_commands, *plugin.vector_commands, *plugin.row_commands}
    assert attributes(made) >= {*PROCESSING_ATTRIBUTES, *plugin.info_attributes}
    assert set(EVENTS) <= attributes(made)


@pytest.mark.parametrize("name", pipelines())
def test_everything_a_person_sees_in_jive_is_described(processing, cameras, name):
    for made in (processing[name], *cameras.values()):
        assert made.__doc__


def test_versions_and_levels_are_those_that_the_clients_know():
    assert PROCESSING_VERSION.startswith("core-1.2.")
    assert list(LOG_LEVELS) == ["trace", "debug", "info", "warning", "error", "fatal"]
