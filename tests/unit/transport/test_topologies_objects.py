"""Topologies answer who has a frame, where it is there, and who acquires its parts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lima2_tango.core.acquisition import Dispatch, Sharing
from lima2_tango.core.errors import NotAvailableError, ParamError
from lima2_tango.transport.topology import LeastLoaded, check_topology, make_topology

DECLARED = [
    (Sharing.FULL_FRAMES, Dispatch.ROUND_ROBIN),
    (Sharing.FULL_FRAMES, Dispatch.PREDICTIVE_RANDOM),
    (Sharing.FULL_FRAMES, Dispatch.FULL_RANDOM),
    (Sharing.DISTRIBUTED_PROCESSING, Dispatch.ROUND_ROBIN),
    (Sharing.DISTRIBUTED_PROCESSING, Dispatch.FULL_RANDOM),
    (Sharing.PARTIAL_FRAMES, Dispatch.ROUND_ROBIN),
]


@pytest.mark.parametrize(("sharing", "dispatch"), DECLARED)
@given(receivers=st.integers(1, 5), seed=st.integers(0, 2**32 - 1))
def test_owner_owned_and_locate_agree(sharing, dispatch, receivers, seed):
    topology = make_topology(dispatch, receivers, seed, sharing)
    assert topology.receivers == receivers
    owners = topology.deal(np.arange(150), [0] * receivers)
    seen = [0] * receivers
    for index in range(150):
        rank, local = topology.locate(index)
        assert rank == topology.owner(index) == owners[index]
        assert local == seen[rank]
        assert topology.owned(rank, local, 1).tolist() == [index]
        seen[rank] += 1


@pytest.mark.parametrize("receivers", [1, 2, 5])
def test_who_acquires_a_frame(receivers):
    def parts(sharing):
        return make_topology(Dispatch.ROUND_ROBIN, receivers, 0, sharing).parts(7)

    assert parts(Sharing.FULL_FRAMES) == (7 % receivers,)
    assert parts(Sharing.DISTRIBUTED_PROCESSING) == ()
    assert parts(Sharing.PARTIAL_FRAMES) == parts(Sharing.KEPT_PARTIAL_FRAMES) == tuple(range(receivers))


@pytest.mark.parametrize("sharing", [Sharing.PARTIAL_FRAMES, Sharing.KEPT_PARTIAL_FRAMES])
def test_a_camera_with_parts_delivers_one_of_every_frame(sharing):
    acquired = make_topology(Dispatch.ROUND_ROBIN, 3, 0, sharing).acquired(2)
    assert acquired.receivers == 3
    assert acquired.owned(2, 4, 3).tolist() == [4, 5, 6]


@given(st.lists(st.tuples(st.integers(1, 30), st.lists(st.integers(0, 3), min_size=3, max_size=3)), max_size=30))
def test_the_least_loaded_gets_the_next_frames_and_all_are_found_again(deals):
    topology, end, mine = LeastLoaded(3), 0, [[], [], []]
    for count, loads in deals:
        index = np.arange(end, end + count)
        owners = topology.deal(index, loads)
        assert len(set(owners.tolist())) == 1
        assert loads[owners[0]] == min(loads)
        mine[owners[0]].extend(index.tolist())
        end += count
    for rank in range(3):
        assert topology.owned(rank, 0, len(mine[rank])).tolist() == mine[rank]
        for local, index in enumerate(mine[rank]):
            assert topology.locate(index) == (rank, local)
    with pytest.raises(NotAvailableError, match=f"frame {end} was not given"):
        topology.owner(end)


def test_receivers_that_are_equally_loaded_take_turns():
    topology = LeastLoaded(2)
    assert [int(topology.deal(np.array([i]), [0, 0])[0]) for i in range(4)] == [0, 1, 0, 1]


DEALT = {
    Sharing.FULL_FRAMES: set(Dispatch) - {Dispatch.LEAST_LOADED},
    Sharing.DISTRIBUTED_PROCESSING: set(Dispatch),
    Sharing.PARTIAL_FRAMES: {Dispatch.ROUND_ROBIN},
    Sharing.KEPT_PARTIAL_FRAMES: {Dispatch.ROUND_ROBIN},
}


@pytest.mark.parametrize("sharing", list(Sharing))
@pytest.mark.parametrize("dispatch", list(Dispatch))
def test_ways_to_deal_frames_that_there_are_not_are_refused(sharing, dispatch):
    if dispatch in DEALT[sharing]:
        check_topology(sharing, dispatch)
        assert make_topology(dispatch, 2, 0, sharing).receivers == 2
        return
    with pytest.raises(ParamError, match=f"topology {sharing}") as refused:
        check_topology(sharing, dispatch)
    assert refused.value.path == "$.det.dispatch_mode"
