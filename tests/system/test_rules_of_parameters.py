"""Rules R10, R11, R12 and R15: schemas, encodings, and refusals that clients can take apart."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_default
import jsonschema_rs
import pytest
from support import CLASSES, FAST, SMALL, Rig, as_bytes, explained, put, refused

from lima2_tango.core.state import State

LARGEST = 64_000
"""A Tango database on MariaDB keeps a property in a TEXT column [byte]."""
BASE_PATHS = ("donn\u00e9es", "\u6e2c\u5b9a \u00b5m")


def schema_text(rig: Rig, name: str) -> str:
    kinds = {"control": rig.control, "receiver": rig.receivers[0]}
    if name in kinds:
        return rig.schema(rig.db.get_device_info(kinds[name].dev_name()).class_name, "acq_params")
    return rig.schema(name, "proc_params")


def nodes(schema: dict[str, Any], path: str = "$") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema node with its address."""
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    if "items" in schema:
        yield from nodes(schema["items"], f"{path}[]")


SCHEMAS = pytest.mark.parametrize("name", ["control", "receiver", *CLASSES])


@SCHEMAS
def test_every_leaf_of_a_schema_has_a_default(rig: Rig, name: str) -> None:
    """R10: `/default_params` would invent values."""
    found = dict(nodes(json.loads(schema_text(rig, name))))
    elements = {f"{path}[]" for path, node in found.items() if node.get("type") == "array"}
    leaves = {path for path, node in found.items() if "properties" not in node} - elements
    missing = [path for path in leaves if "default" not in found[path]]
    assert missing == []


@SCHEMAS
def test_generated_defaults_are_stable_valid_and_without_null(rig: Rig, name: str) -> None:
    """R10, R11: as the conductor generates and validates them."""
    text = schema_text(rig, name)
    defaults = jsonschema_default.create_from(text)
    assert defaults == jsonschema_default.create_from(text)
    jsonschema_rs.validator_for(text).validate(defaults)
    assert "null" not in json.dumps(defaults)


@SCHEMAS
def test_schemas_hold_only_what_the_clients_libraries_understand(rig: Rig, name: str) -> None:
    """Contract section 6.2: references and combinations lose defaults or break error reports; MariaDB drops quotes."""
    text = schema_text(rig, name)
    assert len(text.encode()) < LARGEST
    for path, node in nodes(json.loads(text)):
        assert not node.keys() & {"$ref", "allOf", "anyOf", "oneOf", "if"}, path
        for word in ("description", "title", "pattern"):
            assert not set('"\\\n') & set(node.get(word, "")), f"{path}.{word}"


@pytest.mark.parametrize("name", CLASSES)
def test_each_pipeline_class_names_itself_and_its_version(rig: Rig, name: str) -> None:
    """BLISS never sets `class_name`, and compares the version (contract sections 2.5 and 6.2)."""
    assert jsonschema_default.create_from(schema_text(rig, name))["class_name"] == name
    (version,) = rig.db.get_class_property(name, "Version")["Version"]
    assert version.startswith("core-1.2.")


def test_control_and_receiver_take_the_same_parameters(rig: Rig) -> None:
    """BLISS sends the receiver's defaults to both (contract section 6.1)."""
    text = schema_text(rig, "control")
    jsonschema_rs.validator_for(text).validate(rig.acq())
    rig.prepare(rig.acq(FAST | SMALL), rig.legacy())


@pytest.mark.parametrize("attribute", ["det_info", "det_status", "det_capabilities"])
def test_detector_attributes_hold_no_null(rig: Rig, attribute: str) -> None:
    """R11: the master file's writer fails on one."""
    text = rig.control.read_attribute(attribute).value
    assert json.loads(text)
    assert "null" not in text


def test_detector_attributes_hold_what_bliss_indexes(rig: Rig) -> None:
    """Contract sections 2.2 to 2.5."""
    info, status, capabilities = (
        json.loads(rig.control.read_attribute(name).value) for name in ("det_info", "det_status", "det_capabilities")
    )
    assert info["plugin"] == "Simulator"
    assert isinstance(info["model"], str)
    assert isinstance(info["sn"], str)
    assert set(info["pixel_size"]) == {"x", "y"}
    assert isinstance(status["state"], str)
    assert {type(status[name]) for name in ("temperature", "humidity")} == {float}
    assert {"internal", "software"} <= set(capabilities["trigger_modes"])
    low, high = capabilities["expo_time_range"]
    assert low <= 100e6 < high, "BLISS' default of 100 ms, in ns"
    low, high = capabilities["latency_time_range"]
    assert low <= 10e3 < high, "BLISS' default of 10 us, in ns"
    assert rig.control.read_attribute("version").value.startswith("core-1.2.")


@pytest.mark.parametrize("name", BASE_PATHS)
def test_a_path_of_any_alphabet_arrives_as_it_was_sent(rig: Rig, tmp_path: Path, name: str) -> None:
    """R12: clients send UTF-8 bytes, which PyTango shows as latin-1."""
    folder = tmp_path / name
    rig.run(rig.acq(FAST | SMALL | {"acq.nb_frames": 4}), rig.legacy(folder))
    assert sorted(file.name for file in folder.iterdir()) == ["lima2_0_00000.h5", "lima2_1_00000.h5"]


