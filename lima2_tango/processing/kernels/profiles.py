"""Statistics of each column of a region; memory is walked line by line."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .jit import kernel, part
from .statistics import AVG, MAX, MIN, STD, SUM


@part()
def _collect(frame: NDArray[Any], runs: Any, total: NDArray[Any], low: NDArray[Any], high: NDArray[Any]) -> None:
    """Sum, minimum and maximum of each column over the runs (starts, stops, columns)."""
    starts, stops, columns = runs
    for j in range(starts.size):
        run = frame[starts[j] : stops[j]]
        place = slice(columns[j], columns[j] + run.size)
        sums, lows, highs = total[place], low[place], high[place]
        for i in range(run.size):
            sums[i] += run[i]
        for i in range(run.size):
            lows[i] = min(lows[i], run[i])
            highs[i] = max(highs[i], run[i])


@part()
def _square(frame: NDArray[Any], runs: Any, mean: NDArray[Any], squares: NDArray[Any]) -> None:
    """Sum of squared differences from the mean of each column."""
    starts, stops, columns = runs
    for j in range(starts.size):
        run = frame[starts[j] : stops[j]]
        place = slice(columns[j], columns[j] + run.size)
        means, sums = mean[place], squares[place]
        for i in range(run.size):
            difference = run[i] - means[i]
            sums[i] += difference * difference


@kernel()
def column_statistics(
    frames: NDArray[Any],
    runs: tuple[NDArray[Any], NDArray[Any], NDArray[Any]],
    shape: tuple[int, NDArray[Any]],
    extremes: tuple[Any, Any],
    zero: Any,
    singles: NDArray[Any],
    doubles: NDArray[Any],
) -> None:
    """Statistics of one region's columns into consecutive rows; those of columns without a pixel stay as they are.

    `runs` are (starts, stops, first column), `shape` the first row and the pixels per column, and `extremes` the
    largest and the smallest value of the pixel type.
    """
    first, counts = shape
    length = counts.size
    total, squares, mean = np.empty(length, type(zero)), np.empty(length), np.empty(length)
    low, high = np.empty(length, frames.dtype), np.empty(length, frames.dtype)
    for k in range(len(frames)):
        for i in range(length):
            total[i], squares[i], low[i], high[i] = zero, 0.0, extremes[0], extremes[1]
        _collect(frames[k], runs, total, low, high)
        for i in range(length):
            mean[i] = total[i] / counts[i]
        _square(frames[k], runs, mean, squares)
        for i in range(length):
            if counts[i]:
                row = first + i
                singles[k, row, MIN], singles[k, row, MAX] = low[i], high[i]
                if mean[i] != mean[i]:  # NaN among the pixels: say so in every value
                    singles[k, row, MIN] = singles[k, row, MAX] = np.nan
                singles[k, row, AVG], singles[k, row, STD] = mean[i], np.sqrt(squares[i] / counts[i])
                doubles[k, row, SUM] = total[i]
