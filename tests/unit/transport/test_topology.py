import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lima2_tango.core.acquisition import Dispatch
from lima2_tango.transport.topology import full_random, make_topology, predictive_random


@pytest.mark.parametrize("dispatch", [each for each in Dispatch if each is not Dispatch.LEAST_LOADED])
@given(receivers=st.integers(1, 5), seed=st.integers(0, 2**32 - 1))
def test_every_frame_has_one_owner_and_owned_lists_them_in_order(dispatch, receivers, seed):
    topology = make_topology(dispatch, receivers, seed)
    owners = [topology.owner(i) for i in range(200)]
    for rank in range(receivers):
        mine = [i for i in range(200) if owners[i] == rank]
        assert topology.owned(rank, 0, len(mine)).tolist() == mine


@given(receivers=st.integers(1, 5), local=st.integers(0, 1000), count=st.integers(0, 50))
def test_owned_may_be_asked_in_pieces(receivers, local, count):
    topology = predictive_random(receivers)
    whole = topology.owned(0, 0, local + count)
    assert topology.owned(0, local, count).tolist() == whole[local:].tolist()


def test_predictive_random_deals_all_pairs_of_receivers_in_turn():
    assert [predictive_random(2).owner(i) for i in range(10)] == [0, 0, 0, 1, 1, 0, 1, 1, 0, 0]


def test_round_robin_deals_frame_i_to_receiver_i_modulo_n():
    assert [make_topology(Dispatch.ROUND_ROBIN, 3, 0).owner(i) for i in range(5)] == [0, 1, 2, 0, 1]


def test_full_random_is_the_same_on_all_ranks_and_fair():
    first, second = full_random(2, 7), full_random(2, 7)
    owners = [first.owner(i) for i in range(4096)]
    assert owners == [second.owner(i) for i in range(4096)]
    assert 0.45 < np.mean(owners) < 0.55
