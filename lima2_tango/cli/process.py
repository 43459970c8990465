"""Child processes that cannot outlive us: a process group of their own, output to a file, and an end with a bound."""

import atexit
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

import psutil

from lima2_tango.core.errors import Lima2Error

from .guard import Guard, still_there, wake

STOP_TIMEOUT = 5.0
"""From SIGTERM to SIGKILL [s]."""
LAUNCHER_TIMEOUT = 0.2
"""How long a launcher may outlive the ranks that it started [s]."""
KILL_TIMEOUT = 5.0
"""How long a killed process may take to go [s]."""
LOG_TAIL = 15
"""Lines of a log that an error shows."""


class LaunchError(Lima2Error):
    """A process did not do its part; the message shows the end of the log that explains it."""


class Child:
    """A program of ours, with its descendants, which MPI puts into groups of their own."""

    _alive: ClassVar[set["Child"]] = set()
    _guard: ClassVar[Guard] = Guard()

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self.name = name
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            self.begin = output.tell()
            """Where what it writes begins in the log [byte]."""
            self.popen = subprocess.Popen(
                command,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                process_group=0,  # Ctrl-C is for us; the session stays, so that niceness counts among all of it
            )
        self._alive.add(self)
        self._guard.watch(self.popen.pid)

    def check(self) -> None:
        """Raises LaunchError where the process has ended."""
        if ended := self.ended:
            raise LaunchError(f"{ended}{tail(self.log)}", log=str(self.log))

    @property
    def ended(self) -> str:
        """How it ended, as a sentence; empty while it runs."""
        code = self.popen.poll()
        if code is None:
            return ""
        how = f"with exit code {code}" if code >= 0 else f"by the signal {signal.Signals(-code).name}"
        return f"{self.name} ended {how}"

    @classmethod
    def guard(cls, pid: int) -> None:
        """End process `pid` too if we die: one that may outlive the child that started it."""
        with suppress(psutil.NoSuchProcess):
            cls._guard.watch(pid)

    def stop(self, timeout_s: float | None = None) -> None:
        """SIGTERM, and SIGKILL for what is left after `timeout_s`, or `STOP_TIMEOUT`; safe twice.

        What is frozen is woken first: it could not end otherwise.
        """
        timeout_s = STOP_TIMEOUT if timeout_s is None else timeout_s
        descendants = self._descendants()
        self.popen.terminate()
        wake([psutil.Process(self.popen.pid), *descendants] if self.popen.poll() is None else descendants)
        left = still_there(descendants, timeout_s)
        try:
            # A launcher whose ranks are gone has nothing more to do, though MPICH's takes two seconds to see it.
            self.popen.wait(LAUNCHER_TIMEOUT if descendants else timeout_s)
        except subprocess.TimeoutExpired:
            self.popen.kill()
        self._end(left)

    def kill(self) -> None:
        """SIGKILL for the process and all its descendants; safe twice."""
        descendants = self._descendants()
        self.popen.kill()
        self._end(descendants)

    def _descendants(self) -> list[psutil.Process]:
        try:
            return psutil.Process(self.popen.pid).children(recursive=True) if self.popen.poll() is None else []
        except psutil.NoSuchProcess:
            return []

    def _end(self, processes: Sequence[psutil.Process]) -> None:
        for process in processes:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        still_there(processes, KILL_TIMEOUT)
        self.popen.wait(KILL_TIMEOUT)
        self._alive.discard(self)

    @classmethod
    def stop_all(cls) -> None:
        """End what is still there when the interpreter exits."""
        for child in list(cls._alive):
            child.stop()
        cls._guard.dismiss()


atexit.register(Child.stop_all)


def tail(log: Path, lines: int = LOG_TAIL) -> str:
    """`; the end of its log FILE:` and the last lines, for an error message."""
    text = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    return f"; the end of its log {log}:\n" + "\n".join(text[-lines:])


def free_port(host: str) -> int:
    """A TCP port that nobody listens on at the moment."""
    try:
        with socket.socket() as probe:
            probe.bind((host, 0))
            return int(probe.getsockname()[1])
    except (OSError, ValueError, TypeError) as error:  # a name with a NUL, or with too long a part
        raise LaunchError(
            f"nothing can listen on {host} here ({error}): give an IPv4 address of this machine"
        ) from error


def program(name: str) -> str:
    """Path of a program of this Python environment."""
    path = Path(sys.prefix) / "bin" / name
    if not path.exists():
        raise LaunchError(f"there is no program {path}; install the package that brings it")
    return str(path)


def environment(**extra: str) -> dict[str, str]:
    """Ours, with this Python environment's programs first and one OpenMP thread, as our own threads own the cores."""
    path = os.pathsep.join([str(Path(sys.prefix) / "bin"), os.environ.get("PATH", os.defpath)])
    return {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", **extra}
