"""Minimum, maximum, average, standard deviation and sum over regions of frames.

A region is a list of runs of pixels: run j is frame[starts[j]:stops[j]], and region r has the runs bounds[r] to
bounds[r + 1] - 1. `zero` (int64 or float64) says in which type pixels are summed. Results go to `singles`
(float32) and `doubles` (float64), two views of the same packed rows [frame, row, word]: see `processing.rows.ROI`.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .jit import kernel, part

MIN, MAX, AVG, STD = 2, 3, 4, 5
"""Words of `singles`."""
SUM = 3
"""Word of `doubles`."""


@part(fastmath={"reassoc", "nsz"})
def _sum(run: NDArray[Any], zero: Any) -> Any:
    total = zero
    for i in range(run.size):
        total += run[i]
    return total


@part(fastmath={"nnan", "nsz"})
def _range(run: NDArray[Any]) -> tuple[Any, Any]:
    low, high = run[0], run[0]
    for i in range(run.size):
        low = min(low, run[i])
        high = max(high, run[i])
    return low, high


@part(fastmath={"reassoc", "nsz", "contract"})
def _spread(run: NDArray[Any], mean: float) -> float:
    """Sum of squared differences from `mean`."""
    total = 0.0
    for i in range(run.size):
        difference = run[i] - mean
        total += difference * difference
    return total


@part()
def _region(frame: NDArray[Any], starts: NDArray[Any], stops: NDArray[Any], zero: Any) -> Any:
    """(low, high, count, total, squares) of one region; squares are summed run by run, each about its own mean.

    The runs are joined as in Chan, Golub and LeVeque (1983): nothing cancels.
    """
    low, high, count, total, mean, squares = 0.0, 0.0, 0, zero, 0.0, 0.0
    for j in range(starts.size):
        run = frame[starts[j] : stops[j]]
        run_low, run_high = _range(run)
        run_total = _sum(run, zero)
        run_mean = run_total / run.size
        if count == 0:
            low, high = float(run_low), float(run_high)
        else:
            low, high = min(low, float(run_low)), max(high, float(run_high))
        delta = run_mean - mean
        joined = count + run.size
        squares += _spread(run, run_mean) + delta * delta * count * run.size / joined
        mean += delta * run.size / joined
        total += run_total
        count = joined
    return low, high, count, total, squares


@part()
def _write(
    singles: NDArray[Any], doubles: NDArray[Any], low: float, high: float, count: int, total: Any, squares: float
) -> None:
    real_total = float(total)
    if real_total != real_total:  # NaN among the pixels: say so in every value
        low = high = np.nan
    singles[MIN], singles[MAX] = low, high
    singles[AVG], singles[STD] = real_total / count, np.sqrt(squares / count)
    doubles[SUM] = real_total


@kernel()
def region_statistics(
    frames: NDArray[Any],
    runs: tuple[NDArray[Any], NDArray[Any], NDArray[Any]],
    positions: NDArray[Any],
    zero: Any,
    singles: NDArray[Any],
    doubles: NDArray[Any],
) -> None:
    """Statistics of region r of each frame into row positions[r]; rows of regions without a run stay as they are."""
    starts, stops, bounds = runs
    for k in range(len(frames)):
        for r in range(positions.size):
            a, b = bounds[r], bounds[r + 1]
            if a < b:
                low, high, count, total, squares = _region(frames[k], starts[a:b], stops[a:b], zero)
                row = positions[r]
                _write(singles[k, row], doubles[k, row], low, high, count, total, squares)
