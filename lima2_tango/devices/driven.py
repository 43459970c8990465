"""What the control device tells of the runs that it drives itself: progress, frames, rows, files, and their log."""

import math
from contextlib import suppress
from threading import Lock
from typing import Any

import tango

from lima2_tango.control import serve
from lima2_tango.control.drive import Drive
from lima2_tango.control.live import OnDemand, Regions, newest_of_all, recent_regions
from lima2_tango.core import encoded
from lima2_tango.core.errors import NotAvailableError
from lima2_tango.core.live import Look
from lima2_tango.core.state import TANGO_STATE, State, StateMachine

from .base import AcquisitionDevice
from .commands import command
from .errors import as_dev_failed, as_tango_text
from .shown import attribute

NO_ERROR = "No error"
STATE_EVENTS = ("State", "acq_state")
PROGRESS_EVENTS = ("run_uuid", "nb_frames_acquired", "nb_frames_processed", "nb_frames_saved", "last_error")
"""Attributes with change events."""


class DrivingDevice(AcquisitionDevice):
    """Attributes are of the current or last run that the control has driven, over all its receivers.

    Reading them asks nobody: a thread per run looks at the receivers every 100 ms.
    """

    def drive(self) -> Drive:
        raise NotImplementedError

    def look_from_now_on(self, drive: Drive) -> None:
        """Frames and regions of all receivers can be looked at; nothing is asked for before somebody does."""
        self._images = OnDemand(lambda: newest_of_all(drive.receivers(), drive.run))
        self._values = OnDemand(lambda: recent_regions(drive.receivers(), drive.run))

    def newest(self) -> int:
        return self.look().number

    def make_look(self, limit: int) -> Look:
        # As large as the receivers make it: their own property live_image_size says so.
        before, look = self._look, self._images.get()
        if look is None:
            raise NotAvailableError("the receivers have not answered yet")
        same = before is not None and (before.uuid, before.number) == (look.uuid, look.number)
        return before if same and before is not None else look

    def is_newest(self, look: Look) -> bool:
        return False

    def regions(self) -> Regions:
        found = self._values.get()
        if found is None:
            raise NotAvailableError("the receivers have not answered yet")
        return found

    def push_events(self, machine: StateMachine) -> None:
        """Push change events from now on; set, not added: Tango calls `init_device` again for Init."""
        self._pushed: dict[str, object] = {}
        self._push_lock = Lock()
        for name in (*STATE_EVENTS, *PROGRESS_EVENTS):
            self.set_change_event(name, True, False)
        machine.on_change[:] = [self._push_state]
        self.drive().on_progress[:] = [self._push_progress]

    def _push_state(self, state: State) -> None:
        with suppress(tango.DevFailed):  # the device is being deleted: nobody listens any more
            self.set_state(tango.DevState.names[TANGO_STATE[state]])  # what a push of State tells
            self.push_change_event("State")
            self.push_change_event("acq_state", int(state))

    def _push_progress(self) -> None:
        with self._push_lock, suppress(tango.DevFailed):
            for name in PROGRESS_EVENTS:
                value = self._value(name)
                if self._pushed.get(name) != value:
                    self._pushed[name] = value
                    self.push_change_event(name, value)

    def _value(self, name: str) -> object:
        readers = {
            "run_uuid": self._run_uuid,
            "nb_frames_acquired": lambda: self.drive().nb_frames_acquired,
            "nb_frames_processed": lambda: self._count("nb_frames_processed"),
            "nb_frames_saved": lambda: self._count("nb_frames_saved"),
            "last_error": self._last_error,
        }
        return readers[name]()

    def _count(self, name: str) -> int:
        run = self.drive().run
        return 0 if run is None else int(getattr(run, name))

    def _rate(self, name: str) -> float:
        run = self.drive().run
        return 0.0 if run is None else float(getattr(run, name))

    def _run_uuid(self) -> str:
        run = self.drive().run
        return "" if run is None else run.uuid

    def _last_error(self) -> str:
        return as_tango_text(self.drive().last_error or NO_ERROR)

    @attribute(label="Run", dtype=str)
    def run_uuid(self) -> str:
        """The current or last run that this control has driven; empty before the first."""
        return self._run_uuid()

    @attribute(label="Last runs (JSON)", dtype=(str,), max_dim_x=100)
    def runs(self) -> list[str]:
        """The last runs of this control, newest first, JSON: uuid, state, begin, end, counts, error, files, ..."""
        return [record.json_text() for record in self.drive().records()]

    @attribute(label="Frames received", dtype="DevULong64", unit="frame")
    def nb_frames_received(self) -> int:
        """Frames that the receivers have taken from the detector."""
        return self._count("nb_frames_received")

    @attribute(label="Frames processed", dtype="DevULong64", unit="frame")
    def nb_frames_processed(self) -> int:
        """Frames that are processed and readable."""
        return self._count("nb_frames_processed")

    @attribute(label="Frames saved", dtype="DevULong64", unit="frame")
    def nb_frames_saved(self) -> int:
        """Frames that are in files."""
        return self._count("nb_frames_saved")

    @attribute(label="Frame rate", dtype=float, unit="frame/s", format="%.4g")
    def frame_rate(self) -> float:
        """Frames received in the last second."""
        return self._rate("frame_rate")

    @attribute(label="Saving rate", dtype=float, unit="byte/s", format="%.4g")
    def saving_rate(self) -> float:
        """Bytes handed to the file system in the last second."""
        return self._rate("saving_rate")

    @attribute(label="Blocks queued", dtype="DevULong64", unit="block")
    def blocks_queued(self) -> int:
        """Blocks of frames between the camera and their file or last reader."""
        return self._count("blocks_queued")

    @attribute(label="Time left", dtype=float, unit="s", format="%.1f")
    def time_left(self) -> float:
        """Until the last frame is received; NaN for an endless run, and where only triggers decide."""
        run = self.drive().run
        return math.nan if run is None else run.time_left

    @attribute(label="Last error", dtype=str)
    def last_error(self) -> str:
        """What went wrong in the current or last run: No error, or a sentence that names receiver and frame."""
        return self._last_error()

    @attribute(label="Files", dtype=(str,), max_dim_x=1_000_000)
    def files(self) -> list[str]:
        """Complete files of the run, absolute paths: master files (written last), then data files by receiver."""
        run = self.drive().run
        return [] if run is None else [as_tango_text(path) for path in run.files]

    @command(dtype_in=str, doc_in="uuid of the run", dtype_out=str, doc_out="JSON, as an element of runs")
    def Run(self, uuid: str) -> str:
        """One of the last runs that this control has driven."""
        with as_dev_failed("Run"):
            return self.drive().record(uuid).json_text()

    @command(dtype_in=int, doc_in="global number of the frame; -1 is the newest", dtype_out="DevEncoded")
    def getFrame(self, index: int) -> tuple[str, bytes]:
        """A processed frame, from the receiver that has it."""
        with as_dev_failed("getFrame"):
            return serve.frame(self.drive().current(), "getFrame", index)

    @command(dtype_in=int, doc_in="global number of the frame; -1 is the newest", dtype_out="DevEncoded")
    def getInputFrame(self, index: int) -> tuple[str, bytes]:
        """A frame as the camera made it, from the receiver that has it."""
        with as_dev_failed("getInputFrame"):
            return serve.frame(self.drive().current(), "getInputFrame", index)

    @command(dtype_out="DevEncoded", doc_out="rows as of the processing devices, whole frames in global order")
    def popRoiStatistics(self) -> tuple[str, bytearray]:
        """Statistics of the regions of all receivers since the last call; a frame comes when all before it have."""
        with as_dev_failed("popRoiStatistics"):
            return encoded.rows(serve.rows(self.drive().current(), "popRoiStatistics"))

    @command(dtype_out="DevEncoded", doc_out="rows as of the processing devices, whole frames in global order")
    def popRoiProfiles(self) -> tuple[str, bytearray]:
        """Profiles of the regions of all receivers since the last call; a frame comes when all before it have."""
        with as_dev_failed("popRoiProfiles"):
            return encoded.rows(serve.rows(self.drive().current(), "popRoiProfiles"))


def forwarded_getter(name: str) -> Any:
    """A getter of a pipeline, of the receiver that has the frame."""

    def get(device: DrivingDevice, index: int) -> tuple[str, bytes]:
        with as_dev_failed(name):
            return serve.frame(device.drive().current(), name, index)

    get.__name__, get.__doc__ = (
        name,
        f"{name} of the receiver that has this frame, where the pipeline of the run has it.",
    )
    return command(dtype_in=int, doc_in="global number of the frame; -1 is the newest", dtype_out="DevEncoded")(get)
