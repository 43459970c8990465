"""A ring of records: in order, whole, never over what somebody still reads."""

import threading
import time
from collections import deque

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lima2_tango.core.errors import WireError
from lima2_tango.transport.arena import PAGE, Arena
from lima2_tango.transport.ring import CONTROL_BYTES, RingReader, RingWriter, ring_bytes

LARGEST = 300


def no_fence():
    pass


def made(records=2, largest=LARGEST):
    memory = np.full(ring_bytes(largest, records), 0xA5, np.uint8)
    writer = RingWriter(memory, no_fence, 42)
    return memory, writer, RingReader(memory, no_fence, 42)


def put(writer, number, size):
    room = writer.reserve(size)
    if room is None:
        return False
    room[:] = number % 256
    writer.commit()
    return True


@settings(max_examples=200)
@given(
    records=st.integers(1, 5),
    steps=st.lists(st.tuples(st.sampled_from(["put", "take", "give"]), st.integers(0, LARGEST)), max_size=120),
)
def test_records_come_once_in_order_and_stay_until_given_back(records, steps):
    _, writer, reader = made(records)
    waiting, lent, sent, came = deque(), [], 0, 0
    for what, number in steps:
        if what == "put" and put(writer, sent, number):
            waiting.append((sent, number))
            sent += 1
        elif what == "take":
            taken = reader.take()
            assert (taken is None) == (not waiting)
            if taken is not None:
                expected, size = waiting.popleft()
                assert expected == came
                assert len(taken[1]) == size
                came += 1
                lent.append((*taken, expected))
        elif what == "give" and lent:
            ticket, _, _ = lent.pop(number % len(lent))  # in any order
            reader.give_back(ticket)
        assert all((record == expected % 256).all() for _, record, expected in lent)
        assert len(lent) + len(waiting) <= writer.in_flight <= sent


@given(st.lists(st.integers(0, LARGEST), min_size=1, max_size=60), st.integers(1, 3))
def test_a_record_always_fits_an_empty_ring_wherever_the_last_ended(sizes, records):
    _, writer, reader = made(records)
    for number, size in enumerate(sizes):
        assert put(writer, number, size)
        ticket, record = reader.take()
        assert len(record) == size
        reader.give_back(ticket)
        assert writer.in_flight == 0


def test_a_full_ring_takes_nothing_until_the_oldest_is_given_back():
    _, writer, reader = made(2)
    assert put(writer, 0, LARGEST)
    assert put(writer, 1, LARGEST)
    assert not put(writer, 2, LARGEST)
    first, second = reader.take(), reader.take()
    reader.give_back(second[0])
    assert not put(writer, 2, LARGEST)
    reader.give_back(first[0])
    assert put(writer, 2, LARGEST)


def test_two_threads_lose_nothing():
    _, writer, reader = made(4, 2000)
    count, rng = 3000, np.random.default_rng(1)
    sizes = rng.integers(0, 2000, count)

    def write():
        for number, size in enumerate(sizes.tolist()):
            while not put(writer, number, size):
                time.sleep(0)  # lets the other thread run

    thread = threading.Thread(target=write)
    thread.start()
    for number, size in enumerate(sizes.tolist()):
        while (taken := reader.take()) is None:
            time.sleep(0)
        assert len(taken[1]) == size
        assert (taken[1] == number % 256).all()
        reader.give_back(taken[0])
    thread.join(10)


def test_signs_of_life_and_reasons_cross():
    _, writer, reader = made()
    assert writer.attached
    heard = writer.heard
    reader.beat()
    assert writer.heard != heard
    heard = reader.heard
    writer.beat()
    assert reader.heard != heard
    assert writer.aborted is None
    reader.abort("the disk is full: é")
    assert writer.aborted == "the disk is full: é"


def test_memory_is_done_with_the_last_record():
    _, writer, reader = made()
    put(writer, 0, 10)
    ticket, _ = reader.take()
    reader.finish()
    assert not writer.done
    reader.give_back(ticket)
    assert writer.done


def test_a_ring_of_somebody_else_is_refused():
    memory, _, _ = made()
    with pytest.raises(WireError, match="its writer has left"):
        RingReader(memory, no_fence, 43)


@pytest.mark.parametrize("word", [0, CONTROL_BYTES // 8])
@pytest.mark.parametrize("value", [-2, 2**62, 1])
def test_counters_that_make_no_sense_are_refused(word, value):
    memory, writer, reader = made()
    put(writer, 0, 100)
    words = memory.view(np.int64)
    if word:
        value = 2**40 if value == 1 else value
    words[word] = value
    with pytest.raises(WireError, match="overrun|damaged"):
        reader.take()


class TestArena:
    def test_claims_do_not_overlap_and_free_places_are_used_again(self):
        arena = Arena(np.ones(10 * PAGE, np.uint8))
        over = [False]
        first, second = arena.claim(PAGE + 1), arena.claim(3 * PAGE)
        assert (first, second) == (0, 2 * PAGE)
        arena.give_back(first, lambda: over[0])
        assert arena.claim(PAGE) == 5 * PAGE
        over[0] = True
        assert arena.claimed == 4 * PAGE
        assert arena.claim(2 * PAGE) == 0

    def test_what_does_not_fit_is_refused(self):
        arena = Arena(np.ones(4 * PAGE, np.uint8))
        assert arena.claim(5 * PAGE) is None
        assert arena.claim(4 * PAGE) == 0
        assert arena.claim(1) is None

    def test_nothing_is_touched_that_the_system_cannot_give(self):
        room = [2 * PAGE]
        arena = Arena(np.ones(4 * PAGE, np.uint8), lambda: room[0])
        assert arena.claim(3 * PAGE) is None
        assert arena.claim(2 * PAGE) == 0
        arena.give_back(0, lambda: True)
        room[0] = 0
        assert arena.claim(2 * PAGE) == 0  # it was touched before
