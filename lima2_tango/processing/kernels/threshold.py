"""Pixels in a range of values."""

from typing import Any

from numpy.typing import NDArray

from .jit import kernel


@kernel()
def keep_range(frames: NDArray[Any], low: Any, high: Any, out: NDArray[Any]) -> None:
    """Copy pixels to `out` [n, pixel], 0 where not low <= value <= high, which NaN never is."""
    n, size = out.shape
    zero = out.dtype.type(0)
    for k in range(n):
        source, target = frames[k, :size], out[k]
        for i in range(size):
            value = source[i]
            target[i] = value if (value >= low) & (value <= high) else zero
