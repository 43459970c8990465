"""`lima2 up`, `lima2 down` and `lima2 status`: a whole system, kept up."""

import json
import os
import signal
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, suppress
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import psutil
import typer
from rich.console import Console, Group
from rich.live import Live

from lima2_tango.core.errors import Lima2Error

from .config import SystemConfig, load_config
from .detached import DOWN_TIMEOUT, since, start_detached
from .events import LOG, Events, now
from .guard import end, wake
from .look import Look, look_at
from .preflight import check
from .process import LaunchError
from .rundir import Phase, Running, SystemState, find_system, locked, read_state, run_folder, usable, write_state
from .supervisor import Supervisor
from .system import System

BAD_INPUT = 2
"""Exit code: what was asked for cannot be, and nothing was started."""
SOMETHING_DOWN = 1
NOT_UP = 2
POLL = 0.1
"""Between two looks at a process that starts or ends [s]."""
PERIOD = 1.0
"""Between two looks of `status --watch` [s]."""


class LogLevel(StrEnum):
    """Those of the device server."""

    TRACE = "trace"
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    FATAL = "fatal"


Name = Annotated[
    str | None,
    typer.Argument(
        metavar="SYSTEM",
        help="A running system, by its name or its CONFIG file; without it, the only one that runs.",
    ),
]
Folder = Annotated[Path | None, typer.Option("--dir", help="Folder of its state and logs, if not ~/.lima2/NAME.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(epilog="Example: lima2 up config/simulator.yaml --detach")(up)
    app.command(epilog="Example: lima2 down simulator")(down)
    app.command(epilog="Example: lima2 status simulator --watch")(status)


def up(
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG", help="YAML file that describes the system; config/ has examples.")
    ],
    folder: Folder = None,
    detach: Annotated[bool, typer.Option("--detach", help="Return once it is up, and leave it running.")] = False,
    log_level: Annotated[LogLevel, typer.Option(help="Least severe message that the servers log.")] = LogLevel.INFO,
) -> None:
    """Start a whole system and keep it up, until Ctrl-C or `lima2 down`.

    Starts the Tango database if the configuration asks for one, registers the devices, runs the MPI job of control
    and receivers, and the conductor if asked. When a process dies it says which and why, waits for the others to
    close their files, clears what was left, and starts again, as often as `restart` in the configuration allows.
    Once it is up, `lima2 status` shows it and `lima2 run` acquires.

    Exit codes: 0 it was told to end, or is up with --detach; 1 it could not start, or gave up; 2 the configuration
    cannot work, and nothing was started; 130 Ctrl-C while --detach waited.
    """
    with ExitStack() as stack:
        with _bad_input():
            read = load_config(config)
            place = run_folder(read, folder)
            if detach:
                start_detached(config, read, place, log_level)
                return
            stack.enter_context(locked(place, read.name))
            with usable(place):
                events = Events(place, lambda line: typer.echo(line))
                _clear(read_state(place), events)
            check(read, place)
            system = System(read, place, log_level)
            state = _state(read, config, system)
        with _started():
            Supervisor(system, state, events).run()


def down(name: Name = None, folder: Folder = None) -> None:
    """End a system: its run, with the files closed, then everything that `lima2 up` started.

    What was frozen is woken to end; what does not end is killed.

    Exit codes: 0 it has ended; 2 there is no such system up.
    """
    with _not_up():
        state = find_system(name, folder)
    log = Path(state.folder) / "logs" / LOG
    offset = log.stat().st_size if log.exists() else 0
    with suppress(ProcessLookupError):
        os.kill(state.supervisor.pid, signal.SIGTERM)
    wake(list(_alive([state.supervisor, *state.processes]).values()))
    deadline = time.monotonic() + DOWN_TIMEOUT
    while state.alive and time.monotonic() < deadline:
        time.sleep(POLL)
    if log.exists():
        typer.echo(since(log, offset))
    if left := _alive([state.supervisor, *state.processes]):
        names = ", ".join(left)
        end(list(left.values()))
        typer.echo(f"{names} had not ended within {DOWN_TIMEOUT:g} s and had to be killed")


def status(
    name: Name = None,
    folder: Folder = None,
    watch: Annotated[bool, typer.Option("--watch", help="Look again each second, until Ctrl-C.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what a system looks like now: processes, devices, restarts, TANGO_HOST and logs.

    Exit codes: 0 all is well; 1 something is down; 2 there is no such system up.
    """
    with _not_up():
        look = look_at(find_system(name, folder))
    if watch:
        look = _watch(look, as_json)
    else:
        typer.echo(json.dumps(look.as_json(), indent=2)) if as_json else Console().print(*look.tables())
    raise typer.Exit(0 if look.well else SOMETHING_DOWN)


def _watch(look: Look, as_json: bool) -> Look:
    """Show one look after the other until Ctrl-C, or until the system is not up; returns the last."""
    place = Path(look.state.folder)
    with suppress(KeyboardInterrupt), _not_up(), Live(console=Console(quiet=as_json), auto_refresh=False) as live:
        while True:
            if as_json:
                typer.echo(json.dumps(look.as_json()))
            live.update(Group(*look.tables()), refresh=True)
            time.sleep(PERIOD)
            look = look_at(find_system(folder=place))
    return look


@contextmanager
def _bad_input() -> Generator[None]:
    """Refusals before anything was started are one sentence and exit code 2."""
    try:
        yield
    except Lima2Error as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(BAD_INPUT) from error


@contextmanager
def _started() -> Generator[None]:
    """What the system refuses once something was started is exit code 1."""
    try:
        yield
    except OSError as error:
        raise LaunchError(f"it could not go on: {error}") from error


@contextmanager
def _not_up() -> Generator[None]:
    """A system that is not up, or whose configuration cannot be read, is one sentence and exit code 2."""
    try:
        yield
    except Lima2Error as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(NOT_UP) from error


def _state(config: SystemConfig, path: Path, system: System) -> SystemState:
    return SystemState(
        name=config.name,
        config=str(path.absolute()),
        folder=str(system.folder),
        supervisor=Running.of("lima2 up", os.getpid()),
        phase=Phase.STARTING,
        tango_host=system.tango_host,
        control=system.control,
        receivers=system.receivers,
        conductor_url=system.conductor_url if config.conductor.enabled else "",
        web_url=system.web_url,
        devices={member.device: member.instance for member in (config.control, *config.receivers)},
        since=now(),
    )


def _clear(state: SystemState | None, events: Events) -> None:
    """End what a `lima2 up` that was killed has left."""
    if state is None:
        return
    if left := _alive(state.processes):
        end(list(left.values()))
        events(f"ended {', '.join(left)}, which a lima2 up that was killed had left")
    write_state(state)


def _alive(processes: list[Running]) -> dict[str, psutil.Process]:
    found = {entry.name: entry.process() for entry in processes}
    return {name: process for name, process in found.items() if process is not None}
