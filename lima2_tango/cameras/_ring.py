"""Frames kept in memory in the order of their delivery, so that a block of them is a view, never a copy.

A camera that replays `count` frames shows frame `index % count`. Receiver r of N gets the frames r, r + N, ...: after
count / gcd(count, N) of its own frames the sequence repeats. That cycle is kept, extended by its own beginning
by one block less a frame, so that a block may begin anywhere in the cycle and never has to be split.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import gcd

import numpy as np
from numpy.typing import NDArray

from lima2_tango.core.errors import DetectorError
from lima2_tango.core.frame import Block, FrameSpec, Lease
from lima2_tango.core.pool import Pool
from lima2_tango.core.series import Topology

Fill = Callable[[NDArray[np.int64], NDArray[np.generic]], None]
"""Make the frames with these numbers in memory [frame, channel, row, column]."""

PROBE = 256
"""Frames from which a topology's regularity is told."""


@dataclass(frozen=True, slots=True)
class Order:
    """Which of `count` frames a receiver shows: `first`, `first + step`, ... over and over, or once."""

    first: int
    step: int
    count: int
    again: bool = True
    """After the last frame comes the first."""

    @classmethod
    def of(cls, topology: Topology, rank: int, count: int, again: bool = True) -> "Order":
        """The order that a topology gives a receiver; all frames one by one where it is not regular."""
        indices = topology.owned(rank, 0, PROBE)
        step = int(indices[1] - indices[0])
        regular = bool((np.diff(indices) == step).all())
        return cls(int(indices[0]), step, count, again) if regular else cls(0, 1, count, again)

    def numbers(self) -> NDArray[np.int64]:
        """One whole cycle; none where the frames end before this receiver's first."""
        if not self.again:
            return np.arange(self.first, self.count, self.step, dtype=np.int64)
        length = self.count // gcd(self.count, self.step)
        return (self.first + np.arange(length, dtype=np.int64) * self.step) % self.count


class Ring:
    """The frames of one `Order`, made when they are first needed, and the blocks cut from them."""

    def __init__(self, order: Order, spec: FrameSpec, frames_per_block: int, pool: Pool, fill: Fill) -> None:
        """Pins the memory of a cycle and a block in `pool`; raises MemoryBudgetError where it does not fit."""
        self.order = order
        self._cycle = order.numbers()
        length = len(self._cycle) + frames_per_block - 1
        self._numbers = np.resize(self._cycle, length)
        self._slot = np.full(order.count, -1, np.int64)
        self._slot[self._cycle] = np.arange(len(self._cycle))
        self._fill = fill
        self._loaded = 0
        what = f"{len(self._cycle)} prefetched frames ($.det.nb_prefetch_frames)"
        self._lease = pool.pin(length * spec.nbytes, what)
        buffer: NDArray[np.uint8] = self._lease.buffer  # type: ignore[assignment]  # pinned leases have one
        self._frames: NDArray[np.generic] = buffer.view(spec.dtype).reshape(length, *spec.shape)

    def load(self, stop: int | None = None) -> None:
        """Have the frames of the slots before `stop` in memory; all of them, where it is not given."""
        cycle = len(self._cycle)
        stop = len(self._frames) if stop is None else stop
        last = min(stop, cycle)
        if last > self._loaded:
            self._fill(self._cycle[self._loaded : last], self._frames[self._loaded : last])
            self._loaded = last
        if stop > self._loaded:
            self._extend(cycle)

    def _extend(self, done: int) -> None:
        """Repeat the cycle behind itself."""
        while done < len(self._frames):
            more = min(done, len(self._frames) - done)  # whole cycles are copied, until the last copy
            self._frames[done : done + more] = self._frames[:more]
            done += more
        self._loaded = done

    def blocks(self, local: int, indices: NDArray[np.int64], times: NDArray[np.float64]) -> Iterator[Block]:
        """The frames with these global indices: one block where they follow each other here, else several."""
        numbers = indices % self.order.count
        done = 0
        while done < len(numbers):
            start = int(self._slot[numbers[done]])
            if start < 0:
                raise DetectorError(f"frame {indices[done]} is not one of this receiver's: its order is {self.order}")
            follows = self._numbers[start : start + len(numbers) - done]
            same = numbers[done : done + len(follows)] == follows
            length = len(same) if same.all() else int(same.argmin())
            self.load(start + length)
            self._lease.retain()
            yield Block(
                data=self._frames[start : start + length],
                index=indices[done : done + length],
                local=local + done,
                time=times[done : done + length],
                lease=Lease(self._lease.release),
            )
            done += length

    def close(self) -> None:
        """Give up the frames; blocks that are still held keep the memory until they are released. Call once."""
        self._lease.release()
