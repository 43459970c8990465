"""A rank that is silent is named, and nobody waits for it; one that is slow, or was away itself, is not."""

from types import SimpleNamespace

import numpy as np
import pytest
from test_agreement import RUN, job, series_of, until

from lima2_tango.core.acquisition import Acq
from lima2_tango.core.frame import Block, FrameSpec, Lease
from lima2_tango.core.modules import whole
from lima2_tango.core.series import Series
from lima2_tango.transport import pulse
from lima2_tango.transport.pulse import Pulse
from lima2_tango.transport.scatter import Dealer, in_turn
from lima2_tango.transport.topology import RoundRobin

SILENCE = 0.4


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(pulse, "SILENCE", SILENCE)
    monkeypatch.setattr(pulse, "BEAT", 0.05)


@pytest.fixture
def clock(monkeypatch):
    """Seconds that a test sets."""
    now = [100.0]
    monkeypatch.setattr(pulse, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def begin(j, **acq):
    """A run of all participants; their series."""
    for participant in j.participants:
        participant.prepared(RUN)
    j.agree_all()
    return [series_of(p, rank, len(j.participants), **acq) for rank, p in enumerate(j.participants)]


def deliver(series, rank, receivers):
    """All frames of this receiver until the series ends; how many."""
    count = 0
    while series.wait_for(rank + count * receivers):
        count += 1
    return count


def test_who_says_nothing_is_silent_and_who_says_something_is_not(clock):
    seen = Pulse()
    seen.begin([1, 2])
    for _ in range(6):
        clock[0] += SILENCE / 4
        seen.heard(2)
        seen.heard(3)  # nobody listens for it
        last = seen.silent()
    assert last == [1]


def test_who_was_away_blames_nobody(clock):
    seen = Pulse()
    seen.begin([1])
    clock[0] += 60
    assert seen.silent() == []


def test_a_beat_is_due_once_in_its_time(clock):
    seen = Pulse()
    assert [seen.due(), seen.due()] == [True, False]
    clock[0] += 2 * pulse.BEAT
    assert [seen.due(), seen.due()] == [True, False]


@pytest.mark.parametrize("nb_frames", [0, 100], ids=["endless", "finite"])
def test_a_silent_receiver_is_named_and_the_others_end_at_one_frame(nb_frames):
    with job(3) as j:
        series = begin(j, nb_frames=nb_frames)
        assert series[2].wait_for(2)
        j.channels[2].close()
        told = [deliver(series[rank], rank, 3) for rank in (0, 2)]
        for rank, count in zip((0, 2), told, strict=True):
            j.participants[rank].done(RUN, count, "")
        assert j.over.wait(20)
        assert ["receiver 1 has given no sign of life for" in error for error in j.errors] == [True]
        until(lambda: series[2].lost)
        assert series[2].lost == {1: j.errors[0]}
        cut = series[0].end
        assert series[2].end == cut
        assert told == [len(range(rank, cut, 3)) for rank in (0, 2)]


def test_what_was_found_wrong_with_a_rank_stays_when_it_comes_back():
    with job(2) as j:
        series = begin(j, nb_frames=0)
        j.channels[2].close()
        deliver(series[0], 0, 2)
        # What the lost one says at last, before the other is done.
        j.participants[1]._channel = j.channels[1]
        j.participants[1].done(RUN, 0, "")
        j.participants[0].done(RUN, 1, "")
        assert j.over.wait(20)
        assert "receiver 1 has given no sign of life" in j.errors[0]


def test_a_receiver_that_is_slow_is_waited_for():
    with job(2) as j:
        begin(j, nb_frames=10)
        assert not j.over.wait(4 * SILENCE)
        for participant in j.participants:
            participant.done(RUN, 5, "")
        assert j.over.wait(5)
        assert j.errors == []


def test_a_receiver_whose_control_is_silent_ends_where_it_is():
    with job(2) as j:
        series = begin(j, nb_frames=0)
        assert series[0].wait_for(0)
        j.channels[0].close()
        told = [deliver(one, rank, 2) for rank, one in enumerate(series)]
        assert min(told) >= 0
        for one in series:
            assert one.left
            assert "MPI rank 0, which brings the others to agreement, has given no sign of life" in one.orphaned


class Full:
    """A receiver without room."""

    load = 0

    def put(self, batch, which):
        return 0

    def end(self, error=""):
        """Nobody listens."""


def test_frames_for_a_receiver_that_is_lost_go_nowhere():
    spec = FrameSpec(1, 2, 3, np.dtype("u2"))
    series = Series(Acq(), RoundRobin(1), 0)
    dealer = Dealer([Full()], in_turn(1), whole(spec), 0, series)
    series.lose(0, "receiver 0 is silent")
    dealer.hand_over(Block(np.zeros((1, 1, 2, 3), "u2"), np.zeros(1, np.int64), 0, np.zeros(1), Lease()))
    assert dealer.frames == 1