@pytest.mark.parametrize("name", BASE_PATHS)
def test_parameters_read_back_as_the_bytes_that_were_written(rig: Rig, tmp_path: Path, name: str) -> None:
    """R12: UTF-8 in both directions, which a PyTango client sees as latin-1."""
    receiver = rig.receivers[0]
    receiver.write_attribute("proc_params", as_bytes(rig.legacy(tmp_path / name)))
    read = receiver.read_attribute("proc_params").value
    assert json.loads(read.encode("latin-1").decode())["saving"]["base_path"] == str(tmp_path / name)


def test_a_text_that_is_sent_as_latin_1_is_understood_too(rig: Rig, tmp_path: Path) -> None:
    """R12: a client that writes a `str` instead of bytes."""
    folder = tmp_path / BASE_PATHS[0]
    text = json.dumps(rig.legacy(folder), ensure_ascii=False)
    rig.run(rig.acq(FAST | SMALL | {"acq.nb_frames": 2}), rig.legacy())
    rig.receivers[0].write_attribute("proc_params", text)
    rig.receivers[0].command_inout("Prepare", "00000000-0000-1000-8000-000000000000")
    assert folder.is_dir()


def test_an_integral_float_is_taken_as_a_whole_number(rig: Rig) -> None:
    """Contract section 6.1: it passes the conductor's validation."""
    rig.run(rig.acq(FAST | SMALL | {"acq.nb_frames": 4.0}), rig.legacy())
    assert sum(rig.xferred()) == 4


def test_every_command_that_is_refused_says_why_and_what_to_do(rig: Rig) -> None:
    """R15: exactly two Tango errors, or clients show `Failed to execute command_inout`."""
    receiver, control = rig.receivers[0], rig.control
    for device in (control, receiver):
        assert "prepare" in refused(device.command_inout, "Start")
    assert refused(control.command_inout, "Trigger")
    assert "nothing" in explained(receiver.command_inout, "erasePipeline", "nothing")
    rig.prepare(rig.acq({"acq.nb_frames": 0} | SMALL), rig.legacy())
    rig.start()
    rig.wait_counted("nb_frames_source", 4)
    for device in (control, receiver):
        assert "running" in refused(device.command_inout, "Prepare", rig.uuid)
        assert "running" in refused(device.command_inout, "Start")
    processing = rig.processing()[0]
    assert "999999" in explained(processing.command_inout, "getInputFrame", 999_999)
    rig.stop()
    rig.wait_receivers(State.IDLE)


def test_a_getter_without_any_frame_is_refused_with_a_sentence(rig: Rig) -> None:
    """R15, contract section 4.5."""
    rig.prepare(rig.acq({"acq.nb_frames": 0, "acq.trigger_mode": "software"} | SMALL), rig.legacy())
    for command in ("getFrame", "getInputFrame"):
        for index in (-1, 0):
            assert "frame" in explained(rig.processing()[0].command_inout, command, index)


def test_prepare_in_fault_is_refused_with_the_way_out(rig: Rig) -> None:
    """R15, contract section 11.3."""
    rig.prepare(rig.acq({"acq.nb_frames": 9, "det.failed_frame_idx": 2} | SMALL | FAST), rig.legacy())
    rig.start()
    rig.stop()
    faulty = [r for r in rig.receivers if r.read_attribute("acq_state").value == State.FAULT]
    for receiver in faulty:
        assert "reset" in refused(receiver.command_inout, "Prepare", rig.uuid).lower()


REFUSED_WRITES = {
    "not JSON": ("acq_params", b"{", "$"),
    "a list": ("acq_params", b"[1]", "$"),
    "null": ("acq_params", b'{"acq": {"nb_frames": null}}', "$.acq.nb_frames"),
    "a fraction": ("acq_params", b'{"acq": {"nb_frames": 2.5}}', "$.acq.nb_frames"),
    "an unknown key": ("acq_params", b'{"acq": {"nb_framse": 2}}', "$.acq.nb_framse"),
    "a negative time": ("acq_params", b'{"acq": {"expo_time": -1}}', "$.acq.expo_time"),
    "an unknown pipeline": ("proc_params", b'{"class_name": "LimaProcessingNone"}', "$.class_name"),
    "a bad compression": (
        "proc_params",
        b'{"class_name": "LimaProcessingLegacy", "saving": {"compression": "rar"}}',
        "$.saving.compression",
    ),
    "bytes that are no UTF-8": ("acq_params", b"\xff\xfe{}", "$"),
}


@pytest.mark.parametrize("case", REFUSED_WRITES)
def test_a_bad_parameter_write_is_refused_with_its_path(rig: Rig, case: str) -> None:
    """R15: by the write itself, or by the Prepare that follows it."""
    attribute, content, path = REFUSED_WRITES[case]
    receiver = rig.receivers[0]

    def write_and_prepare() -> None:
        receiver.write_attribute("acq_params", as_bytes(rig.acq()))
        receiver.write_attribute("proc_params", as_bytes(rig.legacy()))
        receiver.write_attribute(attribute, content)
        receiver.command_inout("Prepare", "00000000-0000-1000-8000-000000000000")

    assert refused(write_and_prepare).startswith(path)
    rig.prepare(rig.acq(), put(rig.legacy(), {}))
