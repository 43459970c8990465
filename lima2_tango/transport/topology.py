"""Who gets which frame. Adding a topology is adding a class, never a branch elsewhere."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lima2_tango.core.acquisition import Dispatch
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


def predictive_random(receivers: int) -> PatternDispatch:
    """The simulator's reproducible disorder: all pairs (a, b) of receivers in turn, 0 0 0 1 1 0 1 1 for two."""
    pairs = [(a, b) for a in range(receivers) for b in range(receivers)]
    return PatternDispatch(receivers, np.array(pairs, np.int64).ravel())


def full_random(receivers: int, seed: int) -> PatternDispatch:
    """Owners drawn at random from a seed that all ranks share; the draw repeats after 4096 frames."""
    pattern = np.random.default_rng(seed).integers(0, receivers, _DRAW, dtype=np.int64)
    pattern[:receivers] = np.arange(receivers)  # nobody goes without
    return PatternDispatch(receivers, pattern)


def make_topology(dispatch: Dispatch, receivers: int, seed: int) -> Topology:
    """Topology of a run from the dispatch that the camera declares."""
    makers: dict[Dispatch, Callable[[], Topology]] = {
        Dispatch.ROUND_ROBIN: lambda: RoundRobin(receivers),
        Dispatch.PREDICTIVE_RANDOM: lambda: predictive_random(receivers),
        Dispatch.FULL_RANDOM: lambda: full_random(receivers, seed),
    }
    return makers[dispatch]()
