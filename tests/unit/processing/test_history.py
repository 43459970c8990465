"""The newest frames of a stream can be read by number until their memory is needed."""

import threading

import numpy as np
import pytest

from lima2_tango.core.errors import NotAvailableError
from lima2_tango.core.frame import FrameSpec
from lima2_tango.core.pool import Pool
from lima2_tango.processing.history import History
from lima2_tango.testing.pipelines import image, make_blocks

SPEC = FrameSpec(1, 4, 8, np.dtype("u2"))


@pytest.fixture
def pool():
    return Pool(1 << 20)


def fill(history, pool, indices, per_block=2):
    for block in make_blocks(pool, SPEC, indices, per_block):
        history.add(block)
        block.lease.release()


def read(history, index):
    with history.frame(index) as (number, data):
        return number, data.copy()


def test_frame_is_found_by_its_global_index(pool):
    history = History("input", 100)
    fill(history, pool, range(1, 21, 2))
    for index in range(1, 21, 2):
        number, data = read(history, index)
        assert number == index
        np.testing.assert_array_equal(data, image(SPEC, index))


def test_minus_one_is_the_newest(pool):
    history = History("input", 100)
    fill(history, pool, range(5))
    assert (read(history, -1)[0], history.last) == (4, 4)


@pytest.mark.parametrize(("limit", "oldest"), [(1, 8), (2, 8), (3, 6), (4, 6), (10, 0), (1000, 0)])
def test_at_least_the_limit_is_kept_and_less_than_a_block_more(pool, limit, oldest):
    history = History("input", limit)
    fill(history, pool, range(10))
    assert read(history, oldest)[0] == oldest
    if oldest:
        with pytest.raises(NotAvailableError, match=f"holds {10 - oldest} frames, number {oldest} to 9"):
            read(history, oldest - 1)


@pytest.mark.parametrize("index", [-2, 5, 99])
def test_frame_that_is_not_there_is_refused(pool, index):
    history = History("processed", 100)
    fill(history, pool, range(5))
    with pytest.raises(NotAvailableError, match=f"processed frame {index} is not held"):
        read(history, index)


def test_empty_history_says_so():
    with pytest.raises(NotAvailableError, match="no input frame is held"):
        read(History("input", 10), -1)


def test_eviction_gives_the_oldest_back_and_keeps_the_newest(pool):
    history = History("input", 100)
    fill(history, pool, range(6))
    assert [history.evict() for _ in range(4)] == [True, True, False, False]
    assert pool.lent == 2 * SPEC.nbytes
    assert read(history, -1)[0] == 5


def test_history_of_a_run_that_is_over_gives_up_everything(pool):
    history = History("input", 100)
    fill(history, pool, range(4))
    history.keep_newest = False
    assert [history.evict() for _ in range(3)] == [True, True, False]
    assert (pool.lent, history.last) == (0, 3)


def test_frame_that_is_being_read_outlives_its_eviction(pool):
    history = History("input", 100)
    fill(history, pool, range(4))
    with history.frame(0) as (_, data):
        history.clear()
        assert pool.lent == 2 * SPEC.nbytes
        np.testing.assert_array_equal(data, image(SPEC, 0))
    assert pool.lent == 0


def test_memory_of_readers_goes_to_who_needs_it():
    pool = Pool(8 * SPEC.nbytes)
    history = History("input", 100)
    pool.add_evictor(history.evict)
    fill(history, pool, range(40), per_block=1)
    assert pool.allocated <= pool.budget
    assert read(history, -1)[0] == 39
    history.clear()
    assert pool.lent == 0


def test_taker_that_waits_gets_the_memory_of_frames_that_become_readers():
    """Nothing is released when a block in flight becomes a reader's, and yet its memory can be had."""
    pool = Pool(4 * SPEC.nbytes)
    history = History("input", 100)
    pool.add_evictor(history.evict)
    blocks = list(make_blocks(pool, SPEC, range(4), per_block=1))
    taken = []
    taker = threading.Thread(target=lambda: taken.append(pool.take(SPEC.nbytes, timeout=10)))
    taker.start()
    while pool.waits == 0:
        taker.join(1e-3)
    for block in blocks:
        history.add(block)
        block.lease.release()
    taker.join(10)
    assert len(taken) == 1
    taken[0].release()
    history.clear()
    assert pool.lent == 0
