"""One incarnation of a system's MPI job: its ranks, the death of one of them, and what is left to clear after it."""

import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from .guard import still_there
from .process import Child
from .ranks import causes, find_ranks, last_log, runs, shared_memory

LAST_WORDS = 1.5
"""Ranks that hear of a death from the launcher have closed their files and ended after this, or are told by us [s]."""
GRACE = 3.0
"""After that they are killed [s]; closing a file takes a second."""
SHOWN_LINES = 3


class Job:
    """The processes behind one `mpiexec`, or the one process where a single instance does everything."""

    def __init__(self, child: Child, instances: Sequence[str], logs: Path) -> None:
        """`logs`: the folder that the servers log to, by which they are found."""
        self.child = child
        self.instances = instances
        self.ranks: dict[str, psutil.Process] = {}
        self._logs = logs
        self._dead: list[str] = []
        self._segments: set[Path] = set()

    def look(self) -> bool:
        """Find ranks that have become servers since; True when there are new ones."""
        if len(self.ranks) == len(self.instances):
            return False
        found = find_ranks(self._logs, self.instances)
        new = found.keys() - self.ranks.keys()
        for name in new:
            Child.guard(found[name].pid)  # they would outlive a launcher that is killed
        self.ranks = {**found, **self.ranks}
        return bool(new)

    def note_segments(self) -> None:
        """Remember the shared memory that the ranks have by now, while they live to tell."""
        self._segments |= set(shared_memory(self.ranks.values()))

    def death(self) -> str:
        """Who has died, as a sentence; empty while launcher and ranks run."""
        self._dead = [name for name, rank in self.ranks.items() if not runs(rank)]
        if not self._dead:
            return self.child.ended
        names = ", ".join(f"{name} (process {self.ranks[name].pid})" for name in self._dead)
        return f"{names} died{self._log_of(self._dead[0])}"

    def bury(self) -> str:
        """Let the survivors close their files and end, `GRACE` at most; says who did and who was killed."""
        begin = time.monotonic()
        self.look()
        survivors = {name: rank for name, rank in self.ranks.items() if runs(rank)}
        left = list(survivors.values())
        if self._dead and self.child.popen.poll() is None:  # the launcher tells them
            left = still_there(left, LAST_WORDS)
        for rank in left:
            with suppress(psutil.NoSuchProcess):
                rank.terminate()
        killed = {rank.pid for rank in still_there(left, GRACE)}
        took = time.monotonic() - begin
        self._kill([rank for rank in left if rank.pid in killed])
        for path in self._segments:
            path.unlink(missing_ok=True)
        ended = [name for name, rank in survivors.items() if rank.pid not in killed]
        hard = [name for name, rank in survivors.items() if rank.pid in killed]
        told = [f"{', '.join(ended)} ended by themselves within {took:.1f} s"] * bool(ended)
        told += [f"{', '.join(hard)} did not end within {GRACE:g} s and had to be killed"] * bool(hard)
        return "; ".join(told) or "nobody was left"

    def causes(self) -> list[str]:
        """What the launcher says, once it has ended, of those who died first."""
        told = causes(self.child.log, self.child.begin, self.instances)
        return [cause for rank, cause in told if rank is None or rank in self._dead]

    @staticmethod
    def _kill(ranks: Sequence[psutil.Process]) -> None:
        for rank in ranks:
            with suppress(psutil.NoSuchProcess):
                rank.kill()
        still_there(ranks, GRACE)

    def _log_of(self, name: str) -> str:
        log = last_log(self._logs, name)
        if log is None:
            return ""
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-SHOWN_LINES:]
        return f"; the end of {log}: {' | '.join(lines) or 'empty'}"
