"""Blocks in flight keep their order, their bound, and their memory."""

import random
import threading
import time

import numpy as np
import pytest

from lima2_tango.core.errors import MemoryBudgetError, ProcessingError
from lima2_tango.core.frame import Block, Lease
from lima2_tango.processing import executor
from lima2_tango.processing.executor import OrderedStage, Workers


class Leases:
    """Counts the blocks that somebody holds."""

    def __init__(self):
        self.held = 0
        self._lock = threading.Lock()

    def _add(self, count):
        with self._lock:
            self.held += count

    def block(self, first, n=1):
        self._add(1)
        data = np.zeros((n, 1, 1, 1), "u1")
        lease = Lease(lambda: self._add(-1))
        return Block(data, np.arange(first, first + n), first, np.zeros(n), lease)


class Gate:
    """Work that waits until it is let through, and says when it has begun."""

    def __init__(self):
        self.begun = threading.Semaphore(0)
        self.open = threading.Event()

    def __call__(self, block):
        self.begun.release()
        assert self.open.wait(10)
        return int(block.index[0])

    def wait_for(self, count):
        for _ in range(count):
            assert self.begun.acquire(timeout=10)


@pytest.fixture
def leases():
    leases = Leases()
    yield leases
    assert leases.held == 0, "blocks were not given back"


@pytest.fixture(params=[1, 2, 4])
def workers(request):
    workers = Workers(request.param)
    yield workers
    workers.close()


def first_index(block):
    return int(block.index[0])


def make(workers, work=first_index, depth=4, frames=None):
    """A stage, what it committed, and what it discarded."""
    done, discarded = [], []
    return OrderedStage(workers, depth, work, done.append, discarded.append, frames), done, discarded


def put_all(stage, blocks):
    for block in blocks:
        stage.put(block)
    stage.drain()


def test_commits_are_in_order_of_put_whatever_the_work_takes(workers, leases):
    durations = random.Random(1)

    def work(block):
        time.sleep(durations.random() * 2e-3)
        return int(block.index[0])

    stage, done, discarded = make(workers, work)
    put_all(stage, map(leases.block, range(60)))
    assert done == list(range(60))
    assert discarded == []
    assert 1 <= stage.high_water <= 4


def test_a_result_of_none_is_committed_like_any_other(workers, leases):
    stage, done, _ = make(workers, lambda block: None)
    stage.put(leases.block(0))
    stage.drain()
    assert done == [None]


@pytest.mark.parametrize("bad", [0, 7, 19])
def test_work_that_fails_stops_everything_after_it_and_nothing_before_it(workers, leases, bad):
    def work(block):
        if block.index[0] == bad:
            raise ValueError("odd pixel")
        time.sleep(1e-3 * (block.index[0] < bad))
        return int(block.index[0])

    stage, done, discarded = make(workers, work, depth=20)
    with pytest.raises(ProcessingError, match=f"^frame {bad} could not be processed: ValueError: odd pixel$"):
        put_all(stage, map(leases.block, range(20)))
    assert stage.settle(10)
    assert done == list(range(bad))
    assert all(i > bad for i in discarded)


def test_of_two_failures_the_one_of_the_earlier_block_counts(leases):
    workers, second_failed = Workers(2), threading.Event()

    def work(block):
        if block.index[0] == 1:
            second_failed.set()
            raise ValueError("later frame, earlier failure")
        assert second_failed.wait(10)
        raise ValueError("earlier frame")

    stage, _, _ = make(workers, work)
    with pytest.raises(ProcessingError, match="frame 0 "):
        put_all(stage, map(leases.block, range(2)))
    assert stage.settle(10)
    workers.close()


def test_commit_that_fails_stops_the_stage_and_discards_what_follows(workers, leases):
    done, discarded = [], []

    def commit(result):
        if result == 4:
            raise ProcessingError("the disk is full")
        done.append(result)

    stage = OrderedStage(workers, 12, lambda block: int(block.index[0]), commit, discarded.append)
    with pytest.raises(ProcessingError, match="the disk is full") as caught:
        put_all(stage, (leases.block(i, 2) for i in range(0, 24, 2)))
    assert stage.settle(10)
    assert (done, caught.value.info["frame_idx"]) == ([0, 2], 4)
    assert set(discarded) <= set(range(6, 24, 2))


