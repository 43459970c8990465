"""Chains and trees of streams: everything that goes in at the leaves comes out at the root, combined on its way."""

import threading
from dataclasses import replace

import numpy as np
import pytest

from lima2_tango.transport.arrangements import above, linear, relay, tree
from lima2_tango.transport.fabric import LocalFabric, LocalJob
from lima2_tango.transport.stream import Consumer, Producer, StreamSpec

SPEC = StreamSpec("sums", (0,), (0,), element_bytes=8, records=np.dtype(np.int64), silence=20)
ELEMENTS = 5


@pytest.mark.parametrize("size", [1, 2, 3, 7, 12])
@pytest.mark.parametrize("arity", [1, 2, 3])
def test_every_rank_but_the_root_sends_into_one_stream(size, arity):
    ranks = list(range(size))[::-1]
    streams = tree(ranks, arity, SPEC)
    assert above(streams, ranks[0]) is None
    below = [rank for spec in streams.values() for rank in spec.producers]
    assert sorted(below) == sorted(ranks[1:])
    assert all(len(spec.producers) <= arity and spec.consumers == (rank,) for rank, spec in streams.items())
    assert len({spec.name for spec in streams.values()}) == len(streams)


def test_a_chain_has_one_below_each():
    assert {rank: spec.producers for rank, spec in linear([4, 2, 9], SPEC).items()} == {4: (2,), 2: (9,)}


def test_a_tree_needs_branches():
    with pytest.raises(ValueError, match="not 0"):
        tree([0, 1], 0, SPEC)


@pytest.mark.parametrize("arity", [1, 2, 3])
def test_values_are_combined_on_their_way_to_the_root(arity):
    """Every rank sends its own elements up; inner ranks add one to all that pass, so a value tells its depth."""
    size = 6
    job = LocalJob(size)
    streams = tree(range(size), arity, SPEC)
    arrived = []

    def play(rank):
        fabric, up = LocalFabric(rank, job), above(streams, rank)
        consumer = Consumer(fabric, streams[rank]) if rank in streams else None
        if up is None:
            consumer.operate(lambda element: arrived.append(int(element.data[0])))
        else:
            with Producer(fabric, up) as producer:
                for _ in range(ELEMENTS):
                    producer.send_array(np.array([1]))
                if consumer is not None:
                    relay(consumer, producer, lambda element: element.data + 1)
        if consumer is not None:
            consumer.close()

    threads = [threading.Thread(target=play, args=[rank]) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    depths = []
    for rank in range(1, size):
        depth, place = 0, rank
        while place:
            depth, place = depth + 1, (place - 1) // arity
        depths += [depth] * ELEMENTS
    assert sorted(arrived) == sorted(depths)


def test_what_an_operator_does_not_pass_on_ends_there():
    job, spec = LocalJob(2), replace(SPEC, name="odd", consumers=(1,))
    on = replace(SPEC, name="even", producers=(1,), consumers=(0,))
    ends = [LocalFabric(rank, job) for rank in range(2)]
    first, last = Producer(ends[0], spec), Consumer(ends[0], on)
    for value in range(4):
        first.send_array(np.array([value]))
    first.close()
    with Consumer(ends[1], spec) as consumer, Producer(ends[1], on) as producer:
        passed = relay(consumer, producer, lambda element: element.data if element.data[0] % 2 else None)
    assert passed == 4
    values = []
    last.operate(lambda element: values.append(int(element.data[0])))
    last.close()
    assert values == [1, 3]
