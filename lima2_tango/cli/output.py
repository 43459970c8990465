"""How the command line tells what it found: one look for tables, JSON and errors."""

import json
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

PIPE_WIDTH = 1000
"""Of lines for other programs [character]."""

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def table(*columns: str, caption: str = "") -> Table:
    """An empty table in our look; `add` fills it. Without columns it has no heading."""
    made = Table(box=None, padding=(0, 2, 0, 0), show_header=bool(columns), header_style="bold", pad_edge=False)
    for column in columns:
        made.add_column(column)
    if caption:
        made.caption, made.caption_justify, made.caption_style = Text(caption), "left", "none"
    return made


def add(to: Table, *cells: object) -> None:
    """A row of plain texts (rich would take their brackets for markup), or of rich's own."""
    to.add_row(*(cell if isinstance(cell, Text) else Text(str(cell)) for cell in cells))


def print_table(made: Table) -> None:
    """To the terminal; nothing is folded where nobody looks, as in a pipe."""
    console = Console()
    (console if console.is_terminal else Console(width=PIPE_WIDTH)).print(made)


def print_rows(rows: Sequence[Mapping[str, object]], as_json: bool) -> None:
    """Rows with equal keys, as a table or as JSON."""
    if as_json:
        print_json(list(rows))
        return
    made = table(*rows[0])
    for row in rows:
        add(made, *row.values())
    print_table(made)


def print_json(document: object) -> None:
    """For programs; JSON has no NaN and no infinity: they are null."""
    typer.echo(json.dumps(_finite(document), indent=2, allow_nan=False))


def _finite(value: object) -> object:
    match value:
        case float() if not isfinite(value):
            return None
        case Mapping():
            return {key: _finite(each) for key, each in value.items()}
        case list() | tuple():
            return [_finite(each) for each in value]
    return value
