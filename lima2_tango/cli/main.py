"""`lima2`: what people type."""

import json
import os
import signal
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from lima2_tango import __version__
from lima2_tango.core.errors import Lima2Error, ParamError

from . import beamline, calibrate, declared, doctor, offline, plan, simulate, view, web
from . import up as systems
from .interrupts import heard
from .output import print_json, print_table
from .process import LaunchError
from .run import EXAMPLES, run

BENCH_EXAMPLES = """Example: lima2 bench P11 --short --json bench.json

Example: lima2 bench --json bench.json --plot bench.png
"""
GROUPS = {
    "First steps": ("demo", "doctor", "up", "run", "status", "web", "down"),
    "What there is, and what can be set": ("cameras", "pipelines", "params", "schema", "plan"),
    "Files": ("view", "process", "calibrate"),
    "Without a detector, and how fast": ("simulate", "bench"),
}
"""Commands as a newcomer meets them."""


class Commands(TyperGroup):
    """Commands whose expected failures are one sentence on stderr and exit code 1, or 2 for what the system refuses."""

    def list_commands(self, ctx: Any) -> list[str]:
        """In the order of `GROUPS`, with the others behind them."""
        known = super().list_commands(ctx)
        ordered = [name for names in GROUPS.values() for name in names if name in known]
        return [*ordered, *(name for name in known if name not in ordered)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Each knows the panel that it is listed in."""
        found: Any = super().get_command(ctx, cmd_name)
        panel = next((panel for panel, names in GROUPS.items() if cmd_name in names), None)
        if found is not None and panel is not None:
            found.rich_help_panel = panel
        return found

    def invoke(self, ctx: Any) -> Any:
        _hand_down_no_ignored_interrupt()
        try:
            return super().invoke(ctx)
        except Lima2Error as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(1) from error
        except BrokenPipeError:  # who reads our output has enough: click ends without a word
            raise
        except (OSError, UnicodeError, RecursionError) as error:
            typer.echo(f"error: {_sentence(error)}", err=True)
            raise typer.Exit(systems.BAD_INPUT) from error


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Acquisition backend for X-ray detectors: Lima2's design in Python, over Tango and MPI.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"lima2_tango {__version__}")
        raise typer.Exit


@app.callback()
def options(
    _: Annotated[
        bool, typer.Option("--version", help="Print the version, and end.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    # What it is for is the help of `app`.
    pass


systems.register(app)
app.command(epilog=EXAMPLES)(run)
app.command(epilog=offline.EXAMPLES)(offline.process)
app.command(name="calibrate", epilog=calibrate.EXAMPLES)(calibrate.calibrate_files)
app.command(epilog=doctor.EXAMPLES)(doctor.doctor)
app.command(epilog=plan.EXAMPLES)(plan.plan)
simulate.app.command(epilog=beamline.EXAMPLES)(beamline.beamline)
app.add_typer(simulate.app, name="simulate")
app.command(epilog=web.EXAMPLES)(web.web)
app.command(epilog=view.EXAMPLES)(view.view)
declared.register(app)


@app.command(epilog="Example: lima2 demo --frames 50 --folder /tmp/lima2_demo")
def demo(
    frames: Annotated[int, typer.Option(min=2, help="Frames to acquire, of 36 MB each.")] = 200,
    folder: Annotated[Path, typer.Option(help="Where files, picture and logs go.")] = Path("lima2_demo"),
    keep: Annotated[bool, typer.Option("--keep", help="Keep the files that were replayed, too.")] = False,
) -> None:
    """Run a whole system on this computer and prove that it loses nothing.

    A Tango database, an MPI job of one control and two receivers, and the conductor replay frames of an EIGER2 16M,
    compute statistics of regions of interest, compress and save. Then every frame and every statistic is compared
    with what it must be. Nothing is left running.
    """
    try:
        from .demo.run import Demo, progress_bars  # what it needs is an extra
    except ModuleNotFoundError as error:
        raise LaunchError(f"the demo needs {error.name}: pip install 'lima2_tango[mpich,demo]'") from error
    console = Console(stderr=True)
    with heard() as check, progress_bars() as progress:
        report = Demo(frames, folder, keep, progress, check).run()
    report.tell(Console())
    console.print("Nothing is left running.")


@app.command(epilog=BENCH_EXAMPLES)
def bench(
    rows: Annotated[list[str] | None, typer.Argument(help="Rows to measure; all where none is named.")] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Also write the figures to this file; - prints them.")
    ] = None,
    short: Annotated[bool, typer.Option("--short", help="Seconds instead of minutes, for a quick look.")] = False,
    least: Annotated[
        float, typer.Option(min=0, help="Exit with 1 where a ratio is under this part of its goal, measured twice.")
    ] = 0.0,
    frames: Annotated[
        list[Path] | None, typer.Option(help="A file of real frames for one more row of P1b; may be repeated.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Also draw rate against frame size, with its bounds, into this PNG file.")
    ] = None,
) -> None:
    """Measure what users wait for, each figure against its reference in the same run.

    P1, P1b: whole runs against the time that compressing their frames takes. P2: a detector's stream into files against
    the same messages into one. P3: the writer against bare threads and against HDF5's own filter. P4: frames as they
    are, and small ones. P5: modules assembled across processes, and UDP. P6, P7: integration and peaks against pyFAI.
    P8: what a live client waits for. P9: streams between ranks against bare MPI. P10: two receivers instead of one.
    P11: how fast acq_state answers while frames come as fast as they can. Web: the same beside twenty pages and twenty
    clients, and what the page costs. Plan: what `lima2 plan` says against a run. A ratio is made so that more is
    better. Without a row all are measured, which takes some minutes.
    """
    try:
        from .bench import sweep
        from .bench.rows import measure  # what they need is an extra
    except ModuleNotFoundError as error:
        raise LaunchError(f"the benchmark needs {error.name}: pip install 'lima2_tango[mpich,demo]'") from error
    from .bench.row import document, table

    for option, path in (("--json", json_file), ("--plot", plot)):
        if path is not None and not path.absolute().parent.is_dir():
            raise ParamError(option, str(path), f"the folder {path.absolute().parent} does not exist")
    console = Console(stderr=True)
    with _telling(console) as tell:
        measured = measure(rows or [], short, tell, least, frames or [])
    if json_file == Path("-"):
        print_json(document(measured))
    else:
        print_table(table(measured))
        if json_file is not None:
            json_file.write_text(json.dumps(document(measured), indent=2), encoding="utf-8")
    if plot is not None:
        with _telling(console) as tell:
            points = sweep.measure(short, tell)
        sweep.draw(points, plot)
    if under := [row for row in measured if row.falls_under(least)]:
        names = ", ".join(f"{row.id} ({row.ratio:.2f} of {row.goal:g})" for row in under)
        raise LaunchError(f"under {least:g} of the goal, or with lost frames: {names}")


@contextmanager
def _telling(console: Console) -> Generator[Callable[[str], None]]:
    """A line that says what is being measured."""
    with heard() as check, console.status("starting") as status:

        def tell(text: str) -> None:
            check()
            status.update(text)

        yield tell


def _sentence(error: OSError | UnicodeError | RecursionError) -> str:
    """What the system, or Python, refuses, with the file where there is one."""
    match error:
        case OSError(filename=str(name) | bytes(name), strerror=str(reason)):
            return f"{os.fsdecode(name)!r} cannot be used: {reason}"
        case UnicodeError():
            return f"a text cannot be read as UTF-8, or be a name: {error}"
        case RecursionError():
            return "what was given is nested too deep"
    return f"{error.strerror or error}" if isinstance(error, OSError) else str(error)


def _hand_down_no_ignored_interrupt() -> None:
    """A shell's background job ignores SIGINT, and so would all that it starts: MPICH ends the ranks by it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, lambda *_: None)
