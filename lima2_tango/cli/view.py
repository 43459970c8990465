"""`lima2 view`: what a file of a run holds, at a glance."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from lima2_tango.core.errors import ParamError

from .output import AsJson, add, print_json, print_table, table
from .run import region

if TYPE_CHECKING:
    from .viewed import Summary

EXAMPLES = """Example: lima2 view data/lima2_master.h5

Example: lima2 view data/lima2_0_00000.h5 --frame 42 --show --log

Example: lima2 view data/scan_master.h5 --roi 10,20,64,32 -o scan.png
"""
MARGIN = 6
"""Lines of a terminal that a picture leaves for the rest."""

File = Annotated[Path, typer.Argument(help="A master file or a data file of a run.")]
FrameNumber = Annotated[int | None, typer.Option("--frame", min=0, help="Which frame to show; the first without it.")]
Rois = Annotated[
    list[str] | None,
    typer.Option("--roi", metavar="X,Y,W,H", help="Also the sum of this region over all frames; may be repeated."),
]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="PNG", help="Draw frame and curves into a file.")
]
Show = Annotated[bool, typer.Option("--show", help="Draw the frame into the terminal.")]
Log = Annotated[bool, typer.Option("--log", help="Colours by the logarithm of the counts.")]


def view(
    file: File,
    frame: FrameNumber = None,
    rois: Rois = None,
    output: Output = None,
    show: Show = False,
    log: Log = False,
    as_json: AsJson = False,
) -> None:
    """Show what a file of a run holds: frames, sizes, positions, one frame, and regions over all frames.

    A region is read out of the frames themselves, whatever the run computed. The picture has the percentiles 1 to 99.9
    of the counts as its darkest and brightest colours; masked pixels are grey.

    Exit codes: 0 shown; 1 the file cannot be read, and why.
    """
    if show and as_json:
        raise ParamError("--show", True, "it draws where --json prints for programs: choose one of the two")
    boxes = [region(text) for text in rois or ()]
    from .viewed import look  # HDF5 and its filters take a while to load

    summary, data = look(file, frame, boxes)
    if output is not None:
        from .viewplot import save

        save(output, summary, data, log)
    if as_json:
        print_json({**summary.document(), "picture": str(output or "")})
        return
    _print(summary, output)
    if show:
        from .viewplot import blocks

        console = Console()
        console.print(blocks(data, console.width, max(8, console.height - MARGIN), log))


def _print(summary: "Summary", picture: Path | None) -> None:
    made = table()
    for what, how in summary.lines():
        add(made, what, how)
    for curve in summary.rois:
        known = [value for value in curve.sum if value is not None]
        add(made, f"region {','.join(map(str, curve.roi))}", f"sum {min(known):g} to {max(known):g}" if known else "")
    if picture is not None:
        add(made, "picture", picture)
    print_table(made)
