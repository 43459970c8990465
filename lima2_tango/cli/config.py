"""A whole system in one YAML file: what runs where, under which names."""

import json
import socket
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field

from lima2_tango.client.database import DeviceEntry
from lima2_tango.control.configfile import parsed
from lima2_tango.control.parameters import choose
from lima2_tango.control.settings import Settings
from lima2_tango.core.errors import Lima2Error, ParamError
from lima2_tango.core.params import Int, Params
from lima2_tango.core.plugins import load
from lima2_tango.web.access import is_loopback

from .names import DeviceName, InstanceName, SystemName, check_properties, check_unlike

SERVER = "lima2_tango"
"""Tango server name, and the program that runs it."""
THIS_HOST = "localhost"
Port = Annotated[Int, Field(ge=0, le=65535)]


class DatabaseKind(StrEnum):
    BUILTIN = "builtin"
    NOSQL = "nosql"
    EXTERNAL = "external"


class Topology(StrEnum):
    SINGLE = "single"
    ROUND_ROBIN = "round_robin"
    DYNAMIC = "dynamic"


class RestartPolicy(StrEnum):
    ALWAYS = "always"
    NEVER = "never"


class DatabaseConfig(Params):
    kind: DatabaseKind = DatabaseKind.BUILTIN
    """builtin: pytango's own on SQLite; nosql: NosqlTangoDB on YAML files; external: one that runs already."""
    host: str = "localhost"
    """Where it listens; localhost keeps it on this machine."""
    port: Port = 0
    """TCP port; 0 takes a free one."""

    @property
    def address(self) -> str:
        """What to bind for it."""
        return "127.0.0.1" if self.host == THIS_HOST else self.host


class Member(Params):
    """A device and the server instance that runs it; devices of one instance share a process."""

    device: DeviceName = "id00/limacontrol/simulator"
    instance: InstanceName = "simulator_ctl"
    host: str = THIS_HOST
    """Computer that runs the instance; so far this one only."""
    properties: dict[str, list[str]] = {}
    """Tango device properties to set."""


class ConductorConfig(Params):
    enabled: bool = True
    """Start a conductor."""
    topology: Topology = Topology.SINGLE
    """How frames are dealt to receivers, as the conductor is told."""
    port: Port = 0
    """TCP port; 0 takes a free one."""


class WebConfig(Params):
    enabled: bool = False
    """Start the page, as `lima2 web` does."""
    port: Port = 8000
    """TCP port; 0 takes a free one."""
    listen: str = "127.0.0.1"
    """Address on which it listens; others than this machine's own need token_file."""
    token_file: str = ""
    """Lines `operator TOKEN` and `read-only TOKEN`; made with new tokens where it is missing."""
    certificate: str = ""
    """Certificate (PEM) to speak TLS with, and `key`."""
    key: str = ""
    """Private key of the certificate (PEM)."""
    names: list[str] = []
    """More names of this page, such as a proxy's."""

    @property
    def scheme(self) -> str:
        return "https" if self.certificate else "http"


class RestartConfig(Params):
    policy: RestartPolicy = RestartPolicy.ALWAYS
    """What `lima2 up` does when a part of the system dies: start it again, or end the system."""
    at_most: Annotated[Int, Field(ge=1)] = 5
    """Restarts within `within`; one more and the system is ended."""
    within: Annotated[float, Field(gt=0)] = 60.0
    """Time in which restarts are counted [s]."""


class SystemConfig(Params):
    name: SystemName = "simulator"
    """What people call the system; also the folder of its files below ~/.lima2."""
    camera: str = "Simulator"
    """Name of the camera plugin."""
    listen: str = "127.0.0.1"
    """Address on which device servers and conductor listen; 127.0.0.1 keeps them on this machine."""
    launcher: str = ""
    """Program that starts the MPI job; empty takes mpiexec, or on one machine MPICH's launcher that opens no port."""
    database: DatabaseConfig = DatabaseConfig()
    control: Member = Member()
    receivers: Annotated[tuple[Member, ...], Field(min_length=1)] = (
        Member(device="id00/limareceiver/simulator1", instance="simulator_ctl"),
    )
    conductor: ConductorConfig = ConductorConfig()
    web: WebConfig = WebConfig()
    data_roots: tuple[str, ...] = ()
    """Folders below which the system may write; none given, wherever the process may."""
    restart: RestartConfig = RestartConfig()
    acq_params: dict[str, Any] = {}
    """Acquisition parameters that the control begins with; what is not named has its default."""
    proc_params: dict[str, Any] = {}
    """Processing parameters that the control begins with; `class_name` chooses the pipeline."""

    @property
    def instances(self) -> list[str]:
        """Server instances, the control's first: the order of the ranks."""
        return list(dict.fromkeys(member.instance for member in (self.control, *self.receivers)))

    @property
    def devices(self) -> list[str]:
        """Control, then receivers."""
        return [self.control.device, *(member.device for member in self.receivers)]

    def entries(self) -> Iterator[DeviceEntry]:
        """What the Tango database must know."""
        camera = camera_name(self.camera)
        common = {"data_roots": list(self.data_roots)} if self.data_roots else {}
        topology = {"receiver_topology": [str(self.conductor.topology)]}
        yield _entry(self.control, f"Lima{camera}Control", {**common, **topology})
        for member in self.receivers:
            yield _entry(member, f"Lima{camera}Receiver", common)


