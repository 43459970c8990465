"""A system in the background: started, waited for, and called off where nobody waits any more."""

import subprocess
import time
from pathlib import Path

import typer

from .config import SystemConfig
from .process import LaunchError, program
from .rundir import Phase, SystemState, read_state, usable

INTERRUPTED = 130
"""Exit code after Ctrl-C."""
POLL = 0.1
"""Between two looks at a process that starts [s]."""
DETACH_TIMEOUT = 90.0
"""A system that is started in the background is up within [s]."""
DOWN_TIMEOUT = 20.0
"""A system that is told to end has ended within [s]."""


def start_detached(path: Path, config: SystemConfig, folder: Path, log_level: str) -> None:
    """Start the same command in the background and wait until the system is up; raises LaunchError.

    Its output follows what is in the log: one that runs already has the same.
    """
    output = folder / "logs" / "up.log"
    command = [program("lima2"), "up", str(path.absolute()), "--dir", str(folder), "--log-level", log_level]
    with usable(folder):
        output.parent.mkdir(parents=True, exist_ok=True)
        log = output.open("ab")
    with log as file:
        offset = file.tell()
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        _wait_up(process, config, folder, output, offset)
    except KeyboardInterrupt:
        _call_off(process)
        typer.echo(since(output, offset), err=True)
        typer.echo(f"interrupted: {config.name} was not up yet, and was ended", err=True)
        raise typer.Exit(INTERRUPTED) from None
    typer.echo(since(output, offset))
    typer.echo(f"{config.name} is up: lima2 status {config.name}, lima2 down {config.name}")
    if (state := read_state(folder)) is not None and state.web_url:
        typer.echo(f"the page is at {state.web_url}")


def _wait_up(process: "subprocess.Popen[bytes]", config: SystemConfig, folder: Path, output: Path, offset: int) -> None:
    """Return once the system that this process starts is up; raises Exit where it ended, LaunchError if it is late."""
    deadline = time.monotonic() + DETACH_TIMEOUT
    while not _is_up(read_state(folder), process.pid):
        if (code := process.poll()) is not None:
            typer.echo(since(output, offset), err=True)
            raise typer.Exit(code)
        if time.monotonic() > deadline:
            _call_off(process)
            raise LaunchError(f"the system {config.name} was not up within {DETACH_TIMEOUT:g} s: see {output}")
        time.sleep(POLL)


def _call_off(process: "subprocess.Popen[bytes]") -> None:
    """End a system that is not up yet, and wait until it has ended; its guard ends the rest of one that hangs."""
    process.terminate()
    try:
        process.wait(DOWN_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(DOWN_TIMEOUT)


def since(log: Path, offset: int) -> str:
    """What was written to a log from this byte on."""
    return log.read_bytes()[offset:].decode("utf-8", errors="replace").rstrip()


def _is_up(state: SystemState | None, pid: int) -> bool:
    return state is not None and state.supervisor.pid == pid and state.phase is Phase.UP
