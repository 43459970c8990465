"""One measured figure, as the table and the JSON show it."""

import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
import psutil
from rich.table import Table

from lima2_tango.cli import output

Tell = Callable[[str], None]
"""Takes what a person who waits should read."""


@dataclass(frozen=True, slots=True)
class Row:
    """`ratio` is made so that more is better; a goal is met where ratio >= goal."""

    id: str
    what: str
    ours: float
    reference: float
    unit: str
    ratio: float
    goal: float
    lost: int
    """Frames missing, doubled or out of order; a row counts only with none."""
    runs: int
    detail: str = ""
    figures: Mapping[str, float] = field(default_factory=dict)
    """What else was measured on the way, for programs: by name."""

    @property
    def met(self) -> bool:
        return self.lost == 0 and self.ratio >= self.goal

    def falls_under(self, least: float) -> bool:
        """Frames are lost, or the ratio is less than this part of its goal."""
        return self.lost > 0 or self.ratio < least * self.goal


def document(rows: Sequence[Row]) -> dict[str, object]:
    """What `--json` writes."""
    return {"machine": machine(), "rows": [{**asdict(row), "met": row.met} for row in rows]}


def machine() -> dict[str, object]:
    """Where the figures were measured."""
    memory = psutil.virtual_memory().total / 2**30
    cores = len(os.sched_getaffinity(0))
    return {
        "processor": platform.processor() or platform.machine(),
        "cores": cores,
        "memory_gib": round(memory, 1),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "system": platform.platform(),
    }


def table(rows: Sequence[Row]) -> Table:
    """For people: the figures, and below them what else was seen."""
    details = "\n".join(f"{row.id}: {row.detail}" for row in rows if row.detail)
    made = output.table("row", "what", "ours", "reference", "ratio", "goal", "met", "lost", caption=details)
    for row in rows:
        ours, reference = f"{row.ours:.4g} {row.unit}", f"{row.reference:.4g} {row.unit}"
        met = "yes" if row.met else "no"
        output.add(made, row.id, row.what, ours, reference, f"{row.ratio:.2f}", f"{row.goal:g}", met, row.lost)
    return made