def camera_name(plugin: str) -> str:
    """The plugin's name as Tango classes spell it; raises ParamError where there is no such camera."""
    return str(load("cameras", plugin.lower()).name)


def load_config(path: Path) -> SystemConfig:
    """The system that a YAML file describes; raises ParamError, or Lima2Error, with file or path in it."""
    config = SystemConfig.parse(_content(path))
    _check(config)
    return config


def _content(path: Path) -> str:
    """What is in the file, as JSON; raises ParamError with its name."""
    try:
        content = parsed(path)
        if not isinstance(content, dict):
            found = "it is empty" if content is None else "it holds no `key: value`"
            raise ParamError("CONFIG", str(path), f"{found}: describe a system as config/simulator.yaml does")
        return json.dumps(content, default=str)
    except OSError as error:
        raise ParamError("CONFIG", str(path), f"it cannot be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise ParamError("CONFIG", str(path), f"this is not YAML: {' '.join(str(error).split())}") from error
    except (ValueError, TypeError, RecursionError) as error:  # references, too deep, keys that are no text
        raise ParamError("CONFIG", str(path), f"it is refused: {error}") from error


def _check(config: SystemConfig) -> None:
    single = config.conductor.topology is Topology.SINGLE
    if single != (len(config.receivers) == 1):
        remedy = "one receiver takes single, more take round_robin or dynamic"
        raise ParamError("$.conductor.topology", str(config.conductor.topology), remedy)
    if len({name.lower() for name in config.devices}) < len(config.devices):
        remedy = "two devices have one name, in which Tango tells no capitals; give each its own"
        raise ParamError("$.receivers", config.devices[1:], remedy)
    check_unlike("$.receivers", config.instances)
    _check_ports(config)
    _check_web(config.web)
    _check_hosts(config)
    _check_properties(config)
    _check_parameters(config)


def _check_ports(config: SystemConfig) -> None:
    database, conductor = config.database, config.conductor
    if database.kind is DatabaseKind.EXTERNAL and database.port == 0:
        raise ParamError("$.database.port", 0, "name the port of the database that runs already")
    ours = database.kind is not DatabaseKind.EXTERNAL and conductor.enabled
    if ours and database.port and database.port == conductor.port:
        raise ParamError(
            "$.conductor.port", conductor.port, "the database has this port; choose another (0: a free one)"
        )


def _check_web(web: WebConfig) -> None:
    if web.enabled and not web.token_file and not is_loopback(web.listen):
        raise ParamError("$.web.listen", web.listen, "other computers reach this address: name a token_file, too")
    if bool(web.certificate) != bool(web.key):
        raise ParamError("$.web.certificate", web.certificate, "TLS needs both: name certificate and key, or neither")


def _check_properties(config: SystemConfig) -> None:
    for path, member in _members(config):
        check_properties(f"{path}.properties", member.properties, is_control=member is config.control)


def _members(config: SystemConfig) -> list[tuple[str, Member]]:
    """Control and receivers, by their path in the file."""
    return [("$.control", config.control), *((f"$.receivers[{i}]", at) for i, at in enumerate(config.receivers))]


def _check_hosts(config: SystemConfig) -> None:
    for path, member in _members(config):
        if member.host not in {THIS_HOST, "127.0.0.1", socket.gethostname()}:
            remedy = (
                "lima2 starts processes on this computer only; run a job over several computers with "
                "servers/lima2-job (mpiexec -hosts, or Slurm) on an external database"
            )
            raise ParamError(f"{path}.host", member.host, remedy)


def _check_parameters(config: SystemConfig) -> None:
    """Those that the control begins with are refused here, by their path in this file, and not when it runs."""
    settings = Settings(data_roots=config.data_roots)
    camera = load("cameras", config.camera.lower())
    with _below("$.acq_params"):
        settings.confine(camera.params.parse(json.dumps(config.acq_params)))
    if config.proc_params:
        with _below("$.proc_params"):
            choose(json.dumps(config.proc_params), settings)


@contextmanager
def _below(path: str) -> Generator[None]:
    """Refusals name the parameter by its place in the file."""
    try:
        yield
    except ParamError as error:
        raise Lima2Error(path + error.what.removeprefix("$"), path=path + error.path.removeprefix("$")) from error


def _entry(member: Member, device_class: str, properties: dict[str, list[str]]) -> DeviceEntry:
    return DeviceEntry(member.device, device_class, f"{SERVER}/{member.instance}", {**properties, **member.properties})
