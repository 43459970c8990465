"""A program in C feeds frames into a stream beside ranks in Python: feeder.c of the examples, built with mpicc."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples" / "streams"
PROGRAMS = Path(sys.prefix) / "bin"
BOUND = 60
FRAMES = 61


@pytest.fixture(scope="module")
def feeder(tmp_path_factory):
    if shutil.which("cc") is None:
        pytest.skip("mpicc needs a C compiler (apt-get install gcc libc6-dev)")
    program = tmp_path_factory.mktemp("feeder") / "feeder"
    strict = ["-std=c11", "-O2", "-Wall", "-Wextra", "-Werror"]
    subprocess.run([PROGRAMS / "mpicc", *strict, "-o", program, EXAMPLES / "feeder.c"], check=True, timeout=BOUND)
    return program


def job(feeder, name, feeders, consumers):
    ranks = ["-n", feeders, feeder, name, consumers, FRAMES, ":"]
    python = ["-n", consumers, sys.executable, "-m", "mpi4py", EXAMPLES / "fed.py", name, feeders, FRAMES]
    command = [str(word) for word in (PROGRAMS / "mpiexec", *ranks, *python)]
    return subprocess.run(command, capture_output=True, text=True, timeout=BOUND, check=False)


@pytest.mark.parametrize(("feeders", "consumers"), [(1, 3), (2, 2)])
def test_every_frame_arrives_once_and_exact(feeder, feeders, consumers):
    done = job(feeder, "frames", feeders, consumers)
    assert done.returncode == 0, done.stderr
    taken = [feeders * len(range(rank, FRAMES, consumers)) for rank in range(consumers)]
    said = [f"rank {feeders + rank} took {count} frames" for rank, count in enumerate(taken)]
    assert sorted(done.stdout.splitlines()) == said


def test_the_longest_name_of_a_stream_is_the_same_one_in_both_languages(feeder):
    done = job(feeder, "x" * 128, 1, 1)
    assert done.returncode == 0, done.stderr


def test_a_name_that_is_too_long_is_refused(feeder):
    done = job(feeder, "f" * 129, 1, 1)
    assert done.returncode != 0
    assert "128 bytes at most" in done.stderr
