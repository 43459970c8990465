"""`lima2 process`: files of frames through a pipeline, without Tango."""

import json
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, Task, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from lima2_tango.control.offline import Order, Outcome, process_files
from lima2_tango.control.parameters import choose
from lima2_tango.control.settings import Settings
from lima2_tango.core.errors import Lima2Error, ParamError, SavingError
from lima2_tango.processing.offline import find_pipeline

from .acquiring import BAD_INPUT, FAILED, INTERRUPTED, OK, Interruption
from .paramfile import read_file

EXAMPLES = """Example: lima2 process data/scan_master.h5 --pipeline Legacy -o again.h5

Example: lima2 process data/scan_0_*.h5 --pipeline Fai --params fai.json --frames 0:100 -o fai.h5 --overwrite

Example: lima2 process thaumatin_*.cbf --params legacy.json -o legacy.h5 --json
"""
BESIDE = (("control", "processing"), ("acq_params", "proc_params"))
"""Keys of acquisition and processing in what `lima2 params` prints, and in what SaveConfig writes."""

Files = Annotated[list[Path], typer.Argument(help="HDF5 (data files, master files), CBF, EDF or TIFF, in order.")]
Output = Annotated[Path, typer.Option("--output", "-o", help="The result, HDF5; files of frames are named after it.")]
Pipeline = Annotated[str | None, typer.Option(help="As `lima2 pipelines` lists it; else `class_name` of --params.")]
ParamsFile = Annotated[
    Path | None,
    typer.Option("--params", help="Processing parameters, JSON or YAML; or from `lima2 params`, SaveConfig."),
]
Frames = Annotated[str, typer.Option(help="First and last frame as START:STOP, by place in the series; STOP is out.")]
Dataset = Annotated[str, typer.Option(help="Path of the images in HDF5 files, if not their default plot.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")]
WorkerCount = Annotated[int, typer.Option("--workers", min=0, help="Threads that process; 0 for one a core.")]
Receivers = Annotated[
    int, typer.Option(min=1, max=1024, help="As so many receivers that share a run: each makes sums of its own frames.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def process(
    files: Files,
    output: Output,
    pipeline: Pipeline = None,
    params: ParamsFile = None,
    frames: Frames = ":",
    dataset: Dataset = "",
    overwrite: Overwrite = False,
    workers: WorkerCount = 0,
    receivers: Receivers = 1,
    as_json: AsJson = False,
) -> None:
    """Put frames of files through a processing pipeline, as a run would.

    What a run saved online comes out again, bit for bit, from its raw frames and its parameters; no Tango and no MPI
    are needed. The result has the rows of reduced data, and links to one file for each stream of frames beside it.
    Ctrl-C ends early and keeps what is done; a second one leaves at once, without the result.

    Exit codes: 0 all frames processed, 1 the processing failed (what came before is kept), 2 refused, 130 Ctrl-C.
    """
    try:
        order = _order(files, output, pipeline, params, _places(frames), dataset, overwrite, workers, receivers)
        with Interruption() as interruption, _shown() as tell:
            outcome = process_files(order, tell, lambda: interruption.asked)
    except Lima2Error as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(FAILED if isinstance(error, SavingError) else BAD_INPUT) from error
    except KeyboardInterrupt as error:
        typer.echo(f"error: interrupted twice: {output} is not written; files of frames may be there", err=True)
        raise typer.Exit(INTERRUPTED) from error
    _tell(outcome, as_json)


def _order(
    files: list[Path],
    output: Path,
    pipeline: str | None,
    params: Path | None,
    places: tuple[int, int | None],
    dataset: str,
    overwrite: bool,
    workers: int,
    receivers: int,
) -> Order:
    acquisition, processing = read_parameters(params)
    choice = choose(json.dumps(_named(processing, pipeline)), Settings())
    return Order(files, choice, output, dataset, *places, acquisition, overwrite, workers, receivers)


def read_parameters(path: Path | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Acquisition and processing parameters of a JSON or YAML file, without one none; raises ParamError."""
    if path is None:
        return {}, {}
    content = read_file(path)
    if not isinstance(content, dict):
        raise ParamError("--params", str(path), "give an object of processing parameters")
    for acquisition, processing in BESIDE:
        if acquisition in content or processing in content:
            return _block(content, acquisition), _block(content, processing)
    return {}, content


def _block(content: dict[str, Any], name: str) -> dict[str, Any]:
    found = content.get(name) or {}
    if not isinstance(found, dict):
        raise ParamError(f"$.{name}", found, "give an object of parameters")
    return found


def _named(processing: dict[str, Any], pipeline: str | None) -> dict[str, Any]:
    """The parameters with the class name of their pipeline; raises ParamError where two are named, or none."""
    inside = processing.get("class_name")
    if pipeline is None:
        if inside is None:
            raise ParamError("--pipeline", None, "name the pipeline, or give class_name in --params")
        return processing
    name = find_pipeline(pipeline).class_name
    if inside is not None and inside != name:
        raise ParamError("$.class_name", inside, f"--pipeline says {name}: leave one of them out")
    return {**processing, "class_name": name}


def _places(text: str) -> tuple[int, int | None]:
    first, colon, last = text.partition(":")
    try:
        start, stop = int(first or 0), int(last) if last else None
        if not colon or start < 0 or (stop is not None and stop <= start):
            raise ValueError
    except ValueError as error:
        raise ParamError("--frames", text, "give START:STOP, such as 0:100 or 50:") from error
    return start, stop


class _Rate(TextColumn):
    """Frames per second since the first."""

    def render(self, task: Task) -> Text:
        return Text("" if not task.speed else f"{task.speed:.4g}/s")


@contextmanager
def _shown() -> Generator[Callable[[int, int], None], None, None]:
    """A progress bar, from the first news on."""
    console = Console(stderr=True)
    counts = TextColumn("{task.completed:.0f}/{task.total:.0f} frames")
    columns = (BarColumn(), counts, _Rate(""), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        tasks: list[TaskID] = []

        def tell(done: int, total: int) -> None:
            if not tasks:
                tasks.append(progress.add_task("", total=total))
            progress.update(tasks[0], completed=done)

        yield tell


def _tell(outcome: Outcome, as_json: bool) -> NoReturn:
    """Files on stdout, so that they can be piped; all else on stderr."""
    if outcome.error is not None:
        typer.echo(f"error: {outcome.error}", err=True)
    if as_json:
        typer.echo(json.dumps(_as_json(outcome)))
    else:
        typer.echo(_summary(outcome), err=True)
        for file in outcome.files:
            typer.echo(str(file))
    raise typer.Exit(_code(outcome))


def _code(outcome: Outcome) -> int:
    if outcome.error is not None:
        return FAILED
    return INTERRUPTED if outcome.interrupted else OK


def _as_json(outcome: Outcome) -> dict[str, object]:
    return {
        "nb_frames": outcome.nb_frames,
        "nb_frames_done": outcome.nb_frames_done,
        "counters": outcome.counters,
        "files": [str(file) for file in outcome.files],
        "seconds": round(outcome.seconds, 3),
        "interrupted": outcome.interrupted,
        "error": "" if outcome.error is None else outcome.error.what,
    }


def _summary(outcome: Outcome) -> str:
    how = "stopped: " if outcome.interrupted else ""
    rate = outcome.nb_frames_done / outcome.seconds if outcome.seconds else 0.0
    done = f"{outcome.nb_frames_done} of {outcome.nb_frames} frames processed"
    return f"{how}{done} in {outcome.seconds:.1f} s ({rate:.4g}/s)"
