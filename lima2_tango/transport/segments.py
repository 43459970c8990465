"""Shared memory that killed MPI jobs leave behind: nobody else removes it."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

PATTERN = "mpich_shm_*"
OLD = 30.0
"""A younger segment may belong to a job that is just starting [s]."""


def remove_dead_segments(folder: Path = Path("/dev/shm"), older_than: float = OLD) -> list[str]:
    """Delete this user's segments that no process maps; returns their names."""
    born_before = time.time() - older_than
    candidates = [path for path in folder.glob(PATTERN) if _is_mine_and_old(path, born_before)]
    if not candidates:
        return []
    mapped = set(_mapped_files(str(folder)))
    dead = [path for path in candidates if str(path) not in mapped]
    for path in dead:
        path.unlink(missing_ok=True)
    return [path.name for path in dead]


def _is_mine_and_old(path: Path, born_before: float) -> bool:
    try:
        status = path.stat()
    except FileNotFoundError:  # its job has just ended
        return False
    return status.st_uid == os.getuid() and status.st_mtime < born_before


def _mapped_files(folder: str) -> Iterator[str]:
    """Files below the folder that some process of this host maps."""
    for maps in Path("/proc").glob("[0-9]*/maps"):
        try:
            lines = maps.read_text(errors="replace").splitlines()
        except OSError:  # the process has ended, or is not ours
            continue
        yield from (line[line.index(folder) :] for line in lines if folder in line)
