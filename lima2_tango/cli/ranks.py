"""The processes of an MPI job as the system sees them: who they are, who is gone, and what the launcher says of it."""

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from .config import SERVER

GFORKER = re.compile(r"^\[\d+\](?P<rank>\d+):\s*Return code = \d+, signaled with (?P<signal>.+)$", re.MULTILINE)
"""What MPICH's forking launcher writes of a rank that a signal ended."""
HYDRA = re.compile(r"THE EXIT STRING: (?P<what>.+)$", re.MULTILINE)
"""What MPICH's other launcher writes, without saying of whom."""
SEGMENT = re.compile(r"/dev/shm/(?:mpich_shm|sm_segment|ucx_shm)\S*")
"""Files of shared memory of MPICH, Open MPI and UCX."""


def find_ranks(logs: Path, instances: Sequence[str]) -> dict[str, psutil.Process]:
    """The servers that log to a folder, by instance, whoever their parent is; who is not yet one is missing."""
    found: dict[str, psutil.Process] = {}
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        # The launcher's own command line has all of this too, further behind.
        names = [Path(word).name for word in words[:2]]
        if SERVER in names and str(logs) in words and words[names.index(SERVER) + 1] in instances and runs(process):
            found[words[names.index(SERVER) + 1]] = process
    return found


def runs(process: psutil.Process) -> bool:
    """It has not ended; a zombie has, whoever is to collect it may take seconds."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def causes(log: Path, offset: int, instances: Sequence[str]) -> list[tuple[str | None, str]]:
    """What the launcher wrote from `offset` [byte] on of ranks that a signal ended: who, where it says so, and how."""
    with log.open("rb") as file:
        file.seek(offset)
        text = file.read().decode("utf-8", errors="replace")
    told: list[tuple[str | None, str]] = [
        (instances[rank], f"{instances[rank]} was ended by the signal {found['signal']}")
        for found in GFORKER.finditer(text)
        if (rank := int(found["rank"])) < len(instances)
    ]
    return told or [(None, f"the launcher says of the job: {found['what']}") for found in HYDRA.finditer(text)]


def last_log(folder: Path, instance: str) -> Path | None:
    """The log file that a rank wrote last."""
    files = sorted(folder.glob(f"{instance}_*.log"), key=lambda path: path.stat().st_mtime)
    return files[-1] if files else None


def shared_memory(processes: Iterable[psutil.Process]) -> Iterator[Path]:
    """Segments of MPI below /dev/shm that the processes map."""
    for process in processes:
        with suppress(OSError):  # it has ended
            maps = Path(f"/proc/{process.pid}/maps").read_text(encoding="utf-8", errors="replace")
            yield from (Path(name) for name in SEGMENT.findall(maps))
