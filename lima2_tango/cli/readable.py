"""Whether a file can be read, and the sentence for one that is none, is cut off, or is still being written."""

import re
from pathlib import Path

import h5py

from lima2_tango.client.files import MASTER
from lima2_tango.core.errors import DataLossError, NotAvailableError
from lima2_tango.core.units import bytes_text

SIGNATURE = b"\x89HDF\r\n\x1a\n"
HIDDEN = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{8}\.part")
"""How a file is called while it is written."""


def check_readable(path: Path) -> None:
    """Raises NotAvailableError, with what to do, for what is no HDF5 file, cut off, or still being written."""
    if found := HIDDEN.fullmatch(path.name):
        raise NotAvailableError(
            f"{path} is being written, or was left by a killed process: it becomes {found['name']} once it is complete"
        )
    if not path.exists():
        if any((match := HIDDEN.fullmatch(one.name)) and match["name"] == path.name for one in _beside(path)):
            raise NotAvailableError(f"{path} is still being written: wait until its run is over, or stop the run")
        raise NotAvailableError(f"{path} does not exist{_nearby(path)}")
    if path.is_dir():
        raise NotAvailableError(f"{path} is a folder: name a file in it{_nearby(path / '*')}")
    _check_content(path)


def is_sparse(path: Path) -> bool:
    """Whether an HDF5 file has frames as lists of pixels (`frame_ptr` says where each begins)."""
    with h5py.File(path, "r") as file:
        found = file.visit(lambda name: True if name.rpartition("/")[2] == "frame_ptr" else None)
    return bool(found)


def _check_content(path: Path) -> None:
    try:
        with path.open("rb") as file:
            head = file.read(len(SIGNATURE))
    except OSError as error:
        raise NotAvailableError(f"{path} cannot be read: {error.strerror}") from error
    if not head:
        raise NotAvailableError(f"{path} is empty: it was never written, or the disk was full")
    if head != SIGNATURE:
        raise NotAvailableError(f"{path} is no HDF5 file: name a master or a data file of a run, such as x{MASTER}")
    try:
        h5py.File(path, "r").close()
    except BlockingIOError as error:
        raise NotAvailableError(
            f"{path} is still being written by another program, which has locked it: try again when that has closed it"
        ) from error
    except OSError as error:
        if sizes := re.search(r"truncated file: eof = (\d+),.*stored_eof = (\d+)", str(error)):
            have, due = (bytes_text(int(size)) for size in sizes.groups())
            raise DataLossError(
                f"{path} is cut off: it has {have} of {due}. It was not copied to its end, or is still being copied"
            ) from error
        raise DataLossError(f"{path} is damaged: HDF5 says: {' '.join(str(error).split())}") from error


def _beside(path: Path) -> list[Path]:
    return sorted(path.parent.iterdir()) if path.parent.is_dir() else []


def _nearby(path: Path) -> str:
    """What is there instead."""
    names = [one.name for one in _beside(path) if one.suffix == ".h5" and not one.name.startswith(".")]
    first = [name for name in names if name.endswith(MASTER)] or names
    return f"; there: {', '.join(first[:3])}" if first else ""
