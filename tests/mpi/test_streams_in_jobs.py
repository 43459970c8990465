"""Streams in jobs of MPI: every mode, every arrangement, ends of all kinds, and many short ones drawn at random."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BODY = Path(__file__).with_name("stream_body.py")
BOUND = 100
LONG_BOUND = 900


def job(size, *arguments, body=BODY, bound=BOUND):
    """What the ranks of a job print, by rank; a job that fails or hangs fails the test with what it said."""
    launcher = Path(sys.prefix) / "bin" / "mpiexec"
    command = [launcher, "-n", size, sys.executable, "-m", "mpi4py", body, *arguments]
    try:
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=bound)
    except subprocess.TimeoutExpired as late:
        said = [(output or b"").decode()[-2000:] for output in (late.stdout, late.stderr)]
        raise AssertionError("\n".join([f"not over after {bound} s", *said])) from late
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    assert "Traceback" not in done.stderr, done.stderr[-4000:]  # of a thread
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return sorted(lines, key=lambda line: line["rank"])


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_all_modes_and_arrangements_and_a_few_random_streams(size):
    lines = job(size, 25, 1000 * size)
    assert [line["rank"] for line in lines] == list(range(size))
    assert all(line["plays"] == 25 + 6 * 5 * 5 for line in lines)
    assert all(line["claimed"] == 0 for line in lines)


@pytest.mark.long
@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_a_thousand_random_streams_in_one_job(size):
    lines = job(size, 1000, 50_000 * size, bound=LONG_BOUND)
    assert [line["rank"] for line in lines] == list(range(size))
