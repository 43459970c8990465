"""A rank that is frozen in mid-run is named, in every topology; the others end, and the next run is whole."""

from pathlib import Path

import pytest
from test_streams_in_jobs import job

BODY = Path(__file__).with_name("frozen_body.py")
WHO = {"receiver": ["receiver 1"], "control": ["MPI rank 0", "from producers [0]"]}
"""What names it; a stream says it with MPI ranks."""
TOPOLOGIES = ["full frames", "scattered", "scattered by a receiver", "assembled"]


@pytest.fixture(scope="module", params=["near", "far"])
def distance(request):
    return request.param


@pytest.fixture(scope="module", params=list(WHO))
def frozen(request, distance):
    """Who is frozen, and what is said of it in each topology."""
    lines = job(4, distance, request.param, body=BODY)
    return request.param, {line["topology"]: line for line in lines}


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_it_is_named_nobody_waits_for_it_and_the_next_run_is_whole(frozen, topology):
    who, lines = frozen
    line = lines[topology]
    naming = [text for text in line["said"] if "no sign of life" in text]
    assert naming, line["said"]
    assert any(name in text for text in naming for name in WHO[who]), naming
    assert line["next"] == list(range(40))


@pytest.mark.parametrize("topology", ["full frames", "scattered"])
def test_the_other_receivers_end_at_one_common_frame(frozen, topology):
    who, lines = frozen
    frames = dict(zip((0, 2), lines[topology]["frames"][1:], strict=True)) if who == "receiver" else {}
    end = max((1 + max(indices) for indices in frames.values()), default=0)
    for receiver, indices in frames.items():
        assert indices == list(range(receiver, end, 3))
