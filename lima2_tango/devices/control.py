"""Tango skin of the control."""

import json
from typing import Any

from tango.server import device_property

from lima2_tango.cameras.base import ControlHalf
from lima2_tango.control.controller import Controller
from lima2_tango.control.drive import Drive
from lima2_tango.core.state import StateMachine

from .commands import command, released
from .driven import DrivingDevice
from .errors import as_dev_failed
from .shown import attribute


class ControlDevice(DrivingDevice):
    """Arms one detector, takes its triggers and coordinates its receivers; drives them where no conductor does."""

    receiver_topology = device_property(
        dtype=str,
        default_value="",
        doc="Topology that the conductor is started with; for people, nothing here reads it.",
    )

    def init_device(self) -> None:
        super().init_device()
        self._controller: Controller = self.process.controller(self)
        self._drive: Drive = self.process.drive(self)
        self.push_events(self._controller.machine)
        self.look_from_now_on(self._drive)
        self._reset()

    @released
    def _reset(self) -> None:
        with as_dev_failed("Init"):
            self._drive.reset()

    def machine(self) -> StateMachine:
        return self._controller.machine

    def drive(self) -> Drive:
        return self._drive

    def parameters(self) -> Controller:
        return self._controller

    def failure(self) -> Exception | None:
        return self._controller.error

    def camera_control(self) -> ControlHalf[Any]:
        """The detector behind this device, for the camera's own commands."""
        return self._controller.camera

    @attribute(label="Version of the camera plugin", dtype=str)
    def version(self) -> str:
        """Version of the detector plugin as clients check it."""
        return self.plugin.version

    @attribute(label="Detector (JSON)", dtype=str)
    def det_info(self) -> str:
        """What does not change about the detector, JSON: plugin, model, sn, pixel_size [m], dimensions [pixel]."""
        return json.dumps(self._controller.camera.info().as_json())

    @attribute(label="Detector readings (JSON)", dtype=str)
    def det_status(self) -> str:
        """Readings of the detector, JSON: state, temperature [degC], humidity [%], and the camera's own."""
        return json.dumps(self._controller.camera.status())

    @attribute(label="Detector capabilities (JSON)", dtype=str)
    def det_capabilities(self) -> str:
        """What the detector can do, JSON: trigger modes, ranges of exposure and latency time [ns]."""
        return json.dumps(self._controller.camera.capabilities.as_json())

    @attribute(label="Frames acquired", dtype="DevULong64", unit="frame")
    def nb_frames_acquired(self) -> int:
        """Frames acquired in the current or last run, by all receivers."""
        return self._controller.nb_frames_acquired

    @released
    def is_Prepare_allowed(self) -> bool:
        # What can fail fails here: an error raised by the command itself loses its text (contract R15).
        with as_dev_failed("Prepare"):
            self._drive.build()
        return True

    @command(
        dtype_in=str, doc_in="uuid of the run, made by a caller that drives all devices; empty: the control drives"
    )
    def Prepare(self, uuid: str) -> None:
        """Check the parameters and arm the detector; driving, all receivers too. IDLE or PREPARED -> PREPARED.

        May take seconds, where frames are made or kernels compiled: give the proxy a timeout of 30 s.
        """
        with as_dev_failed("Prepare"):
            if uuid:
                self._controller.prepare(uuid)
            else:
                self._drive.prepare()

    @released
    def is_Acquire_allowed(self) -> bool:
        with as_dev_failed("Acquire"):
            self._drive.build()
        return True

    @command(dtype_out=str, doc_out="uuid of the run")
    def Acquire(self) -> str:
        """Prepare and start a run that the control drives: -> RUNNING, and IDLE by itself after its last frame.

        Takes as long as Prepare.
        """
        with as_dev_failed("Acquire"):
            return self._drive.acquire()

    @released
    def is_Start_allowed(self) -> bool:
        with as_dev_failed("Start"):
            self._drive.check_start()
        return True

    @command()
    def Start(self) -> None:
        """Begin the run on all receivers that were prepared for it; PREPARED -> RUNNING."""
        with as_dev_failed("Start"):
            self._drive.start()

    @released
    def is_Trigger_allowed(self) -> bool:
        with as_dev_failed("Trigger"):
            self._controller.check_trigger()
        return True

    @command()
    def Trigger(self) -> None:
        """Software trigger: expose acq.nb_frames_per_trigger frames."""
        with as_dev_failed("Trigger"):
            self._controller.trigger()

    @command()
    def Stop(self) -> None:
        """End the run at a frame that all receivers agree on; without effect when there is none."""
        with as_dev_failed("Stop"):
            self._drive.stop()

    @command()
    def Abort(self) -> None:
        """Stop, then Reset when the run is over: any state -> IDLE, within 10 s."""
        with as_dev_failed("Abort"):
            self._drive.abort()

    @released
    def is_Close_allowed(self) -> bool:
        with as_dev_failed("Close"):
            self._controller.check_close()
        return True

    @command()
    def Close(self) -> None:
        """The run is over and its data complete; -> IDLE."""
        with as_dev_failed("Close"):
            self._drive.close()

    @command()
    def Reset(self) -> None:
        """Any state -> IDLE, on the receivers of a run that the control drives too; a run that is on is stopped."""
        with as_dev_failed("Reset"):
            self._drive.reset()
