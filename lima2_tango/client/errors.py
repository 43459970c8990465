"""
Lima2Error
 + RefusedError      the device refused; the sentence is its own   -> what it says
 + UnreachableError  nobody answers, or there is no such device    -> start it, or correct the name
 + RunFailedError    a run failed, or was replaced by another      -> the sentence names rank and frame
"""

import json
from typing import Any

import tango

from lima2_tango.core.errors import Lima2Error

REASON = "LIMA_Exception"
"""Tango errors with this reason carry our JSON payload."""
TIMED_OUT = "API_DeviceTimedOut"
ABSENT = {
    "API_TangoHostNotSet": "cannot be looked up: give the Tango database as HOST:PORT, or set TANGO_HOST",
    "API_CantConnectToDatabase": "cannot be looked up: the Tango database does not answer",
    "API_DeviceNotExported": "is defined, but its server does not run: start it",
    "DB_DeviceNotDefined": "is not defined in this Tango database: correct the name, or register the device",
    "API_WrongDeviceNameSyntax": "is no name of a device: give domain/family/member",
    "API_UnsupportedProtocol": "is no name of a device: give domain/family/member",
    TIMED_OUT: "did not answer in time: its server hangs, or its computer is overloaded",
    "API_CantConnectToDevice": "does not answer: its server has ended, or is starting",
    "API_CorbaException": "does not answer: its server has ended, or its computer cannot be reached",
}
"""What a Tango reason says of a device that cannot be asked; the first that is found counts."""


class RefusedError(Lima2Error):
    """The device refused, and its sentence says why; `info` has its facts, such as the `path` of a parameter."""


class UnreachableError(Lima2Error):
    """No device answers under this name, or not any more."""


class RunFailedError(Lima2Error):
    """The run ended as failed, or the control does not know it any more."""


def from_dev_failed(error: tango.DevFailed, device: str, action: str, timeout_s: float | None = None) -> Lima2Error:
    """Our error for a Tango one: the device's own sentence where it has one, else who and what was tried.

    `timeout_s` is how long the answer was waited for, where that is worth telling.
    """
    for entry in error.args:
        if entry.reason == REASON:
            return _refusal(entry.desc)
    reasons = [entry.reason for entry in error.args]
    for reason, absence in ABSENT.items():
        if reason in reasons:
            within = f", within {timeout_s:g} s" if reason == TIMED_OUT and timeout_s is not None else ""
            return UnreachableError(f"{device} {absence} (asked for: {action}{within})", reason=reason)
    text = " ".join(error.args[0].desc.split()) if error.args else "without a reason"
    return RefusedError(f"{device}: {action} failed: {text}")


def sentence(text: str) -> str:
    """What a `last_error` or the `error` of a run says: empty for none, without the JSON around it."""
    return "" if text == "No error" else _told(text)[0]


def _refusal(text: str) -> RefusedError:
    what, info = _told(text)
    error = RefusedError(what)
    error.info = info
    return error


def _told(text: str) -> tuple[str, dict[str, Any]]:
    """Sentence and facts of an error as our devices send it; text of another kind is itself the sentence."""
    text = _as_utf8(text)
    try:
        payload = json.loads(text)
        what, info = payload["what"], payload.get("errinfo", {})
    except (ValueError, KeyError, TypeError):
        return text, {}
    return (what, info) if isinstance(what, str) and isinstance(info, dict) else (text, {})


def _as_utf8(text: str) -> str:
    """PyTango shows UTF-8 bytes as latin-1 text: take that back."""
    try:
        return text.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return text
