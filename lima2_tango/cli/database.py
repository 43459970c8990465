"""Tango databases a system can bring along: pytango's own, NosqlTangoDB, or none of ours."""

import sys
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import yaml

from lima2_tango.client.database import DeviceEntry, register, wait_for_database

from .config import DatabaseConfig, DatabaseKind
from .disk import suspicion
from .process import Child, LaunchError, environment, free_port, program, tail

START_TIMEOUT = 20.0
"""A database answers within [s]."""
STOP_TIMEOUT = 2.0
"""From SIGTERM to SIGKILL of a database, which has everything on disk [s]."""


class DatabaseServer(ABC):
    """A database at `tango_host`, which knows `entries` once started."""

    def __init__(self, config: DatabaseConfig, folder: Path, entries: Sequence[DeviceEntry]) -> None:
        self.address = config.address
        self.port = config.port or free_port(self.address)
        self.tango_host = f"{config.host}:{self.port}"
        self.log = folder / "logs" / "database.log"
        self._folder = folder
        self._entries = entries
        self._child: Child | None = None

    @property
    def child(self) -> Child | None:
        """Its process; none where it is not ours, or not started."""
        return self._child

    def start(self) -> None:
        """Return once it answers and knows the devices."""
        self.start_again()
        self.define()

    def start_again(self) -> None:
        """Return once it answers; what it knows it has on disk, and devices that run go on with it."""
        if (command := self.command()) is not None:
            surroundings = environment(PYTANGO_DATABASE_NAME=str(self._folder / "tango_database.sqlite"))
            surroundings.pop("TANGO_HOST", None)  # a database that is told to ask itself waits for ever
            self._child = Child("the Tango database", command, surroundings, self.log)
        wait_for_database(self.tango_host, START_TIMEOUT, self.check)

    def check(self) -> None:
        """Raises LaunchError where our database has ended."""
        if self._child is not None and self._child.ended:
            full = suspicion(self._folder)
            raise LaunchError(f"{self._child.ended}{full}{tail(self.log)}", log=str(self.log))

    def stop(self) -> None:
        if self._child is not None:
            self._child.stop(STOP_TIMEOUT)

    @abstractmethod
    def command(self) -> list[str] | None:
        """What to run; none where it runs already."""

    def define(self) -> None:
        """Tell it our devices."""
        register(self.tango_host, self._entries)


class Builtin(DatabaseServer):
    def command(self) -> list[str]:
        address = ["--host", self.address, "--port", str(self.port)]
        return [sys.executable, "-m", "tango.databaseds.database", *address, "2"]


class Nosql(DatabaseServer):
    def command(self) -> list[str]:
        """Writes one YAML file an instance first, which is how this database learns devices."""
        folder = self._folder / "nosql"
        folder.mkdir(parents=True, exist_ok=True)
        for server, entries in self._by_server().items():
            name, instance = server.split("/")
            devices = [_as_yaml(entry) for entry in entries]
            content = {"personal_name": instance, "server": name, "device": devices}
            (folder / f"{instance}.yaml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        address = ["--host", self.address, "--port", str(self.port)]
        return [program("NosqlTangoDB"), *address, "--db_access", f"yaml:{folder}", "2"]

    def define(self) -> None:
        """Its files did."""

    def _by_server(self) -> dict[str, list[DeviceEntry]]:
        servers: dict[str, list[DeviceEntry]] = defaultdict(list)
        for entry in self._entries:
            servers[entry.server].append(entry)
        return servers


class External(DatabaseServer):
    def command(self) -> None:
        return None


def _as_yaml(entry: DeviceEntry) -> dict[str, object]:
    device: dict[str, object] = {"class": entry.device_class, "tango_name": entry.name}
    if entry.properties:
        device["properties"] = {key: v[0] if len(v) == 1 else v for key, v in entry.properties.items()}
    return device


SERVERS: dict[DatabaseKind, type[DatabaseServer]] = {
    DatabaseKind.BUILTIN: Builtin,
    DatabaseKind.NOSQL: Nosql,
    DatabaseKind.EXTERNAL: External,
}
