"""Runs of every topology drawn at random, in one job of MPI: every frame once and exact, every stop a prefix."""

from pathlib import Path

import pytest
from test_streams_in_jobs import job

BODY = Path(__file__).with_name("topology_body.py")
LONG_BOUND = 3000
"""A run takes half a second to a second: it waits, and it is stopped, on purpose [s]."""


@pytest.mark.parametrize("distance", ["near", "far"])
@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_a_few_random_runs(size, distance):
    (line,) = job(size, 8, 70 + size, distance, body=BODY)
    assert line["runs"] == 8


@pytest.mark.long
@pytest.mark.parametrize("distance", ["near", "far"])
@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_a_thousand_random_runs_in_one_job(size, distance):
    (line,) = job(size, 1000, 9000 + size, distance, body=BODY, bound=LONG_BOUND)
    assert line["runs"] == 1000
