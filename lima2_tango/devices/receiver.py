"""Tango skin of a receiver."""

from tango.server import device_property

from lima2_tango.control.live import STATISTICS, Regions, look_at, newest_number, regions_of
from lima2_tango.control.receiver import Receiver
from lima2_tango.control.run import Run
from lima2_tango.core.errors import NotAvailableError
from lima2_tango.core.live import Look
from lima2_tango.core.state import StateMachine

from .base import AcquisitionDevice
from .commands import command, released
from .errors import as_dev_failed, text_of
from .shown import attribute


class ReceiverDevice(AcquisitionDevice):
    """Receives, processes and saves its part of the frames of one detector."""

    rank = device_property(
        dtype=int, default_value=-1, doc="Which receiver this is, from 0; -1: its place in the MPI job."
    )

    def init_device(self) -> None:
        super().init_device()
        self._receiver: Receiver = self.process.receiver(self)
        self._reset()

    @released
    def _reset(self) -> None:
        with as_dev_failed("Init"):
            self._receiver.reset()

    def machine(self) -> StateMachine:
        return self._receiver.machine

    def parameters(self) -> Receiver:
        return self._receiver

    def _shown(self) -> Run:
        """The run that was prepared last, whose frames are looked at."""
        runs = list(self._receiver.runs.values())
        if not runs:
            raise NotAvailableError("there is no run to look at: none was prepared, or all are erased")
        return runs[-1]

    def newest(self) -> int:
        return newest_number(self._shown())

    def make_look(self, limit: int) -> Look:
        return look_at(self._shown(), limit)

    def is_newest(self, look: Look) -> bool:
        run = self._shown()
        return (look.uuid, look.number) == (run.uuid, newest_number(run))

    def regions(self) -> Regions:
        return regions_of([self._shown().pipeline.recent(STATISTICS)])

    def failure(self) -> Exception | None:
        return self._receiver.error

    @attribute(label="Frames received", dtype="DevULong64", unit="frame")
    def nb_frames_xferred(self) -> int:
        """Frames received in the current or last run."""
        return self._receiver.nb_frames_xferred

    @attribute(label="Frames lost", dtype="DevULong64", unit="frame", max_alarm="1")
    def nb_frames_lost(self) -> int:
        """Frames of the current or last run that the camera could not keep; zeros marked invalid are in their place."""
        return self._receiver.nb_frames_lost

    @attribute(label="Frames incomplete", dtype="DevULong64", unit="frame", max_warning="1")
    def nb_frames_incomplete(self) -> int:
        """Frames of the current or last run that lack modules, but not all; zeros are in their place."""
        return self._receiver.nb_frames_incomplete

    @attribute(label="Runs with a processing device", dtype=(str,), max_dim_x=1024)
    def pipelines(self) -> list[str]:
        """Runs whose processing device exists, by uuid, oldest first."""
        return list(self._receiver.runs)

    @attribute(label="Last error", dtype=str)
    def last_error(self) -> str:
        """What went wrong in the current or last acquisition: No error, or JSON with what and errinfo."""
        return text_of(self._receiver.error)

    @released
    def is_Prepare_allowed(self) -> bool:
        # What can fail fails here: an error raised by the command itself loses its text (contract R15).
        with as_dev_failed("Prepare"):
            self._receiver.build()
        return True

    @command(dtype_in=str, doc_in="uuid of the run, made by the caller")
    def Prepare(self, uuid: str) -> None:
        """Check all parameters, allocate, create the processing device of the run; IDLE or PREPARED -> PREPARED."""
        with as_dev_failed("Prepare"):
            run = self._receiver.prepare(uuid)
            try:
                self.process.open_processing(self.get_name(), run)
                self._receiver.prepared(run)
            except BaseException:
                self._receiver.withdraw(run)
                self.process.close_processing(uuid)
                raise

    @released
    def is_Start_allowed(self) -> bool:
        with as_dev_failed("Start"):
            self._receiver.check_start()
        return True

    @command()
    def Start(self) -> None:
        """Begin to receive frames; PREPARED -> RUNNING."""
        with as_dev_failed("Start"):
            self._receiver.start()

    @command()
    def Stop(self) -> None:
        """End the run at a frame that all receivers agree on; without effect when there is none."""
        with as_dev_failed("Stop"):
            self._receiver.stop()

    @command()
    def Reset(self) -> None:
        """Any state -> IDLE; last_error is cleared, a run that is on is stopped."""
        with as_dev_failed("Reset"):
            self._receiver.reset()

    @command(dtype_in=str, doc_in="uuid of the run")
    def erasePipeline(self, uuid: str) -> None:
        """Delete the processing device of a run and free its frames."""
        with as_dev_failed("erasePipeline"):
            self._receiver.check_erase(uuid)
            self.process.close_processing(uuid)
            self._receiver.erase(uuid)
