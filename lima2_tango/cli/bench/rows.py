"""The rows that can be measured, by name."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from lima2_tango.core.errors import ParamError
from lima2_tango.processing.kernels.warm import warm

from . import (
    assembly,
    crowd,
    dectris,
    integration,
    live,
    model,
    peaks,
    responsiveness,
    small,
    storage,
    streams,
    throughput,
)
from .row import Row, Tell

Measure = Callable[[bool, Tell], Sequence[Row]]
"""Takes the short form or not, and whom to tell of its progress."""

ROWS: dict[str, Measure] = {
    "P1": throughput.measure_simulator,
    "P1b": throughput.measure_poisson,
    "P2": dectris.measure,
    "P3": storage.measure_compressed,
    "P4": lambda short, tell: [*storage.measure_uncompressed(short, tell), *small.measure(short, tell)],
    "P5": assembly.measure,
    "P6": integration.measure,
    "P7": peaks.measure,
    "P8": live.measure,
    "P9": streams.measure,
    "P10": throughput.measure_scaling,
    "P11": responsiveness.measure,
    "Web": crowd.measure,
    "Plan": model.measure,
}


def measure(
    names: Sequence[str], short: bool, tell: Tell, least: float = 0.0, frames: Sequence[Path] = ()
) -> list[Row]:
    """Measure the named rows, all where none is named; raises ParamError for a name that there is not.

    P1b has a second row where there are files of `frames`; raises ParamError for those that fabio does not read.

    What falls under `least` of its goal is measured once more, and the second measurement counts: on a machine that
    others use, one figure in many is far off.
    """
    for name in names:
        if name not in ROWS:
            raise ParamError("ROW", name, f"there is no such row; have: {', '.join(ROWS)}")
    if frames and names and "P1b" not in names:
        raise ParamError("--frames", str(frames[0]), "only the row P1b takes frames: name it, or no row")
    stored = throughput.read(frames) if frames else None
    tell("kernels, compiled once for this machine")
    warm()
    rows: list[Row] = []
    for name in names or ROWS:
        rows += _once_or_twice(ROWS[name], short, tell, least)
        if name == "P1b" and stored is not None:
            rows += _once_or_twice(partial(throughput.measure_stored, stored, frames[0].name), short, tell, least)
    return rows


def _once_or_twice(measured_by: Measure, short: bool, tell: Tell, least: float) -> Sequence[Row]:
    rows = measured_by(short, tell)
    return measured_by(short, tell) if any(row.falls_under(least) for row in rows) else rows
