"""Receivers that pull from one stream: nobody knows before who gets which frame, so the coordinator counts."""

from collections.abc import Iterator

import numpy as np
import pytest
from test_agreement import RUN, Job, job, series_of

from lima2_tango.core.acquisition import TriggerMode
from lima2_tango.core.series import Series

TAG = (7, "01HBV3")
EXPECTED = 10


@pytest.fixture
def pulling() -> Iterator[Job]:
    with job(2) as made:
        coordinator = made.coordinator
        made.start = lambda: coordinator.start(RUN, made._is_over, tag=TAG, expected=EXPECTED)
        for participant in made.participants:
            participant.prepared(RUN)
        yield made


def series_of_all(j: Job) -> list[Series]:
    """Without triggers nothing ever is due: a wait for a frame ends with the series."""
    acq = {"nb_frames": 0, "trigger_mode": TriggerMode.SOFTWARE}
    return [series_of(one, rank, 2, **acq) for rank, one in enumerate(j.participants)]


def finish(j: Job, counts: list[int]) -> None:
    for participant, count in zip(j.participants, counts, strict=True):
        participant.done(RUN, count, "")
    assert j.over.wait(5)


def test_each_hears_which_series_is_the_runs(pulling: Job) -> None:
    assert [tuple(go.tag) for go in pulling.agree_all()] == [TAG, TAG]


def test_the_run_ends_when_all_together_have_every_frame(pulling: Job) -> None:
    pulling.agree_all()
    series = series_of_all(pulling)
    pulling.participants[0].progress(RUN, 7)
    assert not series[0].is_cut
    pulling.participants[1].progress(RUN, 3)
    assert not any(one.wait_for(EXPECTED) for one in series)
    assert [one.end for one in series] == [EXPECTED, EXPECTED]
    finish(pulling, [7, 3])
    assert pulling.errors == []
    assert pulling.coordinator.nb_missing == 0


def test_a_detector_that_is_done_before_ends_all_and_what_is_missing_is_counted(pulling: Job) -> None:
    pulling.agree_all()
    series = series_of_all(pulling)
    for one, last in zip(series, (5, 8), strict=True):
        assert one.arrived(np.arange(last)) == last
    for participant, count in zip(pulling.participants, (5, 3), strict=True):
        participant.progress(RUN, count)
    pulling.participants[1].exhausted(RUN)
    assert not any(one.wait_for(8) for one in series)
    assert [one.end for one in series] == [8, 8]
    finish(pulling, [5, 3])
    assert pulling.coordinator.nb_missing == 2
