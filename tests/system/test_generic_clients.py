"""The control as Jive, Taurus and itango see it: described attributes and commands, and none of our JSON."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import pytest
import tango
import yaml
from support import FAILING, LEGACY, Rig, at_once, explained, launched, refused
from watching import wait_for

from lima2_tango.cli.system import System
from lima2_tango.control.parameters import pipelines
from lima2_tango.core.plugins import load
from lima2_tango.devices.scalars import PIPELINE, scalar_attributes

SCALARS = sorted(scalar_attributes(load("cameras", "simulator")))
FORM = Path(__file__).with_name("taurus_form.py")
ITANGO_SHOWS = "print('it is', d.expo_time)\n"
TEXTS = """
import sys, tango
device, letter = tango.DeviceProxy(sys.argv[1]), sys.argv[2]
for number in range(1500):
    if letter:
        device.write_attribute("saving_directory", "/" + letter * (number * 7919 % 4000 + 1))
    elif len(set(device.read_attribute("saving_directory").value)) > 2:
        sys.exit("read what nobody wrote")
"""
"""A client that sends texts of many lengths, or reads them."""
PREPARED_S = 20.0
"""The first Prepare waits for kernels [s]."""


@pytest.fixture
def control(rig: Rig) -> Iterator[tango.DeviceProxy]:
    """The control with every parameter at its default."""
    rig.control.acq_params = "{}"
    rig.control.proc_params = json.dumps({"class_name": LEGACY})
    yield rig.control
    rig.control.command_inout("Abort")


def value(control: tango.DeviceProxy, name: str) -> Any:
    return control.read_attribute(name).value


def parameters(control: tango.DeviceProxy) -> tuple[dict[str, Any], dict[str, Any]]:
    return json.loads(value(control, "acq_params")), json.loads(value(control, "proc_params"))


def test_a_fresh_control_has_a_pipeline_and_a_receiver_none(tmp_path: Path) -> None:
    with launched(tmp_path, "single") as system:
        control, receiver = (
            tango.DeviceProxy(f"tango://{system.tango_host}/{name}") for name in (system.control, system.receivers[0])
        )
        assert json.loads(control.proc_params)["class_name"] == LEGACY
        assert control.get_attribute_config(PIPELINE).enum_labels[control.pipeline] == LEGACY
        assert receiver.proc_params == ""


def test_every_scalar_is_described_for_people(rig: Rig) -> None:
    described = {info.name: info for info in rig.control.get_attribute_config_ex(SCALARS)}
    assert sorted(described) == SCALARS
    for name, info in described.items():
        assert info.label not in {"", name}, name
        assert len(info.description) > 40, name
        assert info.writable == tango.AttrWriteType.READ_WRITE
        if name != PIPELINE and "[" in info.description and info.data_type != tango.DevString:
            assert info.unit, name
        assert (info.data_type == tango.DevEnum) == bool(info.enum_labels)


@pytest.mark.parametrize(
    ("name", "unit", "least", "most", "level"),
    [
        ("nb_frames", "frame", "0", "2147483647", "OPERATOR"),
        ("expo_time", "s", "1e-06", "10000.0", "OPERATOR"),
        ("latency_time", "s", "0.0", "1000000.0", "OPERATOR"),
        ("saving_frames_per_file", "frame", "1", "2147483647", "OPERATOR"),
        ("saving_directory", "", "Not specified", "Not specified", "OPERATOR"),
        ("det_width", "pixel", "1", "65535", "EXPERT"),
        ("det_generator_spiral_rotation", "degree/image", "Not specified", "Not specified", "EXPERT"),
    ],
)
def test_unit_and_limits_are_those_of_the_declaration(
    rig: Rig, name: str, unit: str, least: str, most: str, level: str
) -> None:
    info = rig.control.get_attribute_config(name)
    assert (info.unit, info.min_value, info.max_value, str(info.disp_level)) == (unit, least, most, level)


def test_choices_have_their_labels(rig: Rig) -> None:
    labels = {name: list(rig.control.get_attribute_config(name).enum_labels) for name in ("trigger_mode", PIPELINE)}
    assert labels == {"trigger_mode": ["internal", "software", "external", "gate"], PIPELINE: list(pipelines())}


def test_a_scalar_edits_json_replaces_and_reading_shows_both(control: tango.DeviceProxy) -> None:
    control.expo_time = 0.0025
    control.trigger_mode = "software"
    control.saving_directory = "/tmp/a"
    control.img_binning_x = 2
    acq, proc = parameters(control)
    assert (acq["acq"]["expo_time"], acq["acq"]["trigger_mode"], acq["img"]["binning"]) == (
        2500,
        "software",
        {"x": 2, "y": 1},
    )
    assert proc["saving"]["base_path"] == "/tmp/a"
    control.acq_params = json.dumps({"acq": {"nb_frames": 9}})
    assert (control.nb_frames, control.expo_time, control.trigger_mode.name) == (9, 0.1, "internal")
    assert control.saving_directory == "/tmp/a"


@pytest.mark.parametrize("name", ["expo_time", "nb_frames", "trigger_mode", "saving_directory", PIPELINE])
def test_the_set_point_is_the_value_whoever_changed_it(control: tango.DeviceProxy, name: str) -> None:
    control.acq_params = json.dumps({"acq": {"nb_frames": 9, "expo_time": 500, "trigger_mode": "gate"}})
    control.proc_params = json.dumps({"class_name": LEGACY, "saving": {"base_path": "/tmp/b"}})
    read = control.read_attribute(name)
    assert read.w_value == read.value


def test_times_are_rounded_to_whole_microseconds(control: tango.DeviceProxy) -> None:
    control.expo_time = 0.0012345678
    assert control.expo_time == 0.001235
    assert parameters(control)[0]["acq"]["expo_time"] == 1235


@pytest.mark.parametrize(
    ("name", "wrong", "sentence"),
    [
        ("expo_time", 0.0, "below the minimum"),
        ("expo_time", 4e-7, "below the minimum"),
        ("expo_time", 1e9, "above the maximum"),
        ("expo_time", float("nan"), "NaN"),
        ("nb_frames", -1, "below the minimum"),
        ("trigger_mode", 7, "above the max"),
    ],
)
def test_what_is_out_of_limits_is_refused_by_tango_itself(
    control: tango.DeviceProxy, name: str, wrong: float, sentence: str
) -> None:
    before = parameters(control)
    with pytest.raises(tango.DevFailed, match=sentence) as caught:
        control.write_attribute(name, wrong)
    assert name in caught.value.args[0].desc
    assert parameters(control) == before


@pytest.mark.parametrize(
    ("name", "wrong", "sentence"),
    [
        ("saving_prefix", "a/b", "$.saving.filename_prefix"),
        ("saving_directory", "", "$.saving.base_path"),
        ("det_generator_diffraction_spacing", 0.0, "should be greater than 0"),
        ("failed_frame_idx", 3, f"the pipeline {LEGACY} has no such parameter: choose {FAILING} first"),
    ],
)
def test_what_the_declaration_does_not_allow_is_refused_in_our_words(
    control: tango.DeviceProxy, name: str, wrong: float | str, sentence: str
) -> None:
    before = parameters(control)
    assert sentence in refused(control.write_attribute, name, wrong)
    assert parameters(control) == before


def test_what_the_pipeline_does_not_have_is_invalid_until_it_is_chosen(control: tango.DeviceProxy) -> None:
    assert control.read_attribute("failed_frame_idx").quality == tango.AttrQuality.ATTR_INVALID
    control.pipeline = FAILING
    control.failed_frame_idx = 3
    assert parameters(control)[1]["failed_frame_idx"] == 3
    assert control.read_attribute("saving_directory").quality == tango.AttrQuality.ATTR_INVALID
    control.pipeline = LEGACY
    assert control.read_attribute("saving_directory").quality == tango.AttrQuality.ATTR_VALID


@pytest.mark.parametrize("folder", ["/tmp/plain", "/tmp/Maß é", "/tmp/日本".encode()])
def test_text_of_any_language_is_kept(control: tango.DeviceProxy, folder: str | bytes) -> None:
    control.write_attribute("saving_directory", folder)
    text = folder.decode() if isinstance(folder, bytes) else folder
    assert parameters(control)[1]["saving"]["base_path"] == text
    control.write_attribute("saving_directory", value(control, "saving_directory"))
    assert parameters(control)[1]["saving"]["base_path"] == text


def test_clients_that_write_different_scalars_at_once_lose_nothing(rig: Rig, control: tango.DeviceProxy) -> None:
    names = ("nb_frames", "det_width", "img_roi_topleft_x", "saving_frames_per_file", "accumulation_nb_frames")

    def write(name: str) -> None:
        own = rig.device(control.dev_name())
        for number in range(1, 101):
            own.write_attribute(name, number)
            assert own.read_attribute(name).value == number

    at_once([partial(write, name) for name in names])
    assert [value(control, name) for name in names] == [100] * len(names)


def test_clients_that_write_and_read_the_same_text_at_once_are_all_answered(tmp_path: Path) -> None:
    """Tango keeps one value for each attribute; a server without its locks dies of this within seconds."""
    with launched(tmp_path, "single") as system:
        name = f"tango://{system.tango_host}/{system.control}"
        tango.DeviceProxy(name).write_attribute("saving_directory", "/x")  # a reader may come before the writers
        clients = [subprocess.Popen([sys.executable, "-c", TEXTS, name, letter]) for letter in ("x", "y", "z", "", "")]
        assert [client.wait(60) for client in clients] == [0] * len(clients)
        assert tango.DeviceProxy(name).ping() > 0


def test_regions_are_set_and_cleared_without_a_word_of_our_json(control: tango.DeviceProxy) -> None:
    control.SetRoi(
        '{"rectangles": [[1, 2, 3, 4]], "arcs": [[9, 9, 1, 2, 0, 90]], "profiles": [[1, 2, 3, 4, "vertical"]]}'
    )
    proc = parameters(control)[1]
    assert proc["statistics"]["rect_rois"] == [{"topleft": {"x": 1, "y": 2}, "dimensions": {"x": 3, "y": 4}}]
    assert (len(proc["statistics"]["arc_rois"]), proc["profiles"]["directions"]) == (1, ["vertical"])
    control.SetRoi("[]")
    proc = parameters(control)[1]
    assert (proc["statistics"]["rect_rois"], proc["statistics"]["arc_rois"], proc["profiles"]["rois"]) == ([], [], [])
    assert "$.rectangles[0][2] = 0" in explained(control.SetRoi, '{"rectangles": [[1, 2, 0, 4]]}')


@pytest.mark.parametrize("suffix", ["yaml", "json"])
def test_all_parameters_are_saved_and_loaded(control: tango.DeviceProxy, tmp_path: Path, suffix: str) -> None:
    control.nb_frames, control.saving_prefix = 12, "kept"
    before, file = parameters(control), tmp_path / f"a.{suffix}"
    control.SaveConfig(str(file))
    assert yaml.safe_load(file.read_text())["acq_params"]["acq"]["nb_frames"] == 12
    control.nb_frames, control.saving_prefix = 1, "other"
    control.LoadConfig(str(file))
    assert parameters(control) == before


def test_a_file_that_is_wrong_in_its_second_half_changes_nothing(control: tango.DeviceProxy, tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    content = {"camera": "Simulator", "acq_params": {"acq": {"nb_frames": 77}}, "proc_params": {"class_name": "Magic"}}
    file.write_text(json.dumps(content))
    before = parameters(control)
    assert "choose one of" in explained(control.LoadConfig, str(file))
    assert "absolute path" in explained(control.SaveConfig, "a.yaml")
    assert parameters(control) == before


def test_what_is_installed_is_listed(control: tango.DeviceProxy) -> None:
    assert {"Simulator", "Reader"} <= set(control.ListCameras())
    assert control.ListPipelines() == list(pipelines())


def test_commands_say_what_they_take(rig: Rig) -> None:
    described = {info.cmd_name: info for info in rig.control.command_list_query()}
    assert "rectangles" in described["SetRoi"].in_type_desc
    assert all(
        ".yaml" in described[name].in_type_desc or "SaveConfig" in described[name].in_type_desc
        for name in ("SaveConfig", "LoadConfig")
    )


def finished(control: tango.DeviceProxy, uuid: str) -> bool:
    return json.loads(control.Run(uuid))["state"] in {"done", "failed", "stopped"}


def test_a_run_needs_nothing_but_scalars(control: tango.DeviceProxy, tmp_path: Path) -> None:
    control.nb_frames, control.expo_time, control.latency_time = 10, 0.001, 0.0
    control.det_width, control.det_height = 64, 32
    control.saving_directory, control.saving_prefix = str(tmp_path), "scalar"
    control.SetRoi('{"rectangles": [[0, 0, 8, 8]]}')
    uuid = control.Acquire()
    wait_for(partial(finished, control, uuid), PREPARED_S, "the run's end")
    record = json.loads(control.Run(uuid))
    assert (record["state"], record["nb_frames_saved"], record["error"]) == ("done", 10, "")
    counts = []
    for rank in range(2):
        with h5py.File(tmp_path / f"scalar_{rank}_00000.h5", "r") as file:
            counts.append(file["entry_0000/instrument/detector/data"].shape)
    assert counts == [(5, 32, 64)] * 2


def ask(*arguments: str, system: System, typed: str = "") -> str:
    """Output of a client program on this system; fails where it fails."""
    environment = dict(os.environ, TANGO_HOST=system.tango_host, QT_QPA_PLATFORM="offscreen", IPYTHONDIR="/nonexistent")
    done = subprocess.run([*arguments], env=environment, input=typed, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_itango_reads_and_writes(control: tango.DeviceProxy, system: System) -> None:
    typed = f"d = Device('{system.control}')\nd.expo_time = 0.02\nd.trigger_mode = 'software'\n" + ITANGO_SHOWS
    assert "it is 0.02" in ask(sys.executable, "-m", "itango", system=system, typed=typed)
    assert (control.expo_time, control.trigger_mode.name) == (0.02, "software")


def test_a_taurus_form_shows_and_writes(control: tango.DeviceProxy, system: System) -> None:
    shown = json.loads(ask(sys.executable, str(FORM), f"tango://{system.tango_host}/{system.control}", system=system))
    assert shown["expo_time"] == ["Expo time", "0.1 s"]
    assert shown["trigger_mode"] == ["Trigger mode", "internal"]
    assert shown[PIPELINE] == ["Pipeline", LEGACY]
    assert shown["saving_directory"] == ["Saving directory", "/tmp"]
    assert (control.expo_time, control.saving_prefix) == (0.25, "taurus")


TANGOS = {"State", "Status", "Init"}
"""Commands and attributes of Tango itself, with its own words."""
COUNTS = {
    "last_image_frame",
    "last_image_copies",
    "roi_frame",
    "roi_history_region",
    "roi_history_frames",
}
"""Numbers without a unit: which frame, which region, how often."""
QUANTITIES = {tango.DevDouble, tango.DevFloat, tango.DevLong, tango.DevLong64, tango.DevULong64}


@pytest.fixture
def every_device(rig: Rig) -> list[tango.DeviceProxy]:
    """Control, receivers, and the processing devices of a run of each pipeline that needs no files."""
    processing = []
    for proc in (rig.legacy(), rig.proc(name=FAILING)):
        rig.prepare(rig.acq({"acq.nb_frames": 1}), proc)
        processing += rig.processing()
    return [*rig.devices, *processing]


def test_jive_finds_words_and_units_on_every_device(every_device: list[tango.DeviceProxy]) -> None:
    """Jive is Java and does not run here: these are the calls by which it fills its panels."""
    for device in every_device:
        names = {info.name for info in device.attribute_list_query()}
        described = device.get_attribute_config_ex(tango.constants.AllAttr)
        assert names == {info.name for info in described}
        for info in described:
            if info.name in TANGOS:
                continue
            where = f"{device.dev_name()}/{info.name}"
            assert info.label not in {"", info.name}, where
            assert len(info.description) > 10, where
            assert info.description != "No description", where
            assert info.format, where
            if info.data_type == tango.DevEnum:
                assert info.enum_labels, where
            scalar_parameter = "$." in info.description or info.writable == tango.AttrWriteType.READ_WRITE
            if info.data_type in QUANTITIES and info.name not in COUNTS and not scalar_parameter:
                assert info.unit, where


def test_jive_finds_what_each_command_does_or_takes(every_device: list[tango.DeviceProxy]) -> None:
    for device in every_device:
        for info in device.command_list_query():
            if info.cmd_name not in TANGOS:
                for text in (info.in_type_desc, info.out_type_desc):
                    assert len(text) > 10, (device.dev_name(), info.cmd_name, text)
                    assert text != "Uninitialised", (device.dev_name(), info.cmd_name)


def test_losses_and_waits_raise_alarms(rig: Rig) -> None:
    lost = rig.receivers[0].get_attribute_config("nb_frames_lost")
    incomplete = rig.receivers[0].get_attribute_config("nb_frames_incomplete")
    assert (lost.alarms.max_alarm, incomplete.alarms.max_warning) == ("1", "1")
    assert rig.receivers[0].read_attribute("nb_frames_lost").quality == tango.AttrQuality.ATTR_VALID


def test_the_log_level_is_memorised_and_nothing_of_an_acquisition_is(rig: Rig) -> None:
    for device in rig.devices:
        kept = {
            info.name: info.memorized
            for info in device.get_attribute_config_ex(tango.constants.AllAttr)
            if info.memorized not in {tango.AttrMemorizedType.NOT_KNOWN, tango.AttrMemorizedType.NONE}
        }
        assert kept == {"log_level": tango.AttrMemorizedType.MEMORIZED_WRITE_INIT}


def test_what_else_jive_reads_is_answered(rig: Rig) -> None:
    """Properties with their documentation, polling status, black box and the information of the device."""
    for device in rig.devices:
        info = device.info()
        assert info.dev_class.startswith("LimaSimulator")
        assert device.black_box(5)
        polled = "nb_frames_acquired" if device is rig.control else "nb_frames_xferred"
        device.poll_attribute(polled, 500)
        try:
            assert len(device.polling_status()) == 1
        finally:
            device.stop_poll_attribute(polled)
        server = tango.DeviceProxy(device.adm_name())
        wizard = server.QueryWizardDevProperty(info.dev_class)
        assert "live_image_size" in wizard
        assert "memory_budget" in wizard
        assert any("largest value of each square" in text for text in wizard)
