"""Pixels replaced by the mean of others."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .jit import kernel


@kernel()
def replace_by_means(
    frames: NDArray[Any], places: NDArray[Any], bounds: NDArray[Any], others: NDArray[Any], out: NDArray[Any]
) -> None:
    """Copy frames to `out` [n, pixel]; pixel places[j] becomes the mean of others[bounds[j]:bounds[j + 1]].

    Means of integers are rounded to the nearest, halves to even.
    """
    n, size = out.shape
    half = np.float64(out.dtype.type(0.5))  # 0 where pixels are integers
    for k in range(n):
        source, target = frames[k, :size], out[k]
        target[:] = source
        for j in range(places.size):
            total = 0.0
            for i in range(bounds[j], bounds[j + 1]):
                total += source[others[i]]
            mean = total / (bounds[j + 1] - bounds[j])
            target[places[j]] = mean if half else np.rint(mean)
