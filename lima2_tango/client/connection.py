"""The control device as a script sees it."""

import json
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self, Unpack

from lima2_tango.core.state import State

from .device import Device, TangoDevice
from .errors import sentence
from .link import Link
from .parameters import DEFAULT_PIPELINE, Json, Settings, edited, pipeline_class
from .records import RunRecord
from .run import Run


class Client:
    """Drives a Lima2 system through its control device. All calls have a bound and raise errors of ours.

    RefusedError is the device's own sentence, ParamError refuses what is asked for before anything is sent, and
    UnreachableError says who does not answer.
    """

    def __init__(self, device: Device) -> None:
        self.device = device

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Forget the device, which goes on with what it does; safe twice."""
        self.device.close()

    @property
    def name(self) -> str:
        """`domain/family/member` of the control device."""
        return self.device.name

    def state(self) -> State:
        """State of the acquisition."""
        return State(int(self.device.read("acq_state")["acq_state"]))

    def last_error(self) -> str:
        """What went wrong last, one sentence; empty where nothing did."""
        return sentence(str(self.device.read("last_error")["last_error"] or ""))

    def acq_params(self) -> Json:
        """Acquisition parameters as they are, defaults included."""
        return self._parameters("acq_params")

    def proc_params(self) -> Json:
        """Processing parameters as they are, defaults included; `class_name` names the pipeline."""
        return self._parameters("proc_params")

    def configure(self, **settings: Unpack[Settings]) -> None:
        """Change parameters for the next run; what is not named stays as it is.

        Another pipeline begins with its defaults.
        """
        wanted = settings.get("pipeline")
        current = self.proc_params()
        name = pipeline_class(wanted) if wanted else current.get("class_name", DEFAULT_PIPELINE)
        if current.get("class_name") != name:
            self._write("proc_params", {"class_name": name})
            current = self.proc_params()
        acq, proc = edited(self.acq_params(), current, settings)
        self._write("acq_params", acq)
        self._write("proc_params", proc)

    def replace(self, acq: Mapping[str, Any] | None = None, proc: Mapping[str, Any] | None = None) -> None:
        """Parameters for the next run in place of the present ones: what they leave out has its default again."""
        if acq is not None:
            self._write("acq_params", acq)
        if proc is not None:
            self._write("proc_params", proc)

    def prepare(self, acq: Mapping[str, Any] | None = None, proc: Mapping[str, Any] | None = None) -> Run:
        """Prepare a run with the parameters as they are, or with these instead, as `replace` takes them.

        Where another client prepares too before this one has read which run is its own, the run is the other's, as the
        control has one that is prepared. `begin` and `acquire` cannot be mistaken.
        """
        self.replace(acq, proc)
        self.device.command("Prepare", "")
        return self._run(self.device.read("run_uuid")["run_uuid"])

    def begin(self) -> Run:
        """Prepare and start a run with the parameters as they are, in one command of the control."""
        return self._run(self.device.command("Acquire"))

    def acquire(self, **settings: Unpack[Settings]) -> Run:
        """Configure, prepare and start a run.

        What it saves and which regions it reduces is for this run alone: without `saving` nothing is saved, without
        `rois` and `profiles` nothing is reduced. Everything else that is not named stays as it is.
        """
        settings.setdefault("saving", None)
        settings.setdefault("rois", ())
        settings.setdefault("profiles", ())
        self.configure(**settings)
        return self.begin()

    def runs(self) -> list[RunRecord]:
        """The control's log of runs, newest first."""
        told = self.device.read("runs")["runs"]
        return [RunRecord.parse(text) for text in (told if told is not None else ())]

    def run(self, uuid: str) -> Run:
        """A run of the log; raises RefusedError where the control does not know it."""
        RunRecord.parse(self.device.ask("Run", uuid))
        return self._run(uuid)

    def last_run(self) -> Run | None:
        """The control's current or last run; None before the first."""
        uuid = self.device.read("run_uuid")["run_uuid"]
        return self._run(uuid) if uuid else None

    def stop(self) -> None:
        """End whatever run is on; its data are kept."""
        self.device.command("Stop")

    def reset(self) -> None:
        """Stop whatever is on and clear a failure: the control is idle."""
        self.device.command("Reset")

    def _run(self, uuid: object) -> Run:
        return Run(Link(self.device, str(uuid)))

    def _parameters(self, name: str) -> Json:
        text = self.device.read(name)[name]
        plain: Json = json.loads(text) if text else {}
        return plain

    def _write(self, name: str, params: Mapping[str, Any]) -> None:
        self.device.write(name, json.dumps(params))  # plain ASCII: Tango would garble anything else


def connect(device: str, tango_host: str | None = None) -> Client:
    """The control device of a system that runs, such as `id00/limacontrol/simulator`.

    `tango_host` is `host:port` of the Tango database; the environment's TANGO_HOST where it is not given. Raises
    UnreachableError, within seconds, with who does not answer.
    """
    return Client(TangoDevice.connect(device, tango_host))
