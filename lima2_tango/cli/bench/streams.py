"""P9: a stream between two ranks, against MPI itself and against a bare copy through memory in common."""

import statistics
from collections.abc import Sequence

from lima2_tango.core.units import bytes_text
from lima2_tango.transport.fabric import SendMode

from .pair import Times, measured
from .row import Row, Tell
from .stream_ranks import BATCH, SHARED

BARE = ("Send", "Isend", "Send_init")
LARGE, SMALL = 0.9, 0.5
"""Goals from 1 MiB up, and below."""


def measure(short: bool, tell: Tell) -> list[Row]:
    """P9: 512 MiB of frames of each size and in each mode, three times (128 MiB once in short form)."""
    total, repeats = (128 << 20, 1) if short else (512 << 20, 3)
    tell(f"two ranks exchange {bytes_text(total)} in each mode, {repeats} times")
    rows: list[Row] = []
    for size, times in measured("lima2_tango.cli.bench.stream_ranks", total, repeats).items():
        rows += [_by_messages(int(size), total, times), _by_memory(int(size), total, times)]
    return rows


def _by_messages(size: int, total: int, times: Times) -> Row:
    best = min(BARE, key=lambda name: statistics.median(times[name]))
    others = ", ".join(f"{name} {_rate(total, times[name]):.3g}" for name in (*BARE, *SendMode))
    what = f"stream by messages, frames of {bytes_text(size)}; reference: {best}"
    return _row(what, total, times[SendMode.STANDARD], times[best], size, f"MB/s: {others}")


def _by_memory(size: int, total: int, times: Times) -> Row:
    what = f"stream through memory in common, frames of {bytes_text(size)}; reference: bare copy into a ring"
    return _row(what, total, times[SHARED], times["bare ring"], size, "")


def _row(what: str, total: int, ours: Sequence[float], bare: Sequence[float], size: int, detail: str) -> Row:
    rate, reference = _rate(total, ours), _rate(total, bare)
    batch = f"blocks of {bytes_text(BATCH)}; " if size < BATCH else ""
    goal = LARGE if size >= BATCH else SMALL
    return Row("P9", what, rate, reference, "MB/s", rate / reference, goal, 0, len(ours), batch + detail)


def _rate(total: int, seconds: Sequence[float]) -> float:
    return total / 1e6 / statistics.median(seconds)