def test_discard_that_fails_does_not_hang_the_stage(workers, leases):
    def discard(result):
        raise RuntimeError("cannot give back")

    gate = Gate()
    stage = OrderedStage(workers, 4, gate, lambda result: None, discard)
    stage.put(leases.block(0))
    gate.wait_for(1)
    stage.fail(ProcessingError("stopped"))
    gate.open.set()
    assert stage.settle(10)
    assert str(stage.error) == "stopped"


@pytest.mark.parametrize(
    ("error", "type_", "text"),
    [
        (ValueError("odd"), ProcessingError, "frames 6 to 8 could not be processed: ValueError: odd"),
        (MemoryBudgetError("no memory"), MemoryBudgetError, "no memory"),
    ],
)
def test_errors_name_the_frames_of_their_block(workers, leases, error, type_, text):
    def work(block):
        raise error

    stage, _, _ = make(workers, work)
    stage.put(leases.block(6, 3))
    with pytest.raises(type_) as caught:
        stage.drain()
    assert str(caught.value) == text
    assert caught.value.info["frame_idx"] == 6


def test_failure_is_told_once(workers, leases):
    told = []
    stage, _, _ = make(workers)
    stage.on_error = lambda: told.append(stage.error)
    error = ProcessingError("first")
    stage.fail(error)
    stage.fail(ProcessingError("second"))
    assert told == [error]


def test_put_after_a_failure_gives_its_block_back(workers, leases):
    stage, done, _ = make(workers)
    stage.fail(ProcessingError("stopped"))
    with pytest.raises(ProcessingError, match="stopped"):
        stage.put(leases.block(0))
    assert stage.settle(10)
    assert (leases.held, done) == (0, [])


def test_put_waits_while_the_depth_is_reached(leases):
    workers, gate = Workers(2), Gate()
    stage, done, _ = make(workers, gate, depth=3)

    def feed():
        for i in range(6):
            stage.put(leases.block(i))

    feeder = threading.Thread(target=feed)
    feeder.start()
    gate.wait_for(2)
    gate.open.set()
    feeder.join(10)
    stage.drain()
    assert done == list(range(6))
    assert stage.high_water <= 3
    workers.close()


def test_put_that_waits_is_woken_by_a_failure(leases):
    workers, gate = Workers(1), Gate()
    stage, _, _ = make(workers, gate, depth=1)
    stage.put(leases.block(0))
    gate.wait_for(1)
    stopper = threading.Timer(0.05, stage.fail, [ProcessingError("stopped")])
    stopper.start()
    with pytest.raises(ProcessingError, match="stopped"):
        stage.put(leases.block(1))
    assert stage.waits == 1
    gate.open.set()
    assert stage.settle(10)
    workers.close()


@pytest.mark.parametrize(("frames", "most"), [(1, 3), (12, 3), (20, 5), (1000, 8), (None, 8)])
def test_frames_bound_the_queue_but_never_idle_the_workers(leases, frames, most):
    """Blocks of 4 frames on 2 workers: 3 blocks always fit, more as far as the frames go."""
    workers, gate = Workers(2), Gate()
    stage, done, _ = make(workers, gate, depth=8, frames=frames)

    def feed():
        for i in range(0, 48, 4):
            stage.put(leases.block(i, 4))

    feeder = threading.Thread(target=feed)
    feeder.start()
    gate.wait_for(2)
    deadline = time.monotonic() + 10
    while stage.waits == 0 and time.monotonic() < deadline:
        time.sleep(1e-3)
    assert stage.high_water == most
    gate.open.set()
    feeder.join(10)
    stage.drain()
    assert done == list(range(0, 48, 4))
    workers.close()


def test_stage_that_does_not_move_is_given_up(leases, monkeypatch):
    monkeypatch.setattr(executor, "STALL", 0.05)
    workers, gate = Workers(1), Gate()
    stage, done, _ = make(workers, gate)
    stage.put(leases.block(0))
    with pytest.raises(ProcessingError, match="has not finished a block"):
        stage.drain()
    assert not stage.settle(0.01)
    gate.open.set()
    assert stage.settle(10)
    assert done == []
    workers.close()


def test_block_for_closed_workers_is_refused_and_given_back(leases):
    workers = Workers(1)
    workers.close()
    stage, _, _ = make(workers)
    stage.put(leases.block(3))
    with pytest.raises(ProcessingError, match="frame 3 could not be processed"):
        stage.drain()


def test_two_stages_share_the_workers(workers, leases):
    (one, first, _), (two, second, _) = make(workers), make(workers)
    for i in range(20):
        one.put(leases.block(i))
        two.put(leases.block(100 + i))
    one.drain()
    two.drain()
    assert (first, second) == (list(range(20)), list(range(100, 120)))
