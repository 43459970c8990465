"""One run, as the control is asked about it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lima2_tango.control.runlog import LENGTH, RunState
from lima2_tango.core.encoded import Answer, frame_of, rows_of, sparse_of
from lima2_tango.core.errors import DataLossError, NotAvailableError, StateError
from lima2_tango.core.sparse import SparseFrame
from lima2_tango.processing.rows import ROI

from .device import Device
from .errors import RefusedError, RunFailedError
from .records import MEASURES, Progress, RunRecord

Rows = NDArray[np.void]

REMEDY = "read faster, take the newest only, save the frames, or raise buffers.nb_frames_buffer"
"""For a frame that was not read in time."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of a series."""

    index: int
    """Global index, from 0."""
    data: NDArray[np.generic]
    """[channel, row, column]; read-only."""

    @property
    def image(self) -> NDArray[np.generic]:
        """[row, column] where there is one channel."""
        return self.data[0] if self.data.ndim == 3 and len(self.data) == 1 else self.data


class Link:
    """A run by its uuid. What belongs to the control's last run is never taken for ours once another has come."""

    def __init__(self, device: Device, uuid: str) -> None:
        self.device = device
        self.uuid = uuid
        self.last: RunRecord | None = None
        """The newest record that the control told; None before the first."""

    def record(self) -> RunRecord:
        """As the control tells it now; raises RunFailedError where it does not know the run any more."""
        if self.last is not None and self.last.over:
            return self.last
        try:
            self.last = RunRecord.parse(self.device.ask("Run", self.uuid))
        except RefusedError as error:
            raise RunFailedError(
                f"{self.device.name} does not know run {self.uuid} any more: its server was restarted, or more than "
                f"{LENGTH} runs came since; if a process has died, lima2 up or the launcher names it in its log; data "
                f"files that were complete are kept ({error})"
            ) from error
        return self.last

    def progress(self) -> Progress:
        """Record and rates, which are known for the control's last run only."""
        record = self.record()
        measures = self.device.read("run_uuid", *MEASURES)
        return Progress.of(record, measures if measures["run_uuid"] == self.uuid else None)

    def outcome(self) -> RunRecord:
        """The record of a run that is over; raises RunFailedError where it failed."""
        record = self.record()
        if record.state is RunState.FAILED:
            raise RunFailedError(f"run {self.uuid} failed: {record.error or 'the control gives no reason'}")
        return record

    def start(self) -> None:
        self._current("Start")

    def trigger(self) -> None:
        self._current("Trigger")

    def stop(self) -> None:
        """Only this run, and only while it acquires: what the control does since is another's."""
        if self.record().state in {RunState.PREPARED, RunState.RUNNING} and self.is_current():
            self.device.command("Stop")

    def is_current(self) -> bool:
        """Whether this is the control's current or last run."""
        return str(self.device.read("run_uuid")["run_uuid"]) == self.uuid

    def frame(self, index: int, getter: str = "getFrame") -> Frame:
        """Raises NotAvailableError for a frame that is not there yet, DataLossError for one that is gone."""
        number, data = frame_of(self._asked(index, getter))
        return Frame(number, data)

    def sparse_frame(self, index: int, getter: str = "getSparseFrame") -> SparseFrame:
        """Raises as `frame` does."""
        return sparse_of(self._asked(index, getter))

    def _asked(self, index: int, getter: str) -> Answer:
        try:
            answer: Answer = self.device.ask(getter, index)
        except RefusedError as error:
            self._check_current()
            newest = error.info.get("newest")
            if isinstance(newest, int) and 0 <= index < newest:
                raise DataLossError(
                    f"frame {index} is not held any more: {REMEDY} ({error})", frame_idx=index
                ) from error
            raise NotAvailableError(str(error), **error.info) from error
        self._check_current()
        return answer

    def rows(self, popper: str) -> Rows:
        """[frame, region] new rows, each frame whole; none or more."""
        flat = rows_of(self.device.command(popper), ROI)
        self._check_current()
        return by_frame(flat)

    def _current(self, command: str) -> None:
        self._check_current()
        self.device.command(command)

    def _check_current(self) -> None:
        if not self.is_current():
            raise StateError(
                f"run {self.uuid} is not the last run of {self.device.name} any more: another was prepared since; what "
                "it has saved can be read"
            )


def by_frame(flat: Rows) -> Rows:
    """[frame, region] from rows one after the other; raises DataLossError where frames have not equally many."""
    if not len(flat):
        return flat.reshape(0, 0)
    regions = int(np.argmax(flat["frame_idx"] != flat["frame_idx"][0])) or len(flat)
    if len(flat) % regions or (flat["frame_idx"].reshape(-1, regions) != flat["frame_idx"][::regions, None]).any():
        raise DataLossError(f"rows of frame {flat['frame_idx'][0]} and following are not complete", rows=len(flat))
    return flat.reshape(-1, regions)
