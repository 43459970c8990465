"""Blocks in flight: worked on by several threads, committed in order."""

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

from lima2_tango.core.errors import ProcessingError
from lima2_tango.core.frame import Block

R = TypeVar("R")
NICENESS = 5
STALL = 60.0
"""A pipeline that commits nothing for this long while its queue is full has stopped moving [s]."""


def _lower_priority() -> None:
    """Workers give way to the threads that answer Tango."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)


class Workers:
    """The threads that own the cores: one pool per process, shared by its pipelines."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._threads = ThreadPoolExecutor(count, "lima2-worker", _lower_priority)

    def submit(self, task: Callable[[], None]) -> None:
        self._threads.submit(task)

    def close(self) -> None:
        self._threads.shutdown(wait=True, cancel_futures=True)


class OrderedStage(Generic[R]):
    """`work` runs on the workers, one block a task; `commit` runs one at a time, in the order of `put`.

    The first error stops the stage: blocks still queued are released undone, and `put` and `drain` raise it.
    """

    def __init__(
        self,
        workers: Workers,
        depth: int,
        work: Callable[[Block], R],
        commit: Callable[[R], None],
        discard: Callable[[R], None],
    ) -> None:
        """`depth` blocks at most are in flight; `discard` gives back what a result holds when it is not committed."""
        self._workers = workers
        self._depth = max(1, depth)
        self._work, self._commit, self._discard = work, commit, discard
        self._changed = threading.Condition()
        self._next_put = 0
        self._next_commit = 0
        self._parked: dict[int, R | None] = {}
        self._committing = False
        self._in_flight = 0
        self.error: Exception | None = None
        self.high_water = 0
        """Most blocks that were in flight at once."""
        self.waits = 0
        """How often `put` had to wait."""

    def put(self, block: Block) -> None:
        """Hand over a block (and its lease); waits while the queue is full."""
        with self._changed:
            self.waits += self._in_flight >= self._depth
            try:
                self._wait_until(lambda: self._in_flight < self._depth)
            except Exception:
                block.lease.release()
                raise
            turn, self._next_put = self._next_put, self._next_put + 1
            self._in_flight += 1
            self.high_water = max(self.high_water, self._in_flight)
        self._workers.submit(lambda: self._run(turn, block))

    def drain(self) -> None:
        """Wait until everything put so far is committed; raises what stopped the stage."""
        with self._changed:
            self._wait_until(lambda: self._in_flight == 0)

    def settle(self) -> None:
        """After a failure: wait until no worker holds a block any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._in_flight == 0, STALL)

    def fail(self, error: Exception) -> None:
        """Stop the stage from outside."""
        with self._changed:
            self.error = self.error or error
            self._changed.notify_all()

    def _wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait while the stage moves; raises its error, or ProcessingError when it stalls."""
        moved, deadline = self._next_commit, time.monotonic() + STALL
        while not (self.error or condition()):
            self._changed.wait(deadline - time.monotonic())
            if self._next_commit != moved:
                moved, deadline = self._next_commit, time.monotonic() + STALL
            elif time.monotonic() > deadline:
                self.error = ProcessingError(
                    f"processing has not finished a block for {STALL:.0f} s: the disk or a worker hangs"
                )
        if self.error:
            raise self.error

    def _run(self, turn: int, block: Block) -> None:
        result: R | None = None
        try:
            if self.error is None:
                result = self._work(block)
        except Exception as error:  # noqa: BLE001 - boundary: whatever a worker meets stops the stage
            self.fail(error)
        finally:
            block.lease.release()
            self._park(turn, result)

    def _park(self, turn: int, result: R | None) -> None:
        """Keep a result for its turn; whoever brings the next one in turn commits all that are ready."""
        with self._changed:
            self._parked[turn] = result
            if self._committing:
                return
            self._committing = True
        while True:
            with self._changed:
                if self._next_commit not in self._parked:
                    self._committing = False
                    return
                result = self._parked.pop(self._next_commit)
            if result is not None:
                self._commit_one(result)
            with self._changed:
                self._next_commit += 1
                self._in_flight -= 1
                self._changed.notify_all()

    def _commit_one(self, result: R) -> None:
        if self.error is not None:
            self._discard(result)
            return
        try:
            self._commit(result)
        except Exception as error:  # noqa: BLE001 - boundary: whatever a worker meets stops the stage
            self.fail(error)
