"""Sum of neighbouring pixels."""

from typing import Any

from numpy.typing import NDArray

from .jit import kernel, part


@part()
def _add_lines(frame: NDArray[Any], start: int, width: int, lines: int, out: NDArray[Any]) -> None:
    """Sum of `lines` lines of a frame, the first of which begins at pixel `start`."""
    source = frame[start : start + out.size]
    for i in range(out.size):
        out[i] = source[i]
    for line in range(1, lines):
        source = frame[start + line * width : start + line * width + out.size]
        for i in range(out.size):
            out[i] += source[i]


@kernel()
def bin_sum(
    frames: NDArray[Any],
    shape: tuple[int, int, int],
    factors: tuple[int, int],
    line: NDArray[Any],
    limits: tuple[Any, Any],
    out: NDArray[Any],
) -> None:
    """Fill `out` [n, channel, row, column] with the sums over (x, y) pixels, limited to `limits`.

    `line` is scratch for one line of bins, columns * x elements of a type in which no sum overflows.
    """
    (x, y), (low, high) = factors, limits
    _, height, width = shape
    n, channels, rows, columns = out.shape
    for k in range(n):
        for channel in range(channels):
            for row in range(rows):
                _add_lines(frames[k], (channel * height + row * y) * width, width, y, line)
                target = out[k, channel, row]
                for column in range(columns):
                    total = line[column * x]
                    for i in range(column * x + 1, column * x + x):
                        total += line[i]
                    target[column] = min(max(total, low), high)
