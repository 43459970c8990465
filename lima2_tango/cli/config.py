"""A whole system in one YAML file: what runs where, under which names."""

import json
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import Field

from lima2_tango.client.database import DeviceEntry
from lima2_tango.core.errors import ParamError
from lima2_tango.core.params import Int, Params
from lima2_tango.core.plugins import load

SERVER = "lima2_tango"
"""Tango server name, and the program that runs it."""
DEVICE = "^[^/:@ ]+/[^/:@ ]+/[^/:@ ]+$"
INSTANCE = "^[^/:@ ]+$"
Port = Annotated[Int, Field(ge=0, le=65535)]


class DatabaseKind(StrEnum):
    BUILTIN = "builtin"
    NOSQL = "nosql"
    EXTERNAL = "external"


class Topology(StrEnum):
    SINGLE = "single"
    ROUND_ROBIN = "round_robin"
    DYNAMIC = "dynamic"


class DatabaseConfig(Params):
    kind: DatabaseKind = DatabaseKind.BUILTIN
    """builtin: pytango's own on SQLite; nosql: NosqlTangoDB on YAML files; external: one that runs already."""
    host: str = "localhost"
    """Where it listens; localhost keeps it on this machine."""
    port: Port = 0
    """TCP port; 0 takes a free one."""


class Member(Params):
    """A device and the server instance that runs it; devices of one instance share a process."""

    device: Annotated[str, Field(pattern=DEVICE)] = "id00/limacontrol/simulator"
    instance: Annotated[str, Field(pattern=INSTANCE)] = "simulator_ctl"
    properties: dict[str, list[str]] = {}
    """Tango device properties to set."""


class ConductorConfig(Params):
    enabled: bool = True
    """Start a conductor."""
    topology: Topology = Topology.SINGLE
    """How frames are dealt to receivers, as the conductor is told."""
    port: Port = 0
    """TCP port; 0 takes a free one."""


class SystemConfig(Params):
    name: Annotated[str, Field(min_length=1)] = "simulator"
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
    data_roots: tuple[str, ...] = ()
    """Folders below which the system may write; none given, wherever the process may."""

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
    """The system that a YAML file describes; raises ParamError with the file's name and the path in it."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ParamError(str(path), "", f"it cannot be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise ParamError(str(path), "", f"this is not YAML: {' '.join(str(error).split())}") from error
    config = SystemConfig.parse(json.dumps(content, default=str))
    _check(config)
    return config


def _check(config: SystemConfig) -> None:
    single = config.conductor.topology is Topology.SINGLE
    if single != (len(config.receivers) == 1):
        remedy = "one receiver takes single, more take round_robin or dynamic"
        raise ParamError("$.conductor.topology", str(config.conductor.topology), remedy)
    if len(set(config.devices)) < len(config.devices):
        raise ParamError("$.receivers", config.devices[1:], "two devices have one name; give each its own")
    if config.database.kind is DatabaseKind.EXTERNAL and config.database.port == 0:
        raise ParamError("$.database.port", 0, "name the port of the database that runs already")


def _entry(member: Member, device_class: str, properties: dict[str, list[str]]) -> DeviceEntry:
    return DeviceEntry(member.device, device_class, f"{SERVER}/{member.instance}", {**properties, **member.properties})
