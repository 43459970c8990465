"""What became of the last runs that the control drove."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from threading import Lock

from lima2_tango.core.errors import NotAvailableError

LENGTH = 100
"""Runs that are remembered."""
FILES = 1000
"""Files of a run that are remembered by name."""


class RunState(StrEnum):
    PREPARED = "prepared"
    RUNNING = "running"
    PROCESSING = "processing"
    """The acquisition is over, frames are still processed and saved."""
    DONE = "done"
    STOPPED = "stopped"
    """Ended before all frames that were asked for, because somebody asked for it."""
    FAILED = "failed"

    @property
    def over(self) -> bool:
        """Nothing changes any more: all files are complete."""
        return self in {RunState.DONE, RunState.STOPPED, RunState.FAILED}


@dataclass(frozen=True, slots=True)
class Record:
    """One run, as clients read it."""

    uuid: str
    state: RunState
    begin: str
    """When it was prepared, ISO 8601 in UTC."""
    end: str
    """When its last file was written; empty before."""
    nb_frames: int
    """Frames asked for; 0 for an endless run."""
    nb_frames_acquired: int
    nb_frames_processed: int
    nb_frames_saved: int
    error: str
    """One sentence that names receiver and frame; empty when nothing went wrong."""
    nb_files: int
    """Complete files; more than `FILES` of them are not all named."""
    files: Sequence[str]
    """Master files, then data files; absolute paths."""
    pipeline: str
    """Class of the pipeline."""
    driver: str = "control"

    def json_text(self) -> str:
        return json.dumps(asdict(self))


class RunLog:
    """The last runs by uuid; safe from any thread."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._records: dict[str, Record] = {}
        """Oldest first."""

    def put(self, record: Record) -> None:
        """Add a run, or replace what was known of it; a run that has ended stays as it was then."""
        with self._lock:
            known = self._records.get(record.uuid)
            if known is not None and known.end:
                return
            self._records[record.uuid] = record
            while len(self._records) > LENGTH:
                del self._records[next(iter(self._records))]

    def records(self) -> list[Record]:
        """Newest first."""
        with self._lock:
            return list(reversed(self._records.values()))

    def record(self, uuid: str) -> Record:
        """Raises NotAvailableError for a run that is not remembered."""
        with self._lock:
            if uuid not in self._records:
                raise NotAvailableError(
                    f"there is no run {uuid[:40]!r} among the last {len(self._records)} that this control has driven: "
                    "see the attribute runs"
                )
            return self._records[uuid]
