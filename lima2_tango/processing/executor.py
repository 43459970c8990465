"""Blocks in flight: worked on by several threads, committed in order."""

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from lima2_tango.core.errors import Lima2Error, ProcessingError
from lima2_tango.core.frame import Block

R = TypeVar("R")
NICENESS = 5
STALL = 60.0
"""A pipeline that commits nothing for this long while something is in flight has stopped moving [s]."""


def lower_priority() -> None:
    """Of the calling thread: workers give way to the threads that answer Tango."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)


class Workers:
    """The threads that own the cores: one pool per process, shared by its pipelines."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._threads = ThreadPoolExecutor(count, "lima2-worker", lower_priority)

    def submit(self, task: Callable[[], None]) -> None:
        """Raises RuntimeError after `close`."""
        self._threads.submit(task)

    def close(self) -> None:
        """End the threads when they have done what was submitted: finish or abort the pipelines before."""
        self._threads.shutdown(wait=True)


@dataclass(slots=True)
class _Outcome(Generic[R]):
    """What became of one block; `results` is empty where it was not worked on, or failed."""

    first: int
    last: int
    frames: int
    results: list[R] = field(default_factory=list)
    error: Lima2Error | None = None

    def named(self, error: Exception) -> Lima2Error:
        """The error with the global frame numbers of its block."""
        where = f"frame {self.first}" if self.first == self.last else f"frames {self.first} to {self.last}"
        if not isinstance(error, Lima2Error):
            return ProcessingError(
                f"{where} could not be processed: {type(error).__name__}: {error}", frame_idx=self.first
            )
        if "frame_idx" not in error.info:
            error.info["frame_idx"] = self.first
        return error


class OrderedStage(Generic[R]):
    """`work` runs on the workers, one block a task; `commit` runs one at a time, in the order of `put`.

    Where `work` or `commit` fails, all blocks before that one are committed and none after it; `put` and `drain`
    then raise the error. `fail` stops at once. What is left is given back undone.
    """

    def __init__(
        self,
        workers: Workers,
        depth: int,
        work: Callable[[Block], R],
        commit: Callable[[R], None],
        discard: Callable[[R], None],
        frames: int | None = None,
    ) -> None:
        """At most `depth` blocks are in flight, and past one block more than there are workers at most `frames`.

        `commit` owns its result, also when it raises; `discard` gives back what a result holds that is not committed.
        """
        self._workers = workers
        self._depth = max(1, depth)
        self._frames = frames
        self._work, self._commit, self._discard = work, commit, discard
        self._changed = threading.Condition()
        self._next_put = 0
        self._next_commit = 0
        self._failed_turn: int | None = None
        self._parked: dict[int, _Outcome[R]] = {}
        self._committing = False
        self._in_flight = 0
        self._frames_in_flight = 0
        self.error: Exception | None = None
        self.high_water = 0
        """Most blocks that were in flight at once."""
        self.waits = 0
        """How often `put` had to wait."""
        self.on_error: Callable[[], None] | None = None
        """Called once, when the stage has failed."""

    @property
    def in_flight(self) -> int:
        """Blocks that were put and are neither committed nor given back."""
        return self._in_flight

    def put(self, block: Block) -> None:
        """Hand over a block (and its lease); waits while the queue is full."""
        outcome = _Outcome[R](int(block.index[0]), int(block.index[-1]), len(block))
        turn = None
        try:
            turn = self._enter(outcome)
        finally:
            if turn is None:
                block.lease.release()
        try:
            self._workers.submit(lambda: self._run(turn, block, outcome))
        except RuntimeError as error:  # the process is going down
            block.lease.release()
            outcome.error = outcome.named(error)
            self._park(turn, outcome)

    def drain(self) -> None:
        """Wait until everything put so far is committed; raises what stopped the stage."""
        with self._changed:
            self._wait_until(lambda: self._in_flight == 0)

    def settle(self, timeout: float = STALL) -> bool:
        """After a failure: wait until no worker holds a block any more, `timeout` seconds at most; False if not."""
        with self._changed:
            return self._changed.wait_for(lambda: self._in_flight == 0, timeout)

    def fail(self, error: Exception) -> None:
        """Stop the stage from outside; the first error stays."""
        with self._changed:
            first = self.error is None
            self.error = self.error or error
            self._changed.notify_all()
        if first and self.on_error is not None:
            self.on_error()

    def _enter(self, outcome: _Outcome[R]) -> int:
        with self._changed:
            self.waits += self._full(outcome.frames)
            self._wait_until(lambda: not self._full(outcome.frames))
            turn, self._next_put = self._next_put, self._next_put + 1
            self._in_flight += 1
            self._frames_in_flight += outcome.frames
            self.high_water = max(self.high_water, self._in_flight)
            return turn

    def _full(self, frames: int) -> bool:
        if self._in_flight >= self._depth:
            return True
        waiting = self._in_flight > self._workers.count
        return waiting and self._frames is not None and self._frames_in_flight + frames > self._frames

    def _wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait while the stage moves; raises its error, or ProcessingError when it stalls."""
        moved, deadline = self._next_commit, time.monotonic() + STALL
        while not (self.error or condition()):
            self._changed.wait(max(0.0, deadline - time.monotonic()))
            if self._next_commit != moved:
                moved, deadline = self._next_commit, time.monotonic() + STALL
            elif time.monotonic() > deadline:
                self.fail(
                    ProcessingError(
                        f"processing has not finished a block for {STALL:.0f} s: the disk or a worker hangs; "
                        "look at the disk, then Reset",
                    )
                )
        if self.error:
            raise self.error

    def _run(self, turn: int, block: Block, outcome: _Outcome[R]) -> None:
        try:
            if self.error is None and (self._failed_turn is None or turn < self._failed_turn):
                outcome.results.append(self._work(block))
        except Exception as error:  # noqa: BLE001 - boundary: whatever a worker meets stops the stage
            outcome.error = outcome.named(error)
            with self._changed:
                self._failed_turn = turn if self._failed_turn is None else min(turn, self._failed_turn)
        block.lease.release()
        self._park(turn, outcome)

    def _park(self, turn: int, outcome: _Outcome[R]) -> None:
        """Keep an outcome for its turn; whoever brings the next one in turn commits all that are ready."""
        with self._changed:
            self._parked[turn] = outcome
            if self._committing:
                return
            self._committing = True
        while True:
            with self._changed:
                if self._next_commit not in self._parked:
                    self._committing = False
                    return
                ready = self._parked.pop(self._next_commit)
            self._take_turn(ready)
            with self._changed:
                self._next_commit += 1
                self._in_flight -= 1
                self._frames_in_flight -= ready.frames
                self._changed.notify_all()

    def _take_turn(self, outcome: _Outcome[R]) -> None:
        if outcome.error is not None:
            self.fail(outcome.error)
        finish = self._commit if self.error is None else self._discard
        try:
            for result in outcome.results:
                finish(result)
        except Exception as error:  # noqa: BLE001 - boundary: whatever a worker meets stops the stage
            self.fail(outcome.named(error))
