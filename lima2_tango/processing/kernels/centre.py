"""Centres of mass of regions of frames; regions are runs of pixels, as in `kernels.statistics`."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .jit import kernel, part

X, Y, SUM = 1, 2, 3
"""Words of a row of `processing.nodes.centre.CENTRE`, as float64."""


@part(fastmath={"reassoc", "nsz", "contract"})
def _moments(run: NDArray[Any]) -> tuple[float, float]:
    """Sum of the values, and of value times place in the run."""
    total = moment = 0.0
    for i in range(run.size):
        total += run[i]
        moment += run[i] * np.float64(i)
    return total, moment


@kernel()
def centres(frames: NDArray[Any], runs: Any, corners: Any, bounds: NDArray[Any], doubles: NDArray[Any]) -> None:
    """Fill `doubles` [frame, region, word]; x and y are NaN where the sum is 0.

    `runs` are (starts, stops), `corners` the (columns, rows) in which they begin; region r has the runs bounds[r] to
    bounds[r + 1] - 1.
    """
    (starts, stops), (columns, rows) = runs, corners
    for k in range(len(frames)):
        for r in range(bounds.size - 1):
            total = x = y = 0.0
            for j in range(bounds[r], bounds[r + 1]):
                own, moment = _moments(frames[k, starts[j] : stops[j]])
                total += own
                x += columns[j] * own + moment
                y += rows[j] * own
            row = doubles[k, r]
            row[SUM] = total
            row[X], row[Y] = (x / total, y / total) if total else (np.nan, np.nan)
