"""The Tango database as a launcher needs it: define devices, and wait until somebody answers."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import tango

from lima2_tango.core.errors import Lima2Error

POLL = 0.05
"""Between two questions [s]."""
PROXY_TIMEOUT = 1000
"""Longest wait for one answer [ms]."""


class NotReadyError(Lima2Error):
    """Somebody did not answer in time; the message names who."""


@dataclass(frozen=True, slots=True)
class DeviceEntry:
    """One device as the database defines it."""

    name: str
    """`domain/family/member`"""
    device_class: str
    server: str
    """`program/instance`"""
    properties: Mapping[str, list[str]] = field(default_factory=dict)


def database_at(tango_host: str) -> tango.Database:
    """The Tango database at `host:port`; raises DevFailed where it does not answer."""
    host, port = tango_host.rsplit(":", 1)
    return tango.Database(host, int(port))


def wait_for_database(tango_host: str, timeout_s: float, check: Callable[[], None]) -> None:
    """Return once the database at `host:port` answers; `check` is called between questions and may raise."""

    def answers() -> bool:
        try:
            database_at(tango_host).get_info()
        except tango.DevFailed:
            return False
        return True

    _wait(answers, timeout_s, check, f"the Tango database at {tango_host}")


def register(tango_host: str, entries: Iterable[DeviceEntry]) -> None:
    """Define the devices, and replace the properties that the entries name.

    The servers have these devices and no others: one that was renamed does not stay beside its new name.
    """
    database, wanted = database_at(tango_host), list(entries)
    names = {entry.name.lower() for entry in wanted}
    for server in {entry.server for entry in wanted}:
        pairs = iter(database.get_device_class_list(server))
        for name, device_class in zip(pairs, pairs, strict=False):
            if name.lower() not in names and device_class.lower() != "dserver":
                database.delete_device(name)
    for entry in wanted:
        info = tango.DbDevInfo()
        info.name, info._class, info.server = entry.name, entry.device_class, entry.server  # noqa: SLF001 (its API)
        database.add_device(info)
        if entry.properties:
            database.put_device_property(entry.name, dict(entry.properties))


def wait_for_devices(tango_host: str, names: Iterable[str], timeout_s: float, check: Callable[[], None]) -> None:
    """Return once every device answers `ping`; `check` is called between questions and may raise."""
    waiting = list(names)

    def all_answer() -> bool:
        waiting[:] = [name for name in waiting if not answers_ping(tango_host, name)]
        return not waiting

    try:
        _wait(all_answer, timeout_s, check, "")
    except NotReadyError:
        raise NotReadyError(f"{', '.join(waiting)} did not answer within {timeout_s:g} s", waiting=waiting) from None


def answers_ping(tango_host: str, name: str) -> bool:
    """Whether the device runs: a new proxy each time, as one that failed refuses to try again for a second."""
    try:
        tango.DeviceProxy(f"tango://{tango_host}/{name}").ping()
    except tango.DevFailed:
        return False
    return True


def _wait(answers: Callable[[], bool], timeout_s: float, check: Callable[[], None], who: str) -> None:
    deadline = time.monotonic() + timeout_s
    while not answers():
        check()
        if time.monotonic() > deadline:
            raise NotReadyError(f"{who} did not answer within {timeout_s:g} s")
        time.sleep(POLL)
