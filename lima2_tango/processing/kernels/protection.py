"""Search for pixels that receive too much."""

from typing import Any

from numpy.typing import NDArray

from .jit import kernel


@kernel()
def first_above(frames: NDArray[Any], thresholds: NDArray[Any], top: Any, size: int) -> tuple[int, int]:
    """(frame, pixel) of the first pixel with threshold < value <= top, (-1, -1) where there is none.

    `thresholds` has one element for all pixels, or one per pixel of a frame.
    """
    for k in range(len(frames)):
        frame = frames[k, :size]
        found = False
        if thresholds.size == 1:
            threshold = thresholds[0]
            for i in range(size):
                found |= (frame[i] > threshold) & (frame[i] <= top)
        else:
            for i in range(size):
                found |= (frame[i] > thresholds[i]) & (frame[i] <= top)
        if found:
            for i in range(size):
                if thresholds[i % thresholds.size] < frame[i] <= top:
                    return k, i
    return -1, -1
