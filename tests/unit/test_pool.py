"""Frame memory: bounded, reused, and never given up while somebody holds it."""

import time
from threading import Thread

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lima2_tango.core.errors import MemoryBudgetError
from lima2_tango.core.pool import MIN_SLABS, Pool

SLAB = 1 << 16


def test_a_slab_that_was_given_back_is_lent_again():
    pool = Pool(8 * SLAB)
    first = pool.take(SLAB)
    address = first.buffer.ctypes.data
    first.release()
    assert pool.take(SLAB).buffer.ctypes.data == address
    assert pool.allocated == SLAB


def test_reserve_makes_as_many_as_fit():
    pool = Pool(6 * SLAB)
    assert pool.reserve(SLAB, 4) == 4
    assert pool.reserve(SLAB, 100) == 6
    assert pool.allocated == 6 * SLAB


def test_reserve_refuses_where_fewer_than_four_fit():
    with pytest.raises(MemoryBudgetError, match="memory_budget"):
        Pool(MIN_SLABS * SLAB - 1).reserve(SLAB, 1)


def test_what_is_pinned_leaves_less_to_reserve():
    pool = Pool(6 * SLAB)
    lease = pool.pin(3 * SLAB, "images")
    with pytest.raises(MemoryBudgetError, match="cameras keep"):
        pool.reserve(SLAB, 1)
    lease.release()
    assert pool.reserve(SLAB, 6) == 6


def test_pinning_more_than_the_budget_names_what_and_how_much():
    with pytest.raises(MemoryBudgetError, match=r"16 images of 131\.1 kB .* 65\.54 kB"):
        Pool(SLAB).pin(2 * SLAB, "16 images")


def test_free_slabs_of_other_sizes_make_room():
    pool = Pool(4 * SLAB)
    pool.reserve(SLAB, 4)
    pool.reserve(SLAB // 2, 8)
    assert pool.allocated == 4 * SLAB
    pool.pin(4 * SLAB, "images").release()
    assert pool.reserve(SLAB, 4) == 4
    assert pool.allocated == 4 * SLAB


def test_what_was_pinned_is_pinned_again_without_new_memory():
    pool = Pool(4 * SLAB)
    first = pool.pin(2 * SLAB, "images")
    memory = first.buffer
    first.release()
    assert pool.pinned == 0
    again = pool.pin(2 * SLAB, "images")
    assert again.buffer is memory
    assert (pool.pinned, pool.allocated) == (2 * SLAB, 2 * SLAB)


def test_lent_slabs_are_never_given_up():
    pool = Pool(4 * SLAB)
    leases = [pool.take(SLAB) for _ in range(4)]
    with pytest.raises(MemoryBudgetError, match="came free"):
        pool.take(SLAB // 2, timeout=0.01)
    assert pool.waits == 1
    for lease in leases:
        lease.release()


def test_a_slab_larger_than_the_budget_is_refused():
    with pytest.raises(MemoryBudgetError):
        Pool(SLAB).take(2 * SLAB, timeout=0.01)


@pytest.mark.parametrize("size", [SLAB, SLAB // 4])
def test_a_taker_is_woken_by_any_release_that_helps(size):
    pool = Pool(SLAB)
    lent, taken = pool.take(SLAB), []
    thread = Thread(target=lambda: taken.append(pool.take(size, timeout=5)))
    thread.start()
    while not pool.waits:
        time.sleep(1e-3)
    lent.release()
    thread.join(5)
    assert taken[0].buffer.nbytes == size


def test_kept_frames_are_given_up_only_when_the_budget_is_used_up():
    pool = Pool(2 * SLAB)
    kept = [pool.take(SLAB)]

    def evict():
        if not kept:
            return False
        kept.pop().release()
        return True

    pool.add_evictor(evict)
    pool.take(SLAB)
    assert kept
    pool.take(SLAB)
    assert not kept
    pool.remove_evictor(evict)


@given(st.lists(st.tuples(st.sampled_from([1, 2, 3]), st.booleans()), max_size=40))
def test_whatever_is_taken_the_budget_holds_and_no_memory_is_lent_twice(steps):
    pool, leases = Pool(8 * SLAB), []
    for number, (slabs, give_back) in enumerate(steps):
        if give_back and leases:
            lease, mark = leases.pop(0)
            assert (lease.buffer == mark).all()
            lease.release()
            continue
        try:
            lease = pool.take(slabs * SLAB, timeout=0)
        except MemoryBudgetError:
            continue
        lease.buffer[:] = np.uint8(number)
        leases.append((lease, np.uint8(number)))
        assert pool.allocated <= pool.budget
    assert all((lease.buffer == mark).all() for lease, mark in leases)
