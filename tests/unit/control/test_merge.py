"""Rows of several receivers come out in the order of their frames, whole frames only, none lost."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lima2_tango.control.merge import RowMerge
from lima2_tango.processing.rows import ROI
from lima2_tango.transport.topology import full_random


def rows(frames, per_frame=2):
    made = np.zeros(len(frames) * per_frame, ROI)
    made["frame_idx"] = np.repeat(np.asarray(frames, int), per_frame)
    made["sum"] = np.arange(len(made)) % per_frame
    return made.tobytes()


def taken(merge, *new):
    for rank, each in enumerate(new):
        merge.add(rank, each)
    return np.frombuffer(merge.take(), ROI)


def test_a_frame_waits_for_those_before_it():
    merge = RowMerge(2)
    assert taken(merge, rows([]), rows([1, 3]))["frame_idx"].tolist() == []
    assert taken(merge, rows([0]), rows([]))["frame_idx"].tolist() == [0, 0, 1, 1]
    assert taken(merge, rows([2, 4]), rows([]))["frame_idx"].tolist() == [2, 2, 3, 3, 4, 4]


@given(seed=st.integers(0, 99), receivers=st.integers(1, 4), cuts=st.lists(st.integers(1, 9), min_size=1))
def test_every_row_comes_once_and_in_order(seed, receivers, cuts):
    topology = full_random(receivers, seed)
    merge, out, ends = RowMerge(receivers), [], [0] * receivers
    for turn, cut in enumerate(cuts):
        new = [b""] * receivers
        rank = turn % receivers
        new[rank] = rows(topology.owned(rank, ends[rank], cut))
        ends[rank] += cut
        out.append(taken(merge, *new))
    delivered = np.concatenate(out)
    known = np.sort(np.concatenate([topology.owned(rank, 0, end) for rank, end in enumerate(ends)]))
    whole = int(np.count_nonzero(known == np.arange(len(known))))
    assert delivered["frame_idx"].tolist() == np.repeat(np.arange(whole), 2).tolist()
    assert delivered["sum"].tolist() == [0, 1] * whole


def test_a_receiver_that_is_ahead_is_not_asked_while_its_rows_wait():
    merge = RowMerge(2, budget=2 * 4 * ROI.itemsize)
    taken(merge, rows([]), rows([1, 3]))
    assert (merge.wants(0), merge.wants(1)) == (True, False)
    taken(merge, rows([0, 2]), rows([]))
    assert merge.wants(1)


@pytest.mark.parametrize("receivers", [1, 3])
def test_nothing_in_nothing_out(receivers):
    merge = RowMerge(receivers)
    assert len(taken(merge, *[b""] * receivers)) == 0
    assert merge.skip_gap() is None


def test_what_waits_for_frames_that_never_come_is_handed_out_once_they_are_given_up():
    merge = RowMerge(2)
    assert taken(merge, rows([0, 4]), rows([5]))["frame_idx"].tolist() == [0, 0]
    assert merge.skip_gap() == (1, 3)
    assert taken(merge)["frame_idx"].tolist() == [4, 4, 5, 5]
    assert merge.skip_gap() is None
