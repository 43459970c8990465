"""Tango classes made from the plugins: `Lima<Camera>Control`, `Lima<Camera>Receiver`, one per pipeline."""

from typing import Any

from lima2_tango.cameras.base import ExtraCommand, Plugin
from lima2_tango.control.parameters import pipelines
from lima2_tango.core.errors import ParamError
from lima2_tango.core.plugins import available, load
from lima2_tango.processing.plugin import PipelinePlugin

from .base import AcquisitionDevice
from .commands import command
from .control import ControlDevice
from .driven import forwarded_getter
from .errors import as_dev_failed
from .processing import ProcessingDevice, frame_command, info_attribute, row_command, sparse_command, vector_command
from .readings import reading_attributes
from .receiver import ReceiverDevice
from .scalars import GenericControlDevice, scalar_attributes

PROCESSING_VERSION = "core-1.2.0"
"""What the clients check of a processing class (contract section 2.5)."""

ROLES: dict[str, type[AcquisitionDevice]] = {"Control": GenericControlDevice, "Receiver": ReceiverDevice}


def class_of(camera: Plugin, role: str) -> str:
    """Name of the Tango class of a camera in a role."""
    return f"Lima{camera.name}{role}"


def camera_classes(wanted: set[str] | None = None) -> dict[str, type[AcquisitionDevice]]:
    """Control and receiver classes of every camera, by Tango class name; only the `wanted` ones where given."""
    classes: dict[str, type[AcquisitionDevice]] = {}
    for name in available("cameras"):
        if wanted is not None and not _is_wanted(name, wanted):
            continue
        plugin: Plugin = load("cameras", name)
        for role, base in ROLES.items():
            class_name = class_of(plugin, role)
            if wanted is None or class_name in wanted:
                classes[class_name] = _camera_class(plugin, class_name, base)
    _refuse_unknown((wanted or set()) - set(classes))
    return classes


def _refuse_unknown(missing: set[str]) -> None:
    """Raise ParamError for a class of ours that no camera serves; what else a database lists is Tango's affair."""
    for name in sorted(missing):
        if name.startswith("Lima") and name.endswith(("Control", "Receiver")):
            have = ", ".join(available("cameras"))
            raise ParamError(
                "Tango class", name, f"no camera has it; a camera's file is named as the camera, in lower case: {have}"
            )


def _is_wanted(file: str, wanted: set[str]) -> bool:
    """Whether a class of the camera in this file is among them: a file is named as its camera, in lower case."""
    return any(name.lower().startswith(f"lima{file.lower()}") for name in wanted)


def _camera_class(plugin: Plugin, class_name: str, base: type[AcquisitionDevice]) -> type[AcquisitionDevice]:
    members: dict[str, Any] = {
        "plugin": plugin,
        "__doc__": f"{base.__doc__} Camera: {plugin.name}.",
    }
    if issubclass(base, ControlDevice):
        members |= {name: _extra_command(name, extra) for name, extra in plugin.commands.items()}
        members |= scalar_attributes(plugin)
        members |= reading_attributes(plugin)
        members |= {name: forwarded_getter(name) for name in _getters() if not hasattr(base, name)}
    return type(class_name, (base,), members)


def _getters() -> list[str]:
    """Getters of all pipelines."""
    return sorted({getter for plugin in pipelines().values() for getter in plugin.getters()})


def processing_classes() -> dict[str, type[ProcessingDevice]]:
    """Processing classes, by Tango class name."""
    return {name: _processing_class(plugin) for name, plugin in pipelines().items()}


def _processing_class(plugin: PipelinePlugin) -> type[ProcessingDevice]:
    members: dict[str, Any] = {"plugin": plugin, "__doc__": plugin.doc}
    members |= {name: frame_command(name, label) for name, label in plugin.frame_commands.items()}
    members |= {name: vector_command(name, *place) for name, place in plugin.vector_commands.items()}
    members |= {name: sparse_command(name, label) for name, label in plugin.sparse_commands.items()}
    members |= {name: row_command(name) for name in plugin.row_commands}
    members |= {name: info_attribute(name) for name in plugin.info_attributes}
    return type(plugin.class_name, (ProcessingDevice,), members)


def _extra_command(name: str, spec: ExtraCommand) -> Any:
    """A camera's own command on its control device."""

    def with_argument(device: ControlDevice, argument: Any) -> None:
        with as_dev_failed(name):
            spec.run(device.camera_control(), argument)

    def without(device: ControlDevice) -> None:
        with as_dev_failed(name):
            spec.run(device.camera_control(), None)

    body: Any = without if spec.argument is None else with_argument
    body.__name__, body.__doc__ = name, spec.doc
    return command(dtype_in=spec.argument)(body) if spec.argument else command()(body)
