"""Who gets which frame. Adding a topology is adding a class, never a branch elsewhere."""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from lima2_tango.core.acquisition import Dispatch, Sharing
from lima2_tango.core.errors import NotAvailableError, ParamError
from lima2_tango.core.series import Topology

_DRAW = 1 << 12
"""Length of the random pattern [frame]."""


@dataclass(frozen=True, slots=True)
class RoundRobin:
    """Frame i goes to receiver i % N; with one receiver it is the single computer."""

    receivers: int

    def owner(self, index: int) -> int:
        return index % self.receivers

    def owned(self, rank: int, local: int, count: int) -> NDArray[np.int64]:
        return np.arange(local, local + count, dtype=np.int64) * self.receivers + rank

    def locate(self, index: int) -> tuple[int, int]:
        return index % self.receivers, index // self.receivers

    def parts(self, index: int) -> tuple[int, ...]:
        return (self.owner(index),)

    def deal(self, index: NDArray[np.int64], loads: Sequence[int]) -> NDArray[np.int64]:
        return index % self.receivers

    def acquired(self, rank: int) -> Topology:
        return self


class PatternDispatch:
    """Frame i goes to the receiver that a repeating pattern names."""

    def __init__(self, receivers: int, pattern: NDArray[np.int64]) -> None:
        self.receivers = receivers
        self._pattern = pattern
        self._mine = [np.flatnonzero(pattern == rank) for rank in range(receivers)]

    def owner(self, index: int) -> int:
        return int(self._pattern[index % len(self._pattern)])

    def owned(self, rank: int, local: int, count: int) -> NDArray[np.int64]:
        mine = self._mine[rank]
        turns, places = np.divmod(np.arange(local, local + count, dtype=np.int64), len(mine))
        return turns * len(self._pattern) + mine[places]

    def locate(self, index: int) -> tuple[int, int]:
        rank, (turn, place) = self.owner(index), divmod(index, len(self._pattern))
        mine = self._mine[rank]
        return rank, turn * len(mine) + int(np.searchsorted(mine, place))

    def parts(self, index: int) -> tuple[int, ...]:
        return (self.owner(index),)

    def deal(self, index: NDArray[np.int64], loads: Sequence[int]) -> NDArray[np.int64]:
        return self._pattern[index % len(self._pattern)]

    def acquired(self, rank: int) -> Topology:
        return self


class LeastLoaded:
    """A run of frames goes to the receiver that has the least to do: known once it was dealt, where it was dealt."""

    def __init__(self, receivers: int) -> None:
        self.receivers = receivers
        self._lock = Lock()
        # By run of frames: first global index, owner, local index of the first; one more begins after the last.
        self._firsts: list[int] = [0]
        self._owners: list[int] = []
        self._locals: list[int] = []
        self._counts = [0] * receivers

    def deal(self, index: NDArray[np.int64], loads: Sequence[int]) -> NDArray[np.int64]:
        """All these frames, which follow those dealt before, go to the receiver with the smallest load."""
        # Equal loads: the one that has had fewest.
        rank = min(range(self.receivers), key=lambda r: (loads[r], self._counts[r]))
        with self._lock:
            self._owners.append(rank)
            self._locals.append(self._counts[rank])
            self._firsts.append(int(index[-1]) + 1)
            self._counts[rank] += len(index)
        return np.full(len(index), rank, np.int64)

    def owner(self, index: int) -> int:
        """Raises NotAvailableError for a frame that was not dealt here yet."""
        return self.locate(index)[0]

    def locate(self, index: int) -> tuple[int, int]:
        """Raises NotAvailableError for a frame that was not dealt here yet."""
        with self._lock:
            run = bisect_right(self._firsts, index) - 1
            if not 0 <= run < len(self._owners):
                raise NotAvailableError(
                    f"frame {index} was not given to a receiver yet: {self._firsts[-1]} frames were", frame_idx=index
                )
            return self._owners[run], self._locals[run] + index - self._firsts[run]

    def owned(self, rank: int, local: int, count: int) -> NDArray[np.int64]:
        """Raises NotAvailableError for frames that were not dealt here yet."""
        with self._lock:
            runs = zip(self._owners, self._firsts, self._firsts[1:], strict=False)
            mine = [np.arange(first, end, dtype=np.int64) for owner, first, end in runs if owner == rank]
        found = np.concatenate([np.empty(0, np.int64), *mine])[local : local + count]
        if len(found) < count:
            raise NotAvailableError(f"receiver {rank} has not got its frame {local + len(found)} yet")
        return found

    def parts(self, index: int) -> tuple[int, ...]:
        return ()

    def acquired(self, rank: int) -> Topology:
        return RoundRobin(1)


