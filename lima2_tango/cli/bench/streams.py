"""P9: a stream between two ranks, against MPI itself and against a bare copy through memory in common."""

import json
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from lima2_tango.core.errors import Lima2Error
from lima2_tango.core.units import bytes_text
from lima2_tango.transport.fabric import SendMode

from .row import Row, Tell
from .stream_ranks import BATCH, SHARED

BARE = ("Send", "Isend", "Send_init")
LARGE, SMALL = 0.9, 0.5
"""Goals from 1 MiB up, and below."""
END = 300.0
"""What takes longer hangs [s]."""
Times = Mapping[str, Sequence[float]]
"""Seconds of each repeat, by side."""


def measure(short: bool, tell: Tell) -> list[Row]:
    """P9: 512 MiB of frames of each size and in each mode, three times (128 MiB once in short form)."""
    total, repeats = (128 << 20, 1) if short else (512 << 20, 3)
    tell(f"two ranks exchange {bytes_text(total)} in each mode, {repeats} times")
    rows: list[Row] = []
    for size, times in _measured(total, repeats).items():
        rows += [_by_messages(int(size), total, times), _by_memory(int(size), total, times)]
    return rows


def _measured(total: int, repeats: int) -> Mapping[str, Times]:
    """What the receiving rank says; raises Lima2Error where the job fails."""
    launcher = Path(sys.prefix) / "bin" / "mpiexec"
    module = "lima2_tango.cli.bench.stream_ranks"
    command = [launcher, "-n", 2, sys.executable, "-m", "mpi4py", "-m", module, total, repeats]
    try:
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=END, check=False)
    except subprocess.TimeoutExpired as error:
        raise Lima2Error(f"two ranks did not exchange {bytes_text(total)} in each mode within {END:g} s") from error
    except OSError as error:
        raise Lima2Error(f"{launcher} cannot be started: {error}: pip install 'lima2_tango[mpich]'") from error
    if done.returncode:
        raise Lima2Error(f"the two ranks failed with {done.returncode}: {done.stderr[-2000:].strip()}")
    measured: Mapping[str, Times] = json.loads(done.stdout.splitlines()[-1])
    return measured


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
