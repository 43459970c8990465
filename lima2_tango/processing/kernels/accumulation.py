"""Sum of frames."""

from typing import Any

from numpy.typing import NDArray

from .jit import kernel


@kernel()
def add_integers(frames: NDArray[Any], low: int, high: int, total: NDArray[Any]) -> None:
    """Add all frames to `total` [pixel]; what leaves [low, high] stays at that limit."""
    for k in range(len(frames)):
        source = frames[k, : total.size]
        for i in range(total.size):
            value = low * 0 + total[i] + source[i]
            total[i] = min(max(value, low), high)


@kernel()
def add_reals(frames: NDArray[Any], total: NDArray[Any]) -> None:
    """Add all frames to `total` [pixel]."""
    for k in range(len(frames)):
        source = frames[k, : total.size]
        for i in range(total.size):
            total[i] += source[i]
