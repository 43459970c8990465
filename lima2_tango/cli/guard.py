"""Ends our child processes when we could not: killed hard, a process runs no clean-up of its own.

`python -m lima2_tango.cli.guard` reads process numbers from its standard input, one a line, and waits for the end of
it, which comes with the death of the process at the other side. What still lives then is ended.
"""

import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress

import psutil

GRACE = 3.0
"""From SIGTERM to SIGKILL [s]."""
POLL = 0.01
"""Between two looks [s]."""


class Guard:
    """Watches this process on behalf of its children; starts at the first of them."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def watch(self, pid: int) -> None:
        """End process `pid` and its descendants if this process dies without doing so."""
        if self._process is None:
            command = [sys.executable, "-m", __name__]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
        pipe = self._process.stdin
        assert pipe is not None  # asked for above
        with suppress(BrokenPipeError):  # somebody ended the guard: what it guards is not worse for it
            pipe.write(f"{pid} {psutil.Process(pid).create_time()}\n".encode())
            pipe.flush()

    def dismiss(self) -> None:
        """End the guard, after the last child; safe twice."""
        if self._process is not None:
            self._process.communicate(timeout=2 * GRACE)
            self._process = None


def main() -> None:
    """Wait for the end of the input, then end who was named in it."""
    end(find(line.split() for line in sys.stdin))


def find(lines: Iterable[list[str]]) -> list[psutil.Process]:
    """The processes that still live, with their descendants; numbers given to others since are left alone."""
    found: list[psutil.Process] = []
    for pid, created in lines:
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(int(pid))
            if process.create_time() == float(created):
                found += [process, *process.children(recursive=True)]
    return found


def end(processes: Sequence[psutil.Process]) -> None:
    """SIGTERM, and SIGKILL for what is left after `GRACE`."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    wake(processes)
    for process in still_there(processes, GRACE):
        with suppress(psutil.NoSuchProcess):
            process.kill()


def is_frozen(process: psutil.Process) -> bool:
    """It was stopped, by SIGSTOP or a debugger: it answers nobody, and hears no SIGTERM."""
    try:
        return process.status() in {psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP}
    except psutil.NoSuchProcess:
        return False


def wake(processes: Sequence[psutil.Process]) -> None:
    """Let those go on that are frozen; one that a debugger holds stays so."""
    for process in processes:
        with suppress(psutil.Error):
            if is_frozen(process):
                process.resume()


def still_there(processes: Sequence[psutil.Process], timeout_s: float) -> list[psutil.Process]:
    """Those that have not ended after `timeout_s`; a zombie has, whoever is to collect it may take seconds."""
    deadline = time.monotonic() + timeout_s
    while (left := [process for process in processes if _runs(process)]) and time.monotonic() < deadline:
        time.sleep(POLL)
    return left


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


if __name__ == "__main__":
    main()
