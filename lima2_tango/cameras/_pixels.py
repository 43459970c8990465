"""From real numbers to pixels: the one loop over every pixel of the simulator's images."""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Real = NDArray[np.float64]


def store(intensity: Real, scale: float, out: NDArray[np.generic]) -> None:
    """Scale, round and clip [row, column] into the pixel type of `out`."""
    kind: Any = out.dtype
    if kind.kind == "f":
        _store_real(intensity, scale, float(np.finfo(kind).min), float(np.finfo(kind).max), out)
    else:
        _store_whole(intensity, scale, float(np.iinfo(kind).min), float(np.iinfo(kind).max), out)


@njit(nogil=True, cache=True)
def _store_real(intensity: Real, scale: float, low: float, high: float, out: NDArray[np.generic]) -> None:
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            out[y, x] = min(max(intensity[y, x] * scale, low), high)


@njit(nogil=True, cache=True)
def _store_whole(intensity: Real, scale: float, low: float, high: float, out: NDArray[np.generic]) -> None:
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            out[y, x] = min(max(np.floor(intensity[y, x] * scale + 0.5), low), high)