@dataclass(frozen=True, slots=True)
class Scattered:
    """One rank acquires all frames and deals them to the receivers as `dealing` says."""

    dealing: Topology

    @property
    def receivers(self) -> int:
        return self.dealing.receivers

    def owner(self, index: int) -> int:
        return self.dealing.owner(index)

    def owned(self, rank: int, local: int, count: int) -> NDArray[np.int64]:
        return self.dealing.owned(rank, local, count)

    def locate(self, index: int) -> tuple[int, int]:
        return self.dealing.locate(index)

    def parts(self, index: int) -> tuple[int, ...]:
        return ()

    def deal(self, index: NDArray[np.int64], loads: Sequence[int]) -> NDArray[np.int64]:
        return self.dealing.deal(index, loads)

    def acquired(self, rank: int) -> Topology:
        return RoundRobin(1)


class _EveryFrame(RoundRobin):
    """What a camera delivers that has a part of every frame."""

    __slots__ = ()

    def owned(self, rank: int, local: int, count: int) -> NDArray[np.int64]:
        return np.arange(local, local + count, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Assembled(RoundRobin):
    """Every receiver acquires a part of every frame; the whole frame i is assembled on receiver i % N."""

    def parts(self, index: int) -> tuple[int, ...]:
        return tuple(range(self.receivers))

    def acquired(self, rank: int) -> Topology:
        return _EveryFrame(self.receivers)


@dataclass(frozen=True, slots=True)
class KeptPartial:
    """Every receiver acquires, processes and saves its part of every frame."""

    receivers: int

    def owner(self, index: int) -> int:
        """Receiver 0: it has a part of every frame, as all others do."""
        return 0

    def owned(self, rank: int, local: int, count: int) -> NDArray[np.int64]:
        return np.arange(local, local + count, dtype=np.int64)

    def locate(self, index: int) -> tuple[int, int]:
        return 0, index

    def parts(self, index: int) -> tuple[int, ...]:
        return tuple(range(self.receivers))

    def deal(self, index: NDArray[np.int64], loads: Sequence[int]) -> NDArray[np.int64]:
        return np.zeros(len(index), np.int64)

    def acquired(self, rank: int) -> Topology:
        return self


def predictive_random(receivers: int) -> PatternDispatch:
    """The simulator's reproducible disorder: all pairs (a, b) of receivers in turn, 0 0 0 1 1 0 1 1 for two."""
    pairs = [(a, b) for a in range(receivers) for b in range(receivers)]
    return PatternDispatch(receivers, np.array(pairs, np.int64).ravel())


def full_random(receivers: int, seed: int) -> PatternDispatch:
    """Owners drawn at random from a seed that all ranks share; the draw repeats after 4096 frames."""
    pattern = np.random.default_rng(seed).integers(0, receivers, _DRAW, dtype=np.int64)
    pattern[:receivers] = np.arange(receivers)  # nobody goes without
    return PatternDispatch(receivers, pattern)


def make_topology(dispatch: Dispatch, receivers: int, seed: int, sharing: Sharing = Sharing.FULL_FRAMES) -> Topology:
    """Topology of a run from what the camera declares; `check_topology` has said that there is one."""
    makers: dict[Dispatch, Callable[[], Topology]] = {
        Dispatch.ROUND_ROBIN: lambda: RoundRobin(receivers),
        Dispatch.PREDICTIVE_RANDOM: lambda: predictive_random(receivers),
        Dispatch.FULL_RANDOM: lambda: full_random(receivers, seed),
        Dispatch.LEAST_LOADED: lambda: LeastLoaded(receivers),
    }
    shared: dict[Sharing, Callable[[], Topology]] = {
        Sharing.FULL_FRAMES: makers[dispatch],
        Sharing.DISTRIBUTED_PROCESSING: lambda: Scattered(makers[dispatch]()),
        Sharing.PARTIAL_FRAMES: lambda: Assembled(receivers),
        Sharing.KEPT_PARTIAL_FRAMES: lambda: KeptPartial(receivers),
    }
    return shared[sharing]()


_DEALT = {
    Sharing.FULL_FRAMES: (Dispatch.ROUND_ROBIN, Dispatch.PREDICTIVE_RANDOM, Dispatch.FULL_RANDOM),
    Sharing.DISTRIBUTED_PROCESSING: tuple(Dispatch),
    Sharing.PARTIAL_FRAMES: (Dispatch.ROUND_ROBIN,),
    Sharing.KEPT_PARTIAL_FRAMES: (Dispatch.ROUND_ROBIN,),
}


def check_topology(sharing: Sharing, dispatch: Dispatch) -> None:
    """Raise ParamError for a way to deal frames that this sharing does not have."""
    if dispatch not in _DEALT[sharing]:
        choices = ", ".join(_DEALT[sharing])
        raise ParamError(
            "$.det.dispatch_mode", dispatch, f"with $.det.topology {sharing} frames are dealt by {choices}"
        )
