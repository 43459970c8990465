"""What control and receiver devices share: state, log level, Init as Reset."""

import logging
from typing import Any, ClassVar

import tango
from tango.server import device_property

from lima2_tango.cameras.base import Plugin
from lima2_tango.control.parameters import Parameterised
from lima2_tango.control.settings import Settings
from lima2_tango.core.errors import StateError
from lima2_tango.core.state import STATUS, TANGO_STATE, State, StateMachine

from .errors import as_dev_failed, as_tango_text, as_utf8
from .live import LiveDevice
from .shown import attribute

LOG_LEVELS = {"trace": 5, "debug": 10, "info": 20, "warning": 30, "error": 40, "fatal": 50}


class AcquisitionDevice(LiveDevice):
    """A device with an acquisition state. The factory sets `plugin`, the server `process`."""

    process: ClassVar[Any]
    plugin: ClassVar[Plugin]

    memory_budget = device_property(
        dtype=int,
        default_value=0,
        doc="Frame memory of this process [MiB]; 0 is half of the free memory, shared by the host's receivers.",
    )
    data_roots = device_property(
        dtype=(str,),
        default_value=[],
        doc="Folders that paths in parameters must lie in; none: anywhere the process may go.",
    )
    allowed_commands = device_property(
        dtype=(str,), default_value=[], doc="Programs that max_countrate_protection may run; default none."
    )
    workers = device_property(
        dtype=int,
        default_value=0,
        doc="Threads that process frames in this process; 0 is the cores of the host shared by its receivers.",
    )

    detector = device_property(
        dtype=str,
        default_value="",
        doc="Where the detector is, host or host:port, the same for control and receivers; for cameras on a network.",
    )

    def settings(self) -> Settings:
        return Settings(
            memory_budget=self.memory_budget << 20,
            data_roots=tuple(self.data_roots),
            allowed_commands=tuple(self.allowed_commands),
            workers=self.workers,
            detector=self.detector,
        )

    def machine(self) -> StateMachine:
        raise NotImplementedError

    def parameters(self) -> Parameterised:
        """The control or receiver behind this device."""
        raise NotImplementedError

    def failure(self) -> Exception | None:
        """What went wrong in the current or last acquisition."""
        raise NotImplementedError

    def delete_device(self) -> None:
        """Init is Reset: refused while running. Tango ignores the refusal where it restarts or ends the device."""
        with as_dev_failed("Init"):
            if self.machine().state is State.RUNNING:
                raise StateError("cannot initialise while running: Stop first")

    def dev_state(self) -> tango.DevState:
        return tango.DevState.names[TANGO_STATE[self.machine().state]]

    def dev_status(self) -> str:
        failure = self.failure()
        lines = [STATUS[self.machine().state], self.process.description()]
        return as_tango_text("\n".join([*lines, f"Last error: {failure}"] if failure else lines))

    @attribute(label="Acquisition state", dtype="DevEnum", enum_labels=[state.label for state in State])
    def acq_state(self) -> int:
        """State of the acquisition; the Tango State follows it."""
        return int(self.machine().state)

    acq_params = attribute(
        label="Acquisition parameters (JSON)",
        dtype=str,
        access=tango.AttrWriteType.READ_WRITE,
        doc="Acquisition parameters, JSON; the class attribute property schema describes them.",
    )

    def read_acq_params(self) -> str:
        return self.parameters().acq_params.json_text()

    def write_acq_params(self, text: str) -> None:
        with as_dev_failed("acq_params"):
            self.parameters().set_acq_params(as_utf8(text))

    proc_params = attribute(
        label="Processing parameters (JSON)",
        dtype=str,
        access=tango.AttrWriteType.READ_WRITE,
        doc="Processing parameters, JSON; class_name in them chooses the pipeline. Empty before the first write.",
    )

    def read_proc_params(self) -> str:
        choice = self.parameters().choice
        return "" if choice is None else choice.params.json_text()

    def write_proc_params(self, text: str) -> None:
        with as_dev_failed("proc_params"):
            self.parameters().set_proc_params(as_utf8(text))

    log_level = attribute(
        label="Log level",
        dtype="DevEnum",
        enum_labels=list(LOG_LEVELS),
        access=tango.AttrWriteType.READ_WRITE,
        memorized=True,
        hw_memorized=True,
        doc="Least severe messages that are logged by this process; kept over restarts, before the option --log-level.",
    )

    def read_log_level(self) -> int:
        level = logging.getLogger("lima2_tango").getEffectiveLevel()
        return max(number for number, limit in enumerate(LOG_LEVELS.values()) if limit <= level)

    def write_log_level(self, number: int) -> None:
        logging.getLogger("lima2_tango").setLevel(list(LOG_LEVELS.values())[number])
