"""Readings of a detector as attributes of its control device, with units and alarms."""

import time
from typing import Any

from tango import AttrQuality

from lima2_tango.cameras.base import Plugin, Reading
from lima2_tango.core.leaves import label_of

from .control import ControlDevice
from .errors import as_dev_failed, as_tango_text
from .shown import attribute

UNREACHABLE = "unreachable"
"""State of a detector that does not answer."""

Timed = tuple[float | int | str, float, AttrQuality]


def reading_attributes(camera: Plugin) -> dict[str, Any]:
    """Attributes of the control class of a camera, by name."""
    return {name: _attribute(name, reading) for name, reading in camera.readings.items()}


def timed(name: str, reading: Reading, status: dict[str, Any]) -> Timed:
    """A reading as Tango sends it, out of what the camera's `status` told; limits are for Tango to look at."""
    key = reading.key or name
    value = reading.kind(status.get(key, reading.kind()))
    quality = AttrQuality.ATTR_VALID
    if key in status.get("alarms", ()) or (reading.good and value not in reading.good):
        quality = AttrQuality.ATTR_ALARM
    if key not in status or (status.get("state") == UNREACHABLE and key != "state"):
        quality = AttrQuality.ATTR_INVALID
    return as_tango_text(value) if isinstance(value, str) else value, time.time(), quality


def _attribute(name: str, reading: Reading) -> Any:
    def read(device: ControlDevice) -> Timed:
        with as_dev_failed(name):
            return timed(name, reading, device.camera_control().status())

    read.__name__ = f"read_{name}"
    shown = {"unit": reading.unit, "min_alarm": _text(reading.least), "max_alarm": _text(reading.most)}
    declared: dict[str, Any] = {key: text for key, text in shown.items() if text}
    return attribute(fget=read, dtype=reading.kind, doc=reading.doc, label=label_of(name), **declared)


def _text(limit: float | None) -> str:
    return "" if limit is None else f"{limit:g}"
