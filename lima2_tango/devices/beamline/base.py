"""What the devices of the simulated beamline share."""

from collections.abc import Callable
from functools import wraps
from typing import Any, ClassVar

import tango.server
from tango import AttrWriteType, DevState

from lima2_tango.devices.errors import as_dev_failed
from lima2_tango.simulators.beamline.assembly import Beamline

RW = AttrWriteType.READ_WRITE


def refusing(body: Callable[..., Any]) -> Callable[..., Any]:
    """The body of a command or a setter, whose refusals are Tango errors with our sentence."""

    @wraps(body)
    def run(device: "BeamlineDevice", *arguments: Any) -> Any:
        with as_dev_failed(f"{device.get_name()} {body.__name__}"):
            return body(device, *arguments)

    return run


class BeamlineDevice(tango.server.Device):
    """One device of the beamline that this process simulates."""

    beamline: ClassVar[Beamline]

    def init_device(self) -> None:
        super().init_device()
        self.set_state(DevState.ON)
        self.set_status("simulated")

    def always_executed_hook(self) -> None:
        state = self.now()
        self.set_state(state)
        self.set_status(f"simulated; {str(state).lower()}")

    def now(self) -> DevState:
        """State of what it simulates."""
        return DevState.ON
