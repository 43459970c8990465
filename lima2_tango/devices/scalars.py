"""A control for clients that know nothing of our JSON (Jive, Taurus, itango): one attribute for each parameter."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from tango import AttrQuality, DispLevel

from lima2_tango.cameras.base import Plugin
from lima2_tango.control import regions
from lima2_tango.control.parameters import pipelines
from lima2_tango.control.scalars import Scalar, Value, scalars
from lima2_tango.core.plugins import available, load
from lima2_tango.processing.plugin import PipelinePlugin

from .commands import command
from .control import ControlDevice
from .errors import as_dev_failed, as_tango_text, as_utf8
from .shown import attribute

PIPELINE = "pipeline"

Timed = tuple[Value, float, AttrQuality]


class GenericControlDevice(ControlDevice):
    """Arms one detector, takes its triggers and coordinates its receivers."""

    def init_device(self) -> None:
        super().init_device()
        source = self.parameters()
        with as_dev_failed("Init"), source.editing:
            source.choice = source.chosen()

    @command(dtype_in=str, doc_in=regions.SYNTAX)
    def SetRoi(self, text: str) -> None:
        """Replace all regions of interest of the chosen pipeline, for the next Prepare."""
        with as_dev_failed("SetRoi"):
            regions.set_regions(self.parameters(), as_utf8(text))

    @command(dtype_in=str, doc_in="absolute path on the control's computer, of a .yaml, .yml or .json file")
    def SaveConfig(self, path: str) -> None:
        """Write acq_params and proc_params to a file; an older one of parameters is replaced."""
        from lima2_tango.control.configfile import save_config  # a rank's start counts every import

        with as_dev_failed("SaveConfig"):
            save_config(self.parameters(), as_utf8(path))

    @command(dtype_in=str, doc_in="absolute path on the control's computer, of a file as SaveConfig writes it")
    def LoadConfig(self, path: str) -> None:
        """Take acq_params and proc_params from a file: both, or neither where one is refused."""
        from lima2_tango.control.configfile import load_config

        with as_dev_failed("LoadConfig"):
            load_config(self.parameters(), as_utf8(path))

    @command(dtype_out=(str,), doc_out="names of cameras")
    def ListCameras(self) -> list[str]:
        """Cameras that this installation has; the class of this device names its own."""
        with as_dev_failed("ListCameras"):
            return [load("cameras", name).name for name in available("cameras")]

    @command(dtype_out=(str,), doc_out="names of pipelines")
    def ListPipelines(self) -> list[str]:
        """Pipelines that this installation has: what the attribute pipeline and class_name of proc_params can be."""
        with as_dev_failed("ListPipelines"):
            return list(pipelines())


def scalar_attributes(camera: Plugin) -> dict[str, Any]:
    """Attributes of the control class of a camera, by name."""
    known = pipelines()
    names = {PIPELINE, *(name.lower() for name in dir(GenericControlDevice))}
    found = {name: _attribute(scalar) for name, scalar in scalars(camera.params, known, names).items()}
    return {PIPELINE: _pipeline_attribute(known), **found}


def _attribute(scalar: Scalar) -> Any:
    def read(device: GenericControlDevice) -> Timed:
        with as_dev_failed(scalar.name):
            return _timed(device, scalar, scalar.read(device.parameters()))

    def write(device: GenericControlDevice, value: Value) -> None:
        with as_dev_failed(scalar.name):
            scalar.write(device.parameters(), as_utf8(value) if isinstance(value, str) else value)

    return _made(
        scalar.name,
        read,
        write,
        dtype="DevEnum" if scalar.leaf.choices else scalar.kind,
        label=scalar.label,
        doc=scalar.text,
        display_level=DispLevel.OPERATOR if scalar.common else DispLevel.EXPERT,
        **_format(scalar),
    )


def _format(scalar: Scalar) -> dict[str, Any]:
    """Unit, limits, labels and how a number is shown, where there are any."""
    found: dict[str, Any] = {"unit": scalar.unit, "min_value": scalar.least, "max_value": scalar.most}
    found["enum_labels"] = list(scalar.leaf.choices) or None
    if scalar.kind is float:
        found["format"] = "%.6f" if scalar.is_time else "%g"  # Tango's own shows 1 us as 0.00
    return {key: value for key, value in found.items() if value not in (None, "")}


def _timed(device: GenericControlDevice, scalar: Scalar, value: Value | None) -> Timed:
    """A value as Tango sends it; one that the chosen pipeline does not have is invalid."""
    now = time.time()
    if value is None:
        return "" if scalar.kind is str and not scalar.leaf.choices else 0, now, AttrQuality.ATTR_INVALID
    sent = _shown(value) if isinstance(value, str) else value
    _show_set_point(device, scalar.name, sent)
    return sent, now, AttrQuality.ATTR_VALID


def _show_set_point(device: GenericControlDevice, name: str, value: Value) -> None:
    """The set point is the current value whoever changed it: Taurus begins its edits there."""
    set_point = device.get_device_attr().get_w_attr_by_name(name)
    if set_point.get_write_value() != value:
        set_point.set_write_value(value)


def _shown(text: str) -> str:
    """Text as Tango's clients read it: latin-1 where that can spell it, else UTF-8 that looks like it."""
    try:
        text.encode("latin-1")
    except UnicodeEncodeError:
        return as_tango_text(text)
    return text


def _pipeline_attribute(known: Mapping[str, PipelinePlugin]) -> Any:
    names = list(known)

    def read(device: GenericControlDevice) -> int:
        with as_dev_failed(PIPELINE):
            number = names.index(device.parameters().chosen().plugin.class_name)
            _show_set_point(device, PIPELINE, number)
            return number

    def write(device: GenericControlDevice, number: int) -> None:
        with as_dev_failed(PIPELINE):
            device.parameters().choose_pipeline(names[number])

    return _made(
        PIPELINE,
        read,
        write,
        dtype="DevEnum",
        enum_labels=names,
        label="Pipeline",
        doc="What processes the frames, class_name in proc_params. "
        "What was changed and another one has too stays when it is chosen, the rest is its default.",
    )


def _made(name: str, read: Callable[..., Any], write: Callable[..., None], **declared: Any) -> Any:
    read.__name__, write.__name__ = f"read_{name}", f"write_{name}"
    return attribute(fget=read, fset=write, **declared)
