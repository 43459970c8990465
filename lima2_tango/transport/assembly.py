"""Frames whose parts come from other ranks: where they become whole, and blocks that the pipeline takes."""

import os
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from lima2_tango.core.errors import AgreementError, DataLossError, MemoryBudgetError
from lima2_tango.core.frame import BLOCK_BYTES, Block, EndOfSeries, FrameSpec, Lease
from lima2_tango.core.pool import Pool
from lima2_tango.core.series import Series

from .window import NONE, Memory, create, fence, size_of

SHARE = 0.25
"""Part of the memory budget that a window takes, at most."""
MOST_BYTES = 512 << 20
"""A window is never larger than this, unless `LEAST_SLOTS` are."""
LEAST_SLOTS = 8
MOST_SLOTS = 1 << 16
SHORT_PAUSE, LONG_PAUSE = 1e-4, 2e-3
"""Between two looks at the counters [s]: right after something came, and when nothing has come for a while."""
PART_LIMIT = 40.0
"""A rank whose part of a frame is this much later than another's is missing [s]; longer than any writer waits."""


class Intake:
    """One receiver's window, and the blocks of whole frames from it."""

    def __init__(self, spec: FrameSpec, pool: Pool) -> None:
        """Makes and touches the memory; raises MemoryBudgetError where it does not fit the budget."""
        self.spec = spec
        self._pool = pool
        self._slots = _slots_for(spec, pool.budget)
        size = size_of(spec, self._slots)
        self._lease = pool.charge(size, f"{self._slots} frames that are assembled")
        try:
            self._address, self._memory = create(spec, self._slots)
        except OSError as error:
            self._lease.release()
            raise MemoryBudgetError(
                f"the computer has no {size} bytes of shared memory ({error.strerror}): lower the device property "
                "memory_budget, or free memory",
                size=size,
            ) from error
        self.address = self._address.text()
        """For those that write."""
        self._lock = Lock()
        self._loans: deque[_Loan] = deque()
        self._begin = 0

    @property
    def memory(self) -> Memory:
        """For a writer in this process."""
        return self._memory

    def open(self) -> None:
        """A run begins: nobody has written yet. What older runs still hold stays theirs."""
        memory = self._memory
        self._begin += int(memory.written.max())
        self._lend(self._begin).release()  # what was written and not taken
        memory.written[:] = 0
        memory.total[:] = NONE
        memory.taken[0] = 0
        memory.reason[:, 0] = 0
        memory.run[1] = self._begin
        memory.run[0] += 1
        memory.closed[0] = 0  # last: writers of older runs have no time in which they are wanted

    def retire(self) -> bool:
        """No run is on, and no writer is wanted. True where one is frozen in its writing: use this memory no more.

        What it still writes when it goes on would stand in the frames of a later run.
        """
        self._memory.closed[0] = 1
        fence()
        return bool(self._memory.inside.any())

    def blocks(
        self, writers: int, names: Callable[[int], str], modules: int, series: Series, numbers: Sequence[int] = ()
    ) -> Generator[Block | EndOfSeries]:
        """Whole frames in the order in which they were written, then the end; no end where the process goes down.

        `modules` are the bits of all modules of a frame, `names` says who a writer is, `series`
        whether it ends soon, and who is lost, by the `numbers` of the writers as participants (their own, where not
        given). Raises AgreementError naming a writer that is lost or stays behind the others, DataLossError
        where they do not agree how many frames there were. A writer that failed says with what: after the last frame
        that is whole, this is raised as AgreementError. Given up, it lets the writers go on without it.
        """
        memory, taken = self._memory, 0
        watch = _Watch(memory, numbers or range(writers), names, series)
        most = max(1, BLOCK_BYTES // max(self.spec.nbytes, 1))
        try:
            while True:
                ended = bool((memory.total[:writers] != NONE).all())
                ready = int(memory.written[:writers].min())
                if ready > taken:
                    follow = self._slots - (self._begin + taken) % self._slots
                    count = min(ready - taken, follow, most)
                    yield self._block(taken, count, writers, modules)
                    taken += count
                    memory.taken[0] = taken
                    watch.moved()
                elif reason := self._reason(writers, taken):
                    raise AgreementError(reason)
                elif ended:
                    break
                elif series.left:
                    return
                else:
                    self._make_room(writers)
                    watch.wait()
            _check_totals(memory.total[:writers], taken, names)
            yield EndOfSeries(taken)
        finally:
            memory.closed[0] = 1

    def close(self) -> None:
        """Give the memory up; blocks that are still held keep it. Call once."""
        os.close(self._address.descriptor)
        self._lease.release()

    def _reason(self, writers: int, taken: int) -> str:
        """Why there are no more whole frames than these; empty where no writer has failed at this one."""
        ended = np.flatnonzero(self._memory.total[:writers] == taken)
        texts = [self._memory.reason[writer].tobytes().split(b"\0", 1)[0] for writer in ended]
        return "; ".join(dict.fromkeys(text.decode(errors="replace") for text in texts if text))

    def _block(self, local: int, count: int, writers: int, modules: int) -> Block:
        memory = self._memory
        first = (self._begin + local) % self._slots
        slots = slice(first, first + count)
        missing: NDArray[np.uint64] = np.bitwise_or.reduce(memory.missing[:writers, slots], axis=0)
        whole = not missing.any()
        return Block(
            data=memory.frames[slots],
            index=memory.index[slots].copy(),
            local=local,
            time=memory.time[slots].copy(),
            lease=self._lend(self._begin + local + count),
            valid=None if whole else missing != np.uint64(modules),
            missing=None if whole or modules == 1 else missing,  # one module is the frame: it is whole or lost
        )

    def _lend(self, end: int) -> Lease:
        """Claim on the slots up to this number, from where the last loan ended."""
        loan = _Loan(end)
        with self._lock:
            self._loans.append(loan)
        self._lease.retain()
        return Lease(lambda: self._give_back(loan))

    def _give_back(self, loan: "_Loan") -> None:
        loan.over = True
        self._free_slots()
        self._lease.release()

    def _free_slots(self) -> None:
        """In their order: up to the first that is still lent."""
        with self._lock:
            while self._loans and self._loans[0].over:
                self._memory.free[0] = self._loans.popleft().end

    def _make_room(self, writers: int) -> None:
        """Readers of older frames give some up, where no writer has a slot left."""
        memory = self._memory
        used = self._begin + int(memory.written[:writers].max()) - int(memory.free[0])
        if used >= self._slots:
            self._pool.evict()


@dataclass(slots=True)
class _Loan:
    """Slots that a block holds."""

    end: int
    over: bool = False


class _Watch:
    """Waits between two looks at the counters, and knows when that is too long."""

    def __init__(self, memory: Memory, numbers: Sequence[int], names: Callable[[int], str], series: Series) -> None:
        self._memory, self._numbers, self._names, self._series = memory, numbers, names, series
        self._writers = len(numbers)
        self._seen: bytes = b""
        self._pause = SHORT_PAUSE
        self._deadline = float("inf")

    def wait(self) -> None:
        """Sleep a little; raises AgreementError where a part that must come does not come."""
        now, written = time.monotonic(), self._memory.written[: self._writers]
        if (seen := written.tobytes()) != self._seen:
            self._seen, self._deadline, self._pause = seen, now + PART_LIMIT, SHORT_PAUSE
        behind = self._behind(written)
        if lost := [self._numbers[writer] for writer in behind if self._numbers[writer] in self._series.lost]:
            raise AgreementError(self._series.lost[lost[0]])
        if not behind:
            self._deadline = now + PART_LIMIT
        elif now > self._deadline:
            who = " and ".join(self._names(writer) for writer in behind)
            raise AgreementError(
                f"{who} delivered nothing for {PART_LIMIT:.0f} s after frame {written[behind[0]]} of this receiver: "
                "look at its log, restart the job"
            )
        time.sleep(self._pause)
        self._pause = min(2 * self._pause, LONG_PAUSE)

    def moved(self) -> None:
        self._pause = SHORT_PAUSE

    def _behind(self, written: NDArray[np.int64]) -> list[int]:
        """Writers that something is owed by: others are further, or the end of the series is known."""
        open_ended = self._memory.total[: self._writers] == NONE
        late = open_ended if self._series.ending else open_ended & (written < written.max())
        return [int(writer) for writer in np.flatnonzero(late)]


def _check_totals(totals: NDArray[np.int64], taken: int, names: Callable[[int], str]) -> None:
    if (totals != taken).any():
        told = ", ".join(f"{names(writer)} {total}" for writer, total in enumerate(totals.tolist()))
        raise DataLossError(f"{taken} whole frames arrived, but the ranks say that there were: {told}")


def _slots_for(spec: FrameSpec, budget: int) -> int:
    size = min(MOST_BYTES, int(budget * SHARE))
    return max(LEAST_SLOTS, min(MOST_SLOTS, size // max(spec.nbytes, 1)))
