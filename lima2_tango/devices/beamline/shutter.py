"""The shutter as a Tango device, which follows the runs of a control."""

from contextlib import suppress
from threading import Event, Thread

import tango
import tango.server
from tango import DevState

from lima2_tango.core.errors import Lima2Error
from lima2_tango.core.state import State
from lima2_tango.simulators.beamline.shutter import Mode, Position

from .base import RW, BeamlineDevice, refusing

LOOK = 0.02
"""Between two looks of a shutter in mode auto_sequence at the control [s]."""
PATIENCE = 1000
"""Longest wait for the control's answer [ms]."""
STATES = {Position.OPEN: DevState.OPEN, Position.CLOSED: DevState.CLOSE, Position.MOVING: DevState.MOVING}


class BeamlineShutter(BeamlineDevice):
    """A shutter: OPEN, CLOSE or MOVING; moved by hand or by what the detector does."""

    control = tango.server.device_property(
        dtype=str, default_value="", doc="Control device whose runs it follows in mode auto_sequence."
    )

    def init_device(self) -> None:
        super().init_device()
        self._ended = Event()
        Thread(target=self._watch, args=[self._ended], name="lima2-shutter", daemon=True).start()

    def delete_device(self) -> None:
        self._ended.set()
        super().delete_device()

    def now(self) -> DevState:
        return STATES[self.beamline.shutter.position]

    @tango.server.attribute(
        dtype=str, access=RW, doc="manual, auto_frame (open while a pulse is high), auto_sequence (open during a run)."
    )
    def mode(self) -> str:
        return str(self.beamline.shutter.mode)

    @mode.write  # type: ignore[no-redef]
    @refusing
    def mode(self, mode: str) -> None:
        if mode.strip().lower() == Mode.AUTO_SEQUENCE and not self.control:
            raise Lima2Error("the device property control names no control whose runs could be followed: set it")
        self.beamline.shutter.set_mode(mode)

    @tango.server.attribute(dtype=bool, doc="The beam passes.")
    def is_open(self) -> bool:
        return self.beamline.shutter.is_open

    @tango.server.attribute(dtype=int, doc="How often it was told to open since the start.")
    def nb_openings(self) -> int:
        return self.beamline.shutter.openings

    @tango.server.command(doc_in="In mode manual only.")
    @refusing
    def Open(self) -> None:
        self.beamline.shutter.open()

    @tango.server.command(doc_in="In mode manual only.")
    @refusing
    def Close(self) -> None:
        self.beamline.shutter.close()

    def _watch(self, ended: Event) -> None:
        """Follow the control's runs while the mode asks for it; a control that does not answer has no run."""
        control: tango.DeviceProxy | None = None
        with tango.EnsureOmniThread():
            while not ended.wait(LOOK):
                if self.beamline.shutter.mode is not Mode.AUTO_SEQUENCE:
                    control = None
                    continue
                on = False
                with suppress(tango.DevFailed):
                    if control is None:
                        proxy = tango.DeviceProxy(self.control)
                        proxy.ping()  # with one that is not connected the next line would keep Python's lock, for 3 s
                        proxy.set_timeout_millis(PATIENCE)
                        control = proxy
                    on = State(int(control.read_attribute("acq_state").value)) in {State.PREPARED, State.RUNNING}
                self.beamline.shutter.sequence(on)
