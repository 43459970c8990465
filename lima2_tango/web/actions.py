"""What an operator may ask for: each with a connection of its own, so that Stop never waits behind Prepare."""

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lima2_tango.client import Client
from lima2_tango.client.device import TangoDevice
from lima2_tango.client.errors import UnreachableError
from lima2_tango.client.live import data_roots_of, device_class_of, schema_of
from lima2_tango.core.errors import Lima2Error, NotAvailableError, ParamError
from lima2_tango.core.params import Params
from lima2_tango.processing.drawing import Drawing

from . import form

COMMANDS = ("start", "stop", "trigger", "reset")


class Order(Params):
    """What the form and the buttons send."""

    command: str = ""
    """start, stop, trigger or reset; empty only sets parameters."""
    pipeline: str = ""
    """Another pipeline, by its Tango class; empty keeps the one that is chosen."""
    changes: dict[str, Any] = {}
    """Fields of the form by path, times in seconds."""


class RoiOrder(Params):
    """All regions of interest, as SetRoi takes them; profiles stay as they are."""

    rectangles: list[tuple[int, int, int, int]] = []
    """[x, y, width, height] [pixel]"""
    arcs: list[tuple[float, float, float, float, float, float]] = []
    """[x, y, r1, r2, a1, a2] [pixel] and [degree]"""


@dataclass(frozen=True, slots=True)
class Actions:
    """Blocking; every call has a bound and raises Lima2Error."""

    tango_host: str
    control: str
    _kept: list[TangoDevice] = field(default_factory=list)
    """A connection of before, for Stop: it asks no database, which may hang."""

    def client(self) -> Client:
        return Client(self.device())

    def device(self) -> TangoDevice:
        if not self._kept:
            self._kept.append(TangoDevice.connect(self.control, self.tango_host))
        return TangoDevice.connect(self.control, self.tango_host)

    def stop(self) -> str:
        """End the run that is on; by the kept connection first, and by a new one where its server is another now."""
        for device in self._kept[:1]:
            with suppress(UnreachableError):
                return _stop(Client(device))
        with self.client() as client:
            return _stop(client)

    def obey(self, order: Order) -> str:
        """Set what the order sets, then do what it says; a sentence about what was done."""
        if order.command and order.command not in COMMANDS:
            raise ParamError("command", order.command, f"choose one of {', '.join(COMMANDS)}")
        if order.command == "stop" and not (order.pipeline or order.changes):
            return self.stop()
        with self.client() as client:
            if order.pipeline or order.changes:
                self._set(client, order)
            if not order.command:
                return "Set for the next run."
            return _DO[order.command](client)

    def filled(self) -> dict[str, Any]:
        """Fields, pipelines and which of them is chosen."""
        with self.client() as client:
            found, name = self._fields(client)
            return {"pipeline": name, "pipelines": _pipelines(client), "fields": form.as_json(found)}

    def set_regions(self, wanted: RoiOrder) -> str:
        """Replace the regions of interest, for the next run; profiles stay."""
        with self.client() as client:
            text = {"rectangles": wanted.rectangles, "arcs": wanted.arcs, "profiles": _profiles(client.proc_params())}
            client.device.command("SetRoi", json.dumps(text))
        return "Regions are set for the next run; their curves begin now."

    def gives_files(self) -> bool:
        """There are folders below which files are handed out, as far as the database can be asked."""
        try:
            return bool(data_roots_of(self.tango_host, self.control))
        except Lima2Error:
            return False

    def file(self, path: str) -> Path:
        """A file below the data roots; raises ParamError, NotAvailableError."""
        return below(path, data_roots_of(self.tango_host, self.control))

    def _set(self, client: Client, order: Order) -> None:
        if order.pipeline:
            client.configure(pipeline=order.pipeline)
        if order.changes:  # else it would write back what it read, over what others have set meanwhile
            found, _ = self._fields(client)
            client.configure(changes=form.changes(found, order.changes))

    def _fields(self, client: Client) -> tuple[list[form.Field], str]:
        acq, proc = client.acq_params(), client.proc_params()
        camera = device_class_of(self.tango_host, self.control)
        name = str(proc.get("class_name", ""))
        schemas = [schema_of(self.tango_host, camera, "acq_params"), schema_of(self.tango_host, name, "proc_params")]
        return form.fields(schemas[0], acq, schemas[1], proc), name


def graph_of(class_name: str) -> dict[str, Any]:
    """Nodes and outputs of a pipeline, as `lima2 pipelines NAME --json` shows them; raises ParamError."""
    from lima2_tango.control.parameters import pipelines

    plugin = pipelines().get(class_name)
    if plugin is None:
        raise ParamError("pipeline", class_name, "this installation has no such pipeline")
    return Drawing.declared(plugin).document()


def below(path: str, roots: list[str]) -> Path:
    """A file below one of these folders, links and `..` resolved; raises ParamError, NotAvailableError."""
    if not roots:
        raise NotAvailableError(
            "files are handed out below data_roots only, and there are none: add data_roots to the configuration"
        )
    try:
        wanted = Path(path).resolve()
        inside = Path(path).is_absolute() and any(wanted.is_relative_to(Path(root).resolve()) for root in roots)
        is_file = inside and wanted.is_file()
    except (OSError, ValueError) as error:  # a NUL, a name too long, links in a ring
        raise ParamError("path", path, "this is no path of a file: take one from the list of runs") from error
    if not inside:
        raise ParamError("path", path, f"it is not below {' or '.join(roots)}: take one from the list of runs")
    if not is_file:
        raise NotAvailableError(f"{path} is not on this computer: look for it where the receivers run")
    return wanted


def _pipelines(client: Client) -> list[str]:
    return [str(name) for name in client.device.ask("ListPipelines")]


def _profiles(proc: Mapping[str, Any]) -> list[list[Any]]:
    """As SetRoi takes them: it replaces all that it is given."""
    block = proc.get("profiles") or {}
    rois, directions = block.get("rois", ()), block.get("directions", ())
    return [
        [roi["topleft"]["x"], roi["topleft"]["y"], roi["dimensions"]["x"], roi["dimensions"]["y"], direction]
        for roi, direction in zip(rois, directions, strict=False)
    ]


def _start(client: Client) -> str:
    return f"Started run {client.begin().uuid}."


def _stop(client: Client) -> str:
    client.stop()
    return "Stopped; what was taken is kept."


def _trigger(client: Client) -> str:
    client.device.command("Trigger")
    return "Triggered."


def _reset(client: Client) -> str:
    client.reset()
    return "Reset: the control is idle."


_DO: dict[str, Callable[[Client], str]] = {"start": _start, "stop": _stop, "trigger": _trigger, "reset": _reset}
