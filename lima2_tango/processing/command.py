"""A program that a pipeline may run once, beside the data path."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from threading import Lock, Thread

from lima2_tango.core.errors import ParamError, ProcessingError

TIMEOUT = 10.0
"""A program that runs longer is killed [s]."""
SHOWN = 300
"""Most bytes of the program's complaint that an error repeats."""


class OneShotCommand:
    """`trigger` starts the program without waiting; `check` says whether it did its work."""

    def __init__(self, argv: Sequence[str], timeout: float = TIMEOUT) -> None:
        """The program and its arguments, passed on as they are, without a shell."""
        self._argv = list(argv)
        self._timeout = timeout
        self._lock = Lock()
        self._thread: Thread | None = None
        self._failure = ""

    def trigger(self) -> None:
        """Start the program the first time; later calls do nothing."""
        with self._lock:
            if self._thread is None:
                self._thread = Thread(target=self._run, name="lima2-command", daemon=True)
                self._thread.start()

    def check(self) -> None:
        """Wait for a started program, no longer than its timeout; raises ProcessingError where it failed."""
        if self._thread is None:
            return
        self._thread.join(self._timeout + 1.0)
        if self._thread.is_alive() or self._failure:
            raise ProcessingError(
                f"the protection command {self._argv[0]} {self._failure or 'cannot be killed'}; "
                "run it by hand to see what is wrong",
            )

    def _run(self) -> None:
        try:
            with tempfile.TemporaryFile() as complaint:
                failure = self._outcome(complaint.fileno())
                complaint.seek(0)
                said = complaint.read(SHOWN).decode(errors="replace").strip()
        except OSError as error:
            failure, said = "could not be started", str(error)
        self._failure = f"{failure}, saying: {said}" if failure and said else failure

    def _outcome(self, stderr: int) -> str:
        process = subprocess.Popen(
            self._argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            start_new_session=True,
        )
        try:
            code = process.wait(self._timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return f"did not end within {self._timeout:g} s and was killed"
        return "" if code == 0 else f"ended with exit status {code}"


def allowed_command(path: str, argv: Sequence[str], allowed: Sequence[str]) -> OneShotCommand:
    """The command, or ParamError at the JSON path where this site does not allow the program or has none."""
    program = argv[0]
    if program not in allowed:
        known = f"it lists {', '.join(allowed)}" if allowed else "it lists none"
        raise ParamError(path, program, f"the device property allowed_commands does not list this program: {known}")
    if shutil.which(program) is None:
        raise ParamError(path, program, "there is no such program on this host, or it is not executable")
    return OneShotCommand(argv)
