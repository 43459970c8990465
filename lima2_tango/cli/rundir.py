"""Where a running system keeps what others need to find it: `~/.lima2/<name>`, with a state file and the logs.

A `lima2 up` holds the lock of its folder; the kernel takes it back when that process ends, however it ends.
"""

import fcntl
import json
import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path

import psutil

from lima2_tango.core.errors import Lima2Error

from .config import SystemConfig, load_config
from .guard import is_frozen

HOME = "LIMA2_HOME"
"""Environment variable: folder of the systems' folders, instead of ~/.lima2."""
STATE_FILE = "state.json"
LOCK_FILE = "lock"


IDLE_PARTS = ("conductor", "launcher", "web")
"""Parts that a run without a conductor does not need."""


class NotUpError(Lima2Error):
    """There is no such running system; the message says what there is."""


class Phase(StrEnum):
    """What a `lima2 up` is doing, or did last."""

    STARTING = "starting"
    UP = "up"
    RESTARTING = "restarting"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"
    """It gave up; the last event says why."""


@dataclass(frozen=True, slots=True)
class Running:
    """A process, so that its number cannot be taken for another's."""

    name: str
    pid: int
    created: float
    """Since the epoch, as psutil gives it [s]."""

    @classmethod
    def of(cls, name: str, pid: int) -> "Running":
        """Raises psutil.NoSuchProcess where it has ended."""
        return cls(name, pid, psutil.Process(pid).create_time())

    @property
    def is_frozen(self) -> bool:
        """It was stopped, by SIGSTOP or a debugger, and answers nobody."""
        process = self.process()
        return process is not None and is_frozen(process)

    def process(self) -> psutil.Process | None:
        """None where it has ended; a zombie has."""
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(self.pid)
            if process.create_time() == self.created and process.status() != psutil.STATUS_ZOMBIE:
                return process
        return None


@dataclass(frozen=True, slots=True)
class SystemState:
    """The state file of a system, as its `lima2 up` wrote it last."""

    name: str
    config: str
    """Path of the configuration."""
    folder: str
    """Run directory, with logs/."""
    supervisor: Running
    """The `lima2 up` process."""
    phase: Phase
    tango_host: str
    """host:port of the Tango database."""
    control: str
    """Name of the control device."""
    receivers: list[str]
    """Names of the receiver devices, by rank."""
    conductor_url: str = ""
    """Empty without a conductor."""
    web_url: str = ""
    """Empty without a page."""
    devices: dict[str, str] = field(default_factory=dict)
    """Device -> server instance."""
    processes: list[Running] = field(default_factory=list)
    """The parts: database, launcher, one by instance, conductor."""
    restarts: int = 0
    """Parts started again since `lima2 up`."""
    since: str = ""
    """When `lima2 up` began, ISO."""
    event: str = ""
    """The last line of the log."""

    @property
    def alive(self) -> bool:
        """Its `lima2 up` still runs."""
        return self.supervisor.process() is not None


def base_folder() -> Path:
    """The folder of all systems' folders."""
    return Path(os.environ.get(HOME) or Path.home() / ".lima2")


def run_folder(config: SystemConfig, chosen: Path | None) -> Path:
    """Run directory of a system: the chosen one, or that of its name."""
    return (chosen or base_folder() / config.name).absolute()


def write_state(state: SystemState) -> None:
    """Replace the state file as a whole: a reader never sees half of it."""
    path = Path(state.folder) / STATE_FILE
    draft = path.with_suffix(".new")
    draft.write_text(json.dumps(asdict(state), indent=2), encoding="utf-8")
    draft.replace(path)


def read_state(folder: Path) -> SystemState | None:
    """What the system of a run directory last said; None where none ran there, or the file is not ours."""
    try:
        content = json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))
        content["supervisor"] = Running(**content["supervisor"])
        content["processes"] = [Running(**entry) for entry in content["processes"]]
        return SystemState(**{**content, "phase": Phase(content["phase"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def find_system(name: str | None = None, folder: Path | None = None) -> SystemState:
    """The running system of that name, or of that configuration file, or the only one.

    Raises NotUpError where it does not run, and where no name was given and several run.
    """
    if folder is not None:
        return _living(read_state(folder), str(folder))
    if name is not None:
        plain = load_config(Path(name)).name if Path(name).is_file() else name
        return _living(read_state(base_folder() / plain), plain)
    living = [state for state in _states() if state.alive]
    if len(living) == 1:
        return living[0]
    if living:
        raise NotUpError(f"several systems run ({_names(living)}): name one of them")
    raise NotUpError(f"no system is up in {base_folder()}: lima2 up CONFIG starts one, --dir names another folder")


def check_awake(state: SystemState) -> None:
    """Raise NotUpError where a process that a run needs is frozen: a call to it would wait for nothing."""
    frozen = [running for running in state.processes if running.name not in IDLE_PARTS and running.is_frozen]
    if frozen:
        names = ", ".join(f"{running.name} (process {running.pid})" for running in frozen)
        pids = " ".join(str(running.pid) for running in frozen)
        raise NotUpError(
            f"{names} of the system {state.name} is frozen, by SIGSTOP or a debugger: kill -CONT {pids} lets it go on, "
            f"lima2 down {state.name} ends the system"
        )


def _living(state: SystemState | None, name: str) -> SystemState:
    if state is not None and state.alive:
        return state
    others = [other for other in _states() if other.alive]
    have = f"running: {_names(others)}" if others else "none is running"
    raise NotUpError(f"the system {name} is not up{_end_of(state)}; {have}; lima2 up CONFIG starts one")


def _end_of(state: SystemState | None) -> str:
    if state is None:
        return ""
    if state.phase in {Phase.STOPPED, Phase.FAILED}:
        return f" (it {state.phase}: {state.event})"
    return f" (its lima2 up, process {state.supervisor.pid}, was killed)"


def _states() -> Iterator[SystemState]:
    for path in sorted(base_folder().glob(f"*/{STATE_FILE}")):
        if (state := read_state(path.parent)) is not None:
            yield state


def _names(states: list[SystemState]) -> str:
    return ", ".join(state.name for state in states)


@contextmanager
def usable(folder: Path) -> Generator[None]:
    """Around what makes or writes the run directory; raises Lima2Error where that cannot be."""
    try:
        yield
    except OSError as error:
        raise Lima2Error(
            f"{folder} cannot be used ({error.strerror or error}): choose another with --dir or {HOME}"
        ) from error


@contextmanager
def locked(folder: Path, name: str) -> Generator[None]:
    """Hold the run directory; raises Lima2Error where it cannot be used, or another `lima2 up` holds it."""
    with usable(folder):
        (folder / "logs").mkdir(parents=True, exist_ok=True)
        lock_file = (folder / LOCK_FILE).open("w")
    with lock_file as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            state = read_state(folder)
            who = f" (process {state.supervisor.pid})" if state is not None else ""
            raise Lima2Error(
                f"the system {name} is up already{who}, in {folder}: end it with lima2 down {name}, "
                "or give this one another name, or --dir"
            ) from None
        yield
