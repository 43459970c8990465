"""When frames are due, who may take them, and where a series ends."""

import json
import time
from threading import Thread

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lima2_tango.core import series as module
from lima2_tango.core.acquisition import Acq
from lima2_tango.core.errors import AgreementError
from lima2_tango.core.series import Series
from lima2_tango.transport.topology import RoundRobin, full_random, predictive_random

SHORT = {"expo_time": 1, "latency_time": 0}


def make(rank=0, receivers=1, begin=None, **acq):
    return Series(Acq.parse(json.dumps({**SHORT, **acq})), RoundRobin(receivers), rank, begin)


def long_ago():
    return time.monotonic() - 1000


def take(series, local, count, patience=0.0):
    indices = series.topology.owned(series.rank, local, count)
    return indices[: len(series.claim(indices, patience))].tolist()


@pytest.mark.parametrize(("rank", "expected"), [(0, [0, 2, 4, 6]), (1, [1, 3, 5])])
def test_a_receiver_claims_its_own_frames_up_to_the_end(rank, expected):
    assert take(make(rank, 2, long_ago(), nb_frames=7), 0, 100) == expected


def test_nothing_is_claimed_beyond_the_end():
    assert take(make(begin=long_ago(), nb_frames=7), 7, 10) == []


def test_a_frame_is_due_when_its_exposure_is_over():
    series = make(nb_frames=2, expo_time=30_000, latency_time=20_000)
    take(series, 0, 1)
    assert time.monotonic() - series.begin >= 0.03
    take(series, 1, 1)
    assert time.monotonic() - series.begin >= 0.08


def test_slow_frames_are_claimed_one_by_one_and_a_backlog_at_once():
    assert take(make(nb_frames=9, expo_time=200_000), 0, 9, patience=1.0) == [0]
    assert take(make(nb_frames=9, expo_time=6000, begin=long_ago()), 0, 9) == list(range(9))


def test_fast_frames_are_gathered_for_a_bounded_time():
    series = make(nb_frames=0, expo_time=1000)
    claimed = take(series, 0, 1000, patience=0.02)
    assert 10 < len(claimed) < 1000


def test_times_are_those_of_the_exposures():
    begin = long_ago()
    series = make(begin=begin, nb_frames=3, expo_time=1000, latency_time=1000)
    times = series.claim(np.arange(3))
    assert np.allclose(np.diff(times), 2e-3, atol=1e-6)
    assert times[0] == pytest.approx(time.time() - (time.monotonic() - begin), abs=0.01)


@pytest.mark.parametrize(("nb_frames_per_trigger", "limits"), [(1, [1, 2, 3]), (3, [3, 6])])
def test_a_trigger_grants_the_frames_below_its_limit(nb_frames_per_trigger, limits):
    series = make(nb_frames=10, trigger_mode="software", nb_frames_per_trigger=nb_frames_per_trigger)
    taken = []
    for limit in limits:
        series.grant(limit)
        while len(taken) < limit:
            taken += take(series, len(taken), 10, patience=1.0)
        assert taken == list(range(limit))


def test_a_queued_trigger_exposes_after_the_earlier_ones():
    series = make(nb_frames=4, trigger_mode="software", expo_time=20_000)
    for limit in (1, 2, 3, 4):
        series.grant(limit)
    for local in range(4):
        assert take(series, local, 1) == [local]
    assert time.monotonic() - series.begin >= 0.08


def test_a_trigger_after_a_pause_exposes_at_once():
    series = make(nb_frames=2, trigger_mode="software")
    series.grant(1)
    first = series.claim(np.array([0]))
    time.sleep(0.02)
    series.grant(2)
    second = series.claim(np.array([1]))
    assert second[0] - first[0] >= 0.02


def test_a_gated_frame_is_due_when_it_is_granted():
    series = make(nb_frames=1, trigger_mode="gate", expo_time=10_000_000)
    series.grant(1)
    assert take(series, 0, 1) == [0]


def test_a_late_smaller_grant_changes_nothing():
    series = make(nb_frames=9, trigger_mode="software")
    series.grant(5)
    series.grant(3)
    series.cut(5)
    assert take(series, 0, 9) == [0, 1, 2, 3, 4]


def test_spaced_triggers_that_were_delivered_are_forgotten():
    series = make(nb_frames=0, trigger_mode="software")
    for count in range(100):
        time.sleep(1e-5)
        series.grant(count + 1)
        assert take(series, count, 1) == [count]
    assert len(series._grants) <= 2


@pytest.mark.parametrize("mode", ["internal", "software"])
def test_a_cut_releases_a_receiver_that_waits(mode):
    series = make(nb_frames=0, trigger_mode=mode, expo_time=1_000_000)
    taken = []
    thread = Thread(target=lambda: taken.append(take(series, 0, 1)))
    thread.start()
    series.hold()
    series.cut(0)
    thread.join(5)
    assert taken == [[]]


def test_after_a_cut_nothing_waits_for_its_due_time():
    series = make(nb_frames=0, expo_time=1_000_000)
    series.cut(3)
    assert take(series, 0, 9) == [0, 1, 2]
    assert series.end == 3


def test_a_hold_without_a_cut_is_an_error_that_says_so(monkeypatch):
    monkeypatch.setattr(module, "HOLD_LIMIT", 0.01)
    series = make(begin=long_ago(), nb_frames=0)
    series.hold()
    with pytest.raises(AgreementError, match="did not agree"):
        take(series, 0, 1)


def test_a_series_that_is_over_does_not_wait_for_a_cut():
    series = make(begin=long_ago(), nb_frames=1)
    assert take(series, 0, 5) == [0]
    series.hold()
    assert take(series, 1, 5) == []


@given(
    st.sampled_from([RoundRobin(3), predictive_random(3), full_random(3, 7)]),
    st.lists(st.integers(0, 12), min_size=3, max_size=3),
)
def test_wherever_receivers_are_held_they_end_on_a_contiguous_prefix(topology, progress):
    acq = Acq(**SHORT, nb_frames=0)
    ranks = [Series(acq, topology, rank, long_ago()) for rank in range(3)]
    taken = [take(one, 0, count) if count else [] for one, count in zip(ranks, progress, strict=True)]
    cut = max(one.hold() for one in ranks)
    for one, mine in zip(ranks, taken, strict=True):
        one.cut(cut)
        while more := take(one, len(mine), 5):
            mine += more
    assert sorted(sum(taken, [])) == list(range(cut))
