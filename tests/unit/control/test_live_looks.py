"""What people look at is made only where they look, and takes nothing from others."""

import threading

import numpy as np
import pytest

from lima2_tango.control.live import OnDemand, regions_of
from lima2_tango.processing.rows import RECENT, ROI, RowQueue


def rows(frames, regions=2, recv=0):
    made = np.zeros(len(frames) * regions, ROI)
    made["frame_idx"] = np.repeat(frames, regions)
    made["recv_idx"] = recv
    made["sum"] = made["frame_idx"] * 10 + np.tile(np.arange(regions), len(frames))
    return made


def test_nothing_is_fetched_before_somebody_reads():
    asked = OnDemand(lambda: 7)
    assert asked.fetches == 0
    assert [asked.get(5.0), asked.get(5.0)] == [7, 7]
    assert asked.fetches == 2


def test_a_slow_fetch_holds_up_the_first_reader_only_and_is_not_repeated():
    go, answers = threading.Event(), iter([1, 2])

    def fetch():
        answer = next(answers)
        assert answer == 1 or go.wait(10.0)
        return answer

    asked = OnDemand(fetch)
    assert asked.get(5.0) == 1
    assert [asked.get(0.01), asked.get(5.0), asked.get(5.0)] == [1, 1, 1], "what was known before"
    assert asked.fetches == 2
    under_way = asked._under_way
    go.set()
    assert under_way.result(5.0) == 2


def test_who_reads_is_told_what_went_wrong_and_the_next_one_asks_again():
    answers = iter([ValueError("away"), 3])

    def fetch():
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    asked = OnDemand(fetch)
    with pytest.raises(ValueError, match="away"):
        asked.get(5.0)
    assert asked.get(5.0) == 3


def test_looking_at_rows_takes_none_from_who_pops():
    queue = RowQueue("popRoiStatistics")
    assert queue.recent() == b""
    queue.append(rows([0, 1]))
    queue.append(rows([2]))
    seen = queue.recent()
    assert seen == queue.recent() == queue.pop()
    assert (queue.pop(), queue.recent()) == (b"", seen)


def test_rows_that_are_kept_to_look_at_are_bounded_and_not_copied():
    queue = RowQueue("popRoiStatistics")
    per_chunk = RECENT // ROI.itemsize // 4
    for number in range(20):
        queue.append(rows([number], per_chunk))
        assert queue._recent[-1] is queue._chunks[-1]
    assert len(queue.recent()) == RECENT
    assert set(np.frombuffer(queue.recent(), ROI)["frame_idx"]) == {16, 17, 18, 19}


def test_regions_of_several_receivers_come_in_order_of_frames():
    found = regions_of([rows([0, 2]).tobytes(), rows([1, 3], recv=1).tobytes()])
    assert found.frames.tolist() == [0, 1, 2, 3]
    assert found.newest("sum").tolist() == [30, 31]
    assert found.history("sum", 1).tolist() == [1, 11, 21, 31]
    assert found.history("sum", 2).tolist() == []


def test_a_frame_whose_rows_are_not_all_there_is_left_out():
    found = regions_of([rows([0, 1]).tobytes(), rows([2], regions=1).tobytes()])
    assert found.frames.tolist() == [0, 1]


def test_without_rows_there_is_nothing():
    found = regions_of([])
    assert (len(found.frames), found.newest("sum").tolist(), found.history("sum", 0).tolist()) == (0, [], [])
