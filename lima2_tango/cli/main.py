"""`lima2`: what people type."""

import json
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from typer.core import TyperGroup

from lima2_tango.control.parameters import pipelines
from lima2_tango.core.errors import Lima2Error, ParamError
from lima2_tango.core.params import Params
from lima2_tango.core.plugins import available, load
from lima2_tango.processing.plugin import PipelinePlugin

from . import calibrate, offline
from . import up as systems
from .process import LaunchError
from .run import EXAMPLES, run

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


class Commands(TyperGroup):
    """Commands whose expected failures are one sentence on stderr and exit code 1, or 2 for what the system refuses."""

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


systems.register(app)
app.command(epilog=EXAMPLES)(run)
app.command(epilog=offline.EXAMPLES)(offline.process)
app.command(name="calibrate", epilog=calibrate.EXAMPLES)(calibrate.calibrate_files)


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
    signal.signal(signal.SIGTERM, _end)
    console = Console(stderr=True)
    with progress_bars() as progress:
        report = Demo(frames, folder, keep, progress).run()
    Console().print(report.table())
    console.print("Nothing is left running.")


@app.command(epilog="Example: lima2 bench P11 --short --json bench.json")
def bench(
    rows: Annotated[list[str] | None, typer.Argument(help="Rows to measure; all where none is named.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write the figures to this file.")] = None,
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

    P1, P1b: whole runs against the time that compressing their frames takes. P3: the writer against bare threads and
    against HDF5's own filter. P4: frames as they are, and small ones. P8: what a live client waits for. P10: two
    receivers instead of one. P11: how fast acq_state answers while frames come as fast as they can. A ratio is made so
    that more is better. Without a row all are measured, which takes some minutes.
    """
    try:
        from .bench import sweep
        from .bench.rows import measure  # what they need is an extra
    except ModuleNotFoundError as error:
        raise LaunchError(f"the benchmark needs {error.name}: pip install 'lima2_tango[mpich,demo]'") from error
    signal.signal(signal.SIGTERM, _end)
    from .bench.row import document, table

    console = Console(stderr=True)
    with console.status("starting") as status:
        measured = measure(rows or [], short, lambda text: status.update(text), least, frames or [])
    Console().print(table(measured))
    if json_file is not None:
        json_file.write_text(json.dumps(document(measured), indent=2), encoding="utf-8")
    if plot is not None:
        with console.status("rate against frame size") as status:
            points = sweep.measure(short, lambda text: status.update(text))
        sweep.draw(points, plot)
    if under := [row for row in measured if row.falls_under(least)]:
        names = ", ".join(f"{row.id} ({row.ratio:.2f} of {row.goal:g})" for row in under)
        raise LaunchError(f"under {least:g} of the goal, or with lost frames: {names}")


@app.command(epilog="Example: lima2 cameras --json")
def cameras(as_json: AsJson = False) -> None:
    """List the cameras: what a configuration can name, and their Tango classes."""
    rows = []
    for file in available("cameras"):
        name = load("cameras", file).name
        rows.append({"name": name, "control": f"Lima{name}Control", "receiver": f"Lima{name}Receiver"})
    _print_rows(rows, as_json)


@app.command(name="pipelines", epilog="Example: lima2 pipelines Legacy --frames 512x1024:uint16")
def list_pipelines(
    name: Annotated[str | None, typer.Argument(help="Draw the graph of this pipeline; list all without it.")] = None,
    as_json: AsJson = False,
    mermaid: Annotated[bool, typer.Option("--mermaid", help="Draw a flow chart for a Markdown page.")] = False,
    frames: Annotated[
        str, typer.Option(metavar="HxW:TYPE", help="As it is for frames of so many rows and columns, with this type.")
    ] = "",
    params: Annotated[
        Path | None, typer.Option(help="For --frames: parameters, as `lima2 params` prints them; else the defaults.")
    ] = None,
) -> None:
    """List the processing pipelines, or draw the graph of one: which node reads which, with what parameters.

    With --frames and --params it is checked as at Prepare, and each node shows what leaves it.
    """
    if name is None:
        _print_rows([{"class_name": key, "what": plugin.doc} for key, plugin in pipelines().items()], as_json)
        return
    from .drawing import drawing  # what it needs takes half a second

    drawn = drawing(_pipeline(name), frames, params)
    if as_json:
        typer.echo(json.dumps(drawn.document(), indent=2))
    else:
        typer.echo(drawn.mermaid() if mermaid else drawn.tree())


@app.command(epilog="Example: lima2 params Simulator Legacy > prepare.json")
def params(
    camera: Annotated[str, typer.Argument(help="A camera, as `lima2 cameras` lists it.")],
    pipeline: Annotated[str | None, typer.Argument(help="A pipeline, with or without LimaProcessing.")] = None,
) -> None:
    """Print the default parameters as JSON, in the shape that the conductor's prepare takes."""
    acquisition = _as_json(_camera_params(camera))
    body = {"control": acquisition, "receiver": acquisition}
    if pipeline is not None:
        plugin = _pipeline(pipeline)
        body["processing"] = {"class_name": plugin.class_name, **_as_json(plugin.params)}
    typer.echo(json.dumps(body, indent=2))


@app.command(epilog="Example: lima2 schema Legacy")
def schema(name: Annotated[str, typer.Argument(help="A camera or a pipeline.")]) -> None:
    """Print the JSON schema of a camera's acquisition parameters or of a pipeline's processing parameters."""
    is_camera = name.lower() in available("cameras")
    declared = _camera_params(name) if is_camera else _pipeline(name).params
    typer.echo(json.dumps(json.loads(declared.schema_text()), indent=2))


def _camera_params(name: str) -> type[Params]:
    declared: type[Params] = load("cameras", name.lower()).params
    return declared


def _pipeline(name: str) -> PipelinePlugin:
    """A pipeline by its Tango class or by the end of it, in any case."""
    for class_name, pipeline in (known := pipelines()).items():
        if name.lower() in {class_name.lower(), class_name.lower().removeprefix("limaprocessing")}:
            return pipeline
    have = ", ".join([*available("cameras"), *known])
    raise ParamError("name", name, f"there is no such camera or pipeline; have: {have}")


def _as_json(declared: type[Params]) -> dict[str, Any]:
    values: dict[str, Any] = declared().model_dump(mode="json")
    return values


def _print_rows(rows: list[dict[str, str]], as_json: bool) -> None:
    """Rows with equal keys, as a table or as JSON."""
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*map(escape, row.values()))
    Console().print(table)


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


def _end(number: int, _frame: FrameType | None) -> None:
    """SIGTERM unwinds, so that everything started is stopped."""
    sys.exit(128 + number)
