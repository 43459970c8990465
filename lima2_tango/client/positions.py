"""Positions of motors and counts of monitors into the files of a run that is over."""

from pathlib import Path

from lima2_tango.core.errors import NotAvailableError
from lima2_tango.saving.positioners import Columns, Monitor, Positioner, write_positioners

from .files import MASTER
from .records import RunRecord

__all__ = ["Columns", "Monitor", "Positioner", "write_positions"]


def write_positions(run: RunRecord | str | Path, columns: Columns) -> list[Path]:
    """Add a value for each frame to the master files of a run, or to this file; returns the files.

    `columns` are positioners and monitors by their names. Raises NotAvailableError for a run without a master file,
    ParamError for columns that are not one value for each frame, SavingError where the file cannot be written.
    """
    files = _masters(run) if isinstance(run, RunRecord) else [Path(run)]
    for file in files:
        write_positioners(file, columns)
    return files


def _masters(record: RunRecord) -> list[Path]:
    masters = [file for file in record.files if file.name.endswith(MASTER)]
    if not masters:
        raise NotAvailableError(
            f"run {record.uuid} has no master file to write positions to: save its frames, and wait until it is over"
        )
    return masters
