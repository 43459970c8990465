"""Configurations of whole systems."""

from pathlib import Path

import pytest
import yaml
from tango.server import device_property

from lima2_tango.cli.config import DatabaseKind, SystemConfig, load_config
from lima2_tango.cli.database import SERVERS
from lima2_tango.cli.demo.run import SYSTEM
from lima2_tango.cli.names import CONTROL_PROPERTIES, RECEIVER_PROPERTIES
from lima2_tango.core.errors import Lima2Error, ParamError
from lima2_tango.devices.control import ControlDevice
from lima2_tango.devices.receiver import ReceiverDevice

CONFIG = Path(__file__).parents[2] / "config"
EXAMPLES = sorted(CONFIG.glob("*.yaml"))


@pytest.fixture
def changed(tmp_path):
    """Writes config/simulator.yaml with changes at dotted paths, and returns the file."""

    def write(**changes):
        content = yaml.safe_load((CONFIG / "simulator.yaml").read_text())
        for path, value in changes.items():
            *parents, last = path.split("__")
            target = content
            for parent in parents:
                target = target[int(parent) if parent.isdigit() else parent]
            target[last] = value
        file = tmp_path / "system.yaml"
        file.write_text(yaml.safe_dump(content))
        return file

    return write


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_is_valid_and_its_devices_have_classes(path):
    config = load_config(path)
    entries = list(config.entries())
    assert [entry.name for entry in entries] == config.devices
    assert entries[0].device_class == f"Lima{config.camera}Control"
    assert {entry.device_class for entry in entries[1:]} == {f"Lima{config.camera}Receiver"}
    assert entries[0].properties["receiver_topology"] == [config.conductor.topology]


def test_there_are_examples():
    assert {"simulator.yaml", "reader.yaml", "single.yaml"} <= {path.name for path in EXAMPLES}


def test_the_demo_runs_the_reader_example():
    assert load_config(CONFIG / "reader.yaml") == SYSTEM


def test_the_default_is_a_valid_single_computer_system(tmp_path):
    file = tmp_path / "empty.yaml"
    file.write_text("{}")
    assert load_config(file) == SystemConfig()
    assert len(SystemConfig().instances) == 1


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"camra": "Simulator"}, "$.camra"),
        ({"control__devise": "a/b/c"}, "$.control.devise"),
        ({"receivers__1__host": "far"}, "$.receivers[1].host"),
        ({"database__kind": "mysql"}, "$.database.kind"),
        ({"database__port": 70000}, "$.database.port"),
        ({"control__device": "no-slashes"}, "$.control.device"),
        ({"receivers": []}, "$.receivers"),
        ({"conductor__topology": "single"}, "$.conductor.topology"),
        ({"receivers__1__device": "id00/limareceiver/simulator1"}, "$.receivers"),
        ({"database__kind": "external"}, "$.database.port"),
        ({"database__port": 5000, "conductor": {"port": 5000, "topology": "round_robin"}}, "$.conductor.port"),
        ({"receivers__1__device": "ID00/LimaReceiver/Simulator1"}, "$.receivers"),
        ({"receivers__1__instance": "Simulator_RCV1"}, "$.receivers"),
        ({"control__instance": "-simulator"}, "$.control.instance"),
        ({"control__instance": "x" * 65}, "$.control.instance"),
        ({"control__device": "id00/limacontrol/\u00b5"}, "$.control.device"),
        ({"control__device": "id00/lima control/a"}, "$.control.device"),
        ({"control__device": "id00/limacontrol/" + "a" * 239}, "$.control.device"),
        ({"control__properties": {"memory_budgt": ["512"]}}, "$.control.properties.memory_budgt"),
        ({"control__properties": {"rank": ["0"]}}, "$.control.properties.rank"),
        ({"name": "a" * 65}, "$.name"),
    ],
)
def test_what_cannot_work_is_refused_with_its_path(changed, changes, path):
    with pytest.raises(ParamError) as caught:
        load_config(changed(**changes))
    assert caught.value.path == path


def test_one_port_for_a_database_elsewhere_and_our_conductor_is_fine(changed):
    conductor = {"port": 5000, "topology": "round_robin"}
    assert load_config(changed(database={"kind": "external", "host": "far", "port": 5000}, conductor=conductor))


def test_an_unknown_property_is_refused_with_those_that_the_devices_have(changed):
    with pytest.raises(ParamError, match="it has: " + ", ".join(RECEIVER_PROPERTIES)):
        load_config(changed(receivers__0__properties={"memory_budgt": ["512"]}))


@pytest.mark.parametrize(
    ("device", "known"), [(ControlDevice, CONTROL_PROPERTIES), (ReceiverDevice, RECEIVER_PROPERTIES)]
)
def test_the_properties_that_are_known_are_those_of_the_devices(device, known):
    declared = {
        name for cls in device.__mro__ for name, value in vars(cls).items() if isinstance(value, device_property)
    }
    assert declared == set(known)


