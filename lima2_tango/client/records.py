"""What the control tells of its runs, typed."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from lima2_tango.control.runlog import RunState
from lima2_tango.core.errors import WireError

from .errors import sentence


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One line of the control's log of runs."""

    uuid: str
    state: RunState
    begin: datetime
    """When it was prepared."""
    end: datetime | None
    """None while the run goes on."""
    nb_frames: int
    """Frames asked for; 0 until stopped."""
    nb_frames_acquired: int
    nb_frames_processed: int
    nb_frames_saved: int
    error: str
    """Why the run failed, one sentence; empty where it did not."""
    files: tuple[Path, ...]
    """Master files, then data files, the first 1000."""
    pipeline: str
    """Tango class of the processing."""
    nb_files: int
    """All that are complete, whether named here or not."""

    @property
    def over(self) -> bool:
        """Nothing changes any more: all files are complete."""
        return self.state.over

    @property
    def nb_unnamed(self) -> int:
        """Files that are complete and not named in `files`."""
        return self.nb_files - len(self.files)

    @classmethod
    def parse(cls, text: str) -> Self:
        """From the JSON of `runs` or `Run`; raises WireError where it is something else."""
        try:
            told = json.loads(text)
            return cls(
                uuid=str(told["uuid"]),
                state=RunState(told["state"]),
                begin=datetime.fromisoformat(told["begin"]),
                end=datetime.fromisoformat(told["end"]) if told["end"] else None,
                nb_frames=int(told["nb_frames"]),
                nb_frames_acquired=int(told["nb_frames_acquired"]),
                nb_frames_processed=int(told["nb_frames_processed"]),
                nb_frames_saved=int(told["nb_frames_saved"]),
                error=sentence(told["error"]),
                files=tuple(Path(file) for file in told["files"]),
                pipeline=str(told["pipeline"]),
                nb_files=int(told.get("nb_files", len(told["files"]))),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise WireError(
                f"the control tells of a run in a way that is not understood ({error!r}): {text}"
            ) from error

    def as_json(self) -> dict[str, object]:
        """For programs: what `parse` takes."""
        return {
            "uuid": self.uuid,
            "state": str(self.state),
            "begin": self.begin.isoformat(),
            "end": "" if self.end is None else self.end.isoformat(),
            "nb_frames": self.nb_frames,
            "nb_frames_acquired": self.nb_frames_acquired,
            "nb_frames_processed": self.nb_frames_processed,
            "nb_frames_saved": self.nb_frames_saved,
            "error": self.error,
            "files": [str(file) for file in self.files],
            "pipeline": self.pipeline,
            "nb_files": self.nb_files,
        }


MEASURES = ("frame_rate", "saving_rate", "time_left", "blocks_queued", "nb_frames_received")
"""Attributes of the control that say how its current run gets on, beyond what the record has."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How a run gets on, summed over its receivers."""

    state: RunState
    nb_frames: int
    """Frames asked for; 0 until stopped."""
    nb_frames_acquired: int
    nb_frames_received: int
    nb_frames_processed: int
    """Frames that can be read."""
    nb_frames_saved: int
    frame_rate: float
    """Frames that come in [frame/s]."""
    saving_rate: float
    """What reaches the file system [byte/s]."""
    blocks_queued: int
    """Blocks of frames between cameras and files."""
    time_left: float | None
    """Until the last frame [s]; None where nobody can know."""

    @property
    def over(self) -> bool:
        """This is the last that there is to tell."""
        return self.state.over

    @classmethod
    def of(cls, record: RunRecord, measures: Mapping[str, Any] | None) -> Self:
        """`measures` are attributes of the control by name; None for a run that is not its last one."""
        known = {name: value for name, value in (measures or {}).items() if value is not None}
        left = float(known.get("time_left", math.nan))
        return cls(
            state=record.state,
            nb_frames=record.nb_frames,
            nb_frames_acquired=record.nb_frames_acquired,
            nb_frames_received=int(known.get("nb_frames_received", record.nb_frames_acquired)),
            nb_frames_processed=record.nb_frames_processed,
            nb_frames_saved=record.nb_frames_saved,
            frame_rate=float(known.get("frame_rate", 0.0)),
            saving_rate=float(known.get("saving_rate", 0.0)),
            blocks_queued=int(known.get("blocks_queued", 0)),
            time_left=None if math.isnan(left) else left,
        )
