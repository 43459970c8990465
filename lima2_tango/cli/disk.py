"""Whether the disk of a run directory has room: a database that finds none dies without a word."""

import os
from pathlib import Path

from lima2_tango.core.units import bytes_text

LEAST_FREE = 16 << 20
"""What database and logs of a system need, a small multiple of what they take on the first day [byte]."""
FULL = 1 << 20
"""With less than this free, whoever died abnormally may have died of it [byte]."""


def shortage(folder: Path, least: int) -> str:
    """Why fewer than `least` bytes can be written below an existing folder, as a sentence; empty where they can."""
    try:
        disk = os.statvfs(folder)
    except OSError as error:
        return f"the disk of {folder} cannot be asked for its free space ({error.strerror})"
    free = disk.f_bavail * disk.f_frsize
    if free < least:
        return f"the disk of {folder} has {bytes_text(free)} free"
    if disk.f_files and not disk.f_favail:  # some file systems have no such count
        return f"the disk of {folder} has no room for another file (no free inodes)"
    return ""


def suspicion(folder: Path) -> str:
    """For the sentence about a process that died: `; ` and the full disk, or nothing."""
    short = shortage(folder, FULL)
    return f"; {short}, which may be why: free some" if short else ""
