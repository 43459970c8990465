"""Whether who is to be commanded answers, and is a control: told within seconds, before anything is asked of it."""

import os
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import tango

from .database import database_at
from .errors import TIMED_OUT, RefusedError, UnreachableError
from .supervision import at_once

PATIENCE = 2.0
"""A database, or a device, that has not answered within this is frozen or hangs [s]."""
CONTROLS = "Lima*Control"
"""Tango classes of controls."""
Answer = TypeVar("Answer")


def check_control(name: str, tango_host: str | None) -> None:
    """Return where the control answers, or where `connect` says better why it does not.

    Raises UnreachableError, within `PATIENCE` for each of database and device, where one takes a question and keeps
    it, and RefusedError with the controls that there are for a device that is none.
    """
    host = tango_host or os.environ.get("TANGO_HOST", "")
    if "://" in name or "," in host or not host.rpartition(":")[2].isdigit():
        return
    info = _asked(lambda: database_at(host).get_device_info(name), _silent_database(host))
    if info is None or not info.exported:
        return
    if not info.class_name.endswith("Control"):
        raise RefusedError(_no_control(name, info.class_name, _asked(partial(_controls, host), _silent_database(host))))
    _asked(partial(_ping, host, name), _silent_device(name, info.pid))


def _asked(question: Callable[[], Answer], silence: str) -> Answer | None:
    """The answer, None for a refusal that is not our affair; raises UnreachableError with `silence` for none at all."""

    def ask() -> tuple[Answer | None, bool]:
        try:
            return question(), False
        except tango.DevFailed as error:
            return None, any(entry.reason == TIMED_OUT for entry in error.args)

    (found,) = at_once([ask], PATIENCE)
    if found is None or found[1]:
        raise UnreachableError(silence)
    return found[0]


def _ping(host: str, name: str) -> None:
    tango.DeviceProxy(f"tango://{host}/{name}").ping()


def _controls(host: str) -> list[str]:
    database = database_at(host)
    classes = database.get_class_list(CONTROLS)
    return sorted(name for each in classes for name in database.get_device_exported_for_class(each))


def _no_control(name: str, device_class: str, controls: list[str] | None) -> str:
    what = "a receiver, which its control commands" if device_class.endswith("Receiver") else f"a {device_class}"
    choice = f"name a control: {' or '.join(controls)}" if controls else "no control runs in this Tango database"
    return f"{name} is {what}: {choice}"


def _silent_database(host: str) -> str:
    return (
        f"the Tango database at {host} does not answer within {PATIENCE:g} s: its process is frozen or hangs, or its "
        "computer cannot be reached; lima2 down ends a system of this computer, and lima2 up starts it anew"
    )


def _silent_device(name: str, pid: int) -> str:
    return (
        f"{name} does not answer within {PATIENCE:g} s: its server, process {pid}, is frozen or hangs; lima2 down ends "
        "a system of this computer, and lima2 up starts it anew"
    )