@pytest.mark.parametrize("name", ["Memory_Budget", "polled_attr"])
def test_properties_may_be_spelt_as_tango_takes_them(changed, name):
    assert load_config(changed(control__properties={name: ["512"]}))


def test_an_unknown_camera_is_refused_with_the_known_ones(changed):
    with pytest.raises(ParamError, match=r"polaroid.*simulator"):
        load_config(changed(camera="Polaroid"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"acq_params": {"acq": {"nb_frams": 3}}}, r"^\$\.acq_params\.acq\.nb_frams = 3: there is no such parameter"),
        ({"proc_params": {"class_name": "Legacy"}}, r"^\$\.proc_params\.class_name = .*LimaProcessingLegacy"),
        (
            {
                "data_roots": ["/data"],
                "proc_params": {"class_name": "LimaProcessingLegacy", "saving": {"base_path": "/tmp"}},
            },
            r"^\$\.proc_params\.saving\.base_path = .*below /data",
        ),
    ],
)
def test_parameters_to_begin_with_are_refused_by_their_place_in_the_file(changed, changes, message):
    with pytest.raises(Lima2Error, match=message):
        load_config(changed(**changes))


def test_a_computer_that_is_not_this_one_is_refused_with_the_reason(changed):
    with pytest.raises(ParamError, match=r"^\$\.receivers\[1\]\.host.*this computer only.*lima2-job"):
        load_config(changed(receivers__1__host="far"))
    assert load_config(changed(receivers__1__host="localhost"))


HOSTILE = {
    "no YAML": (b"a: [", "not YAML"),
    "not UTF-8": (b"name: caf\xe9", "not YAML.*UTF-8"),
    "empty": (b"", "it is empty"),
    "a comment": (b"# nothing yet", "it is empty"),
    "a list": (b"- name: a", "key: value"),
    "references": (b"a: &a [x, x]\nb: &b [*a, *a]\n", "references"),
    "circular": (b"acq_params: &a\n  acq: *a\n", "references"),
    "500 deep": (b"acq_params: " + b"[" * 500 + b"]" * 500, "nested more than"),
    "a date for a key": (b"2026-01-01: a", "keys must be"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_file_that_is_no_configuration_is_named(tmp_path, case):
    content, reason = HOSTILE[case]
    file = tmp_path / "system.yaml"
    file.write_bytes(content)
    with pytest.raises(ParamError, match=rf"system\.yaml.*{reason}"):
        load_config(file)


@pytest.mark.parametrize("name", ["nowhere.yaml", ".", "a" * 300])
def test_a_file_that_cannot_be_read_is_named(tmp_path, name):
    with pytest.raises(ParamError, match=r"cannot be read"):
        load_config(tmp_path / name)


def test_instances_are_the_ranks_in_order():
    config = load_config(CONFIG / "simulator.yaml")
    assert config.instances == ["simulator_ctl", "simulator_rcv1", "simulator_rcv2"]
    assert load_config(CONFIG / "single.yaml").instances == ["simulator"]


def test_data_roots_and_own_properties_reach_every_device(changed):
    config = load_config(changed(data_roots=["/data"], receivers__0__properties={"memory_budget": ["512"]}))
    entries = list(config.entries())
    assert all(entry.properties["data_roots"] == ["/data"] for entry in entries)
    assert [entry.properties.get("memory_budget") for entry in entries] == [None, ["512"], None]


def test_a_nosql_database_learns_devices_from_a_file_an_instance(tmp_path):
    config = load_config(CONFIG / "simulator.yaml")
    command = SERVERS[DatabaseKind.NOSQL](config.database, tmp_path, list(config.entries())).command()
    written = yaml.safe_load((tmp_path / "nosql" / "simulator_ctl.yaml").read_text())
    assert written == {
        "personal_name": "simulator_ctl",
        "server": "lima2_tango",
        "device": [
            {
                "class": "LimaSimulatorControl",
                "tango_name": "id00/limacontrol/simulator",
                "properties": {"receiver_topology": "round_robin"},
            }
        ],
    }
    assert {path.stem for path in (tmp_path / "nosql").iterdir()} == set(config.instances)
    assert command[-1] == "2"


@pytest.mark.parametrize("kind", DatabaseKind)
def test_what_we_start_listens_on_loopback_only(tmp_path, kind):
    config = load_config(CONFIG / "simulator.yaml")
    server = SERVERS[kind](config.database, tmp_path, [])
    command = server.command()
    assert server.tango_host.startswith("localhost:")
    assert command is None or command[command.index("--host") + 1] == "127.0.0.1"
