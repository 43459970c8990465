"""Who died while somebody waited for a run: what the `lima2 up` of the system has noted of it."""

import time
from dataclasses import dataclass
from pathlib import Path

from .events import LOG
from .rundir import base_folder, read_state

DIED = " died"
"""In the event of a death (`job.Job.death`)."""
PATIENCE = 3.0
"""`lima2 up` has noted a death within [s]."""
PERIOD = 0.1
"""Between two looks at its log [s]."""


@dataclass(frozen=True, slots=True)
class Witness:
    """The log of a system, from now on; of none where no `lima2 up` of this computer keeps it."""

    log: Path | None
    begin: int = 0
    """Its size when the run began [byte]."""

    def deaths(self) -> str:
        """Who died since; empty where nothing is known of a death. Waits for the note, `PATIENCE` at most."""
        deadline = time.monotonic() + PATIENCE
        while self.log is not None:
            if found := [line for line in _lines(self.log, self.begin) if DIED in line]:
                return "; ".join(line.partition(" ")[2] for line in found)
            if time.monotonic() > deadline:
                break
            time.sleep(PERIOD)
        return ""


def witness(control: str, tango_host: str | None, folder: Path | None = None) -> Witness:
    """Of the system whose control this is; `folder` is its run directory where it is not among the others."""
    folders = sorted(base_folder().glob("*")) if folder is None else [folder]
    for place in folders:
        state = read_state(place) if place.is_dir() else None
        if state is not None and state.alive and (state.control, state.tango_host) == (control, tango_host):
            log = place / "logs" / LOG
            return Witness(log, log.stat().st_size if log.exists() else 0)
    return Witness(None)


def _lines(log: Path, begin: int) -> list[str]:
    try:
        with log.open("rb") as file:
            file.seek(begin)
            return file.read().decode(errors="replace").splitlines()
    except OSError:
        return []
