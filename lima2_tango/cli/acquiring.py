"""What `lima2 run` does once its options are understood: acquire, show how it gets on, stop on Ctrl-C, report."""

import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from lima2_tango.client import Client, Progress, Run, RunFailedError, RunRecord, RunState
from lima2_tango.client.parameters import Json, Settings
from lima2_tango.core.errors import Lima2Error
from lima2_tango.core.units import bytes_text

PERIOD = 0.1
"""Between two looks at the run [s]."""
CLOSE_TIMEOUT = 120.0
"""Until a run that was stopped has saved what waits, and closed its files [s]."""
ROOM = len("^C^C")
"""Beside the bar [cell]."""
OK, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130
"""Exit codes."""


@dataclass(frozen=True, slots=True)
class Order:
    """What to acquire."""

    settings: Settings
    acq: Json | None = None
    """Acquisition parameters to begin with; None takes those that the control has."""
    proc: Json | None = None
    """Processing parameters to begin with; None takes those that the control has."""


@dataclass(slots=True)
class Outcome:
    """What became of it."""

    code: int
    error: str = ""
    record: RunRecord | None = None
    seconds: float = 0.0
    """From the start to the last file."""

    @property
    def cut_off(self) -> bool:
        """It failed, and the control has not told how: it does not answer, or knows the run no more."""
        return self.code == FAILED and (self.record is None or not self.record.over)

    def as_json(self) -> dict[str, object]:
        told: dict[str, object] = {} if self.record is None else self.record.as_json()
        return {
            **told,
            "seconds": round(self.seconds, 3),
            "interrupted": self.code == INTERRUPTED,
            "error": self.error,
        }

    def summary(self) -> str:
        """One line for a person; the error, if any, is told beside it."""
        if self.record is None:
            return ""
        asked = f" of {self.record.nb_frames}" if self.record.nb_frames else ""
        how = "stopped: " if self.code == INTERRUPTED else ""
        saved = self.record.nb_frames_saved
        folders = dict.fromkeys(str(Path(file).parent) for file in self.record.files)
        where = f", to {' and '.join(folders)}" if how and folders else ""
        return (
            f"{how}{self.record.nb_frames_acquired}{asked} frames acquired, {saved or 'none'} saved, "
            f"in {self.seconds:.1f} s{where}"
        )


@dataclass(slots=True)
class Interruption:
    """The first Ctrl-C, SIGTERM or end of the terminal asks for a stop, the second ends this program at once."""

    asked: bool = False
    heeded: bool = False
    """The control has stopped the run, or it was over."""
    _before: dict[int, signal.Handlers | object] = field(default_factory=dict)

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _ask(self, _number: int, _frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


def acquire(client: Client, order: Order, console: Console) -> Outcome:
    """The whole run; what goes wrong is in the outcome."""
    with Interruption() as interruption:
        try:
            if order.acq is not None or order.proc is not None:
                client.replace(order.acq, order.proc)
            client.configure(**order.settings)
            with console.status("preparing; the first run of a server may wait until its kernels are ready"):
                run = client.begin()
        except Lima2Error as error:
            return Outcome(BAD_INPUT, error.what)
        except KeyboardInterrupt:
            return Outcome(INTERRUPTED, "interrupted before the start was confirmed: look with lima2 status")
        return _follow(run, interruption, console)


def _follow(run: Run, interruption: Interruption, console: Console) -> Outcome:
    begin, outcome = time.monotonic(), Outcome(OK)
    try:
        with _bar(console) as bar:
            outcome.code = _watch(run, interruption, bar)
    except Lima2Error as error:
        outcome.code, outcome.error = FAILED, error.what
    except KeyboardInterrupt:
        _insist(run, interruption)
        outcome.code = INTERRUPTED
        outcome.error = f"run {run.uuid} {_left(run, interruption)}"
    outcome.seconds = time.monotonic() - begin
    outcome.record = run.link.last
    return outcome


def _watch(run: Run, interruption: Interruption, bar: Bar) -> int:
    task = bar.add_task("", total=None, counts="", rates="", left="")
    for now in run.watch(PERIOD):
        bar.update(task, description=str(now.state), **_shown(now))
        if interruption.asked and not now.over:
            bar.update(task, description="stopping")
            run.link.stop()
            interruption.heeded = True
            run.wait(CLOSE_TIMEOUT)
            bar.update(task, description="stopped", **_shown(run.progress()))
            return INTERRUPTED
    _check_complete(run.wait(CLOSE_TIMEOUT))
    return OK


def _check_complete(record: RunRecord) -> None:
    """Raises RunFailedError where a run that we have not stopped ended early; an endless one ends so."""
    if record.state is RunState.STOPPED and record.nb_frames_acquired < record.nb_frames:
        raise RunFailedError(
            f"run {record.uuid} was stopped by another client after {record.nb_frames_acquired} of {record.nb_frames} "
            "frames; what was taken is kept"
        )


def _insist(run: Run, interruption: Interruption) -> None:
    """Who is in a hurry means that the run is to stop: it is told, unless a third Ctrl-C comes meanwhile."""
    if not interruption.heeded:
        with suppress(Lima2Error, KeyboardInterrupt):
            run.link.stop()
            interruption.heeded = True


def _left(run: Run, interruption: Interruption) -> str:
    """How a second Ctrl-C leaves it."""
    if interruption.heeded:
        return "acquires no more, and may still be closing its files: look with lima2 status"
    return (
        "may go on, as the control has not answered that it stops: look with lima2 status, and end it with the command "
        f"Stop of {run.link.device.name}"
    )


def _shown(now: Progress) -> dict[str, Any]:
    """Fields of the progress bar."""
    asked = now.nb_frames or None
    saved = f", {now.nb_frames_saved} saved" if now.nb_frames_saved else ""
    return {
        "total": asked,
        "completed": now.nb_frames_processed,
        "counts": f"{now.nb_frames_processed}/{asked or '?'} frames{saved}",
        "rates": f"{now.frame_rate:.4g}/s, {bytes_text(now.saving_rate)}/s",
        "left": "" if now.time_left is None else f"{now.time_left:.0f} s left",
    }


@dataclass(frozen=True, slots=True)
class _Narrower:
    """Narrower than the terminal, which shows ^C beside it: that would wrap, and leave half a bar behind."""

    shown: RenderableType

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from console.render(self.shown, options.update(max_width=max(1, options.max_width - ROOM)))


class _Bar(Bar):
    def get_renderables(self) -> Iterable[RenderableType]:
        yield _Narrower(self.make_tasks_table(self.tasks))


def _bar(console: Console) -> Bar:
    columns = [TextColumn(f"{{task.fields[{name}]}}") for name in ("counts", "rates", "left")]
    return _Bar(TextColumn("{task.description:<10}"), BarColumn(), *columns, TimeElapsedColumn(), console=console)
