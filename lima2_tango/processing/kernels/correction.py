"""Detector correction in one pass over the pixels.

Calibration images are flat; one that is a whole number of times smaller than a frame is used for each channel.
"""

from typing import Any

from numpy.typing import NDArray

from .jit import kernel


@kernel()
def keep_valid(frames: NDArray[Any], valid: NDArray[Any], out: NDArray[Any]) -> None:
    """Copy pixels to `out` [n, pixel], 0 where `valid` is False."""
    n, size = out.shape
    zero = out.dtype.type(0)
    for k in range(n):
        for start in range(0, size, valid.size):
            source, target = frames[k, start : start + valid.size], out[k, start : start + valid.size]
            for i in range(valid.size):
                value = source[i]
                target[i] = value if valid[i] else zero


@kernel()
def subtract(frames: NDArray[Any], background: NDArray[Any], out: NDArray[Any]) -> None:
    """Pixels minus background into `out` [n, pixel], 0 where the background is NaN."""
    n, size = out.shape
    real = out.dtype.type
    zero = real(0)
    for k in range(n):
        for start in range(0, size, background.size):
            source, target = frames[k, start : start + background.size], out[k, start : start + background.size]
            for i in range(background.size):
                value = real(source[i]) - background[i]
                target[i] = value if background[i] == background[i] else zero  # not where it is NaN


@kernel()
def flatten(frames: NDArray[Any], background: NDArray[Any], flatfield: NDArray[Any], out: NDArray[Any]) -> None:
    """Pixels minus background, divided by the flat field, into `out` [n, pixel]; 0 where the flat field is 0.

    An empty background is none.
    """
    n, size = out.shape
    real = out.dtype.type
    zero = real(0)
    for k in range(n):
        for start in range(0, size, flatfield.size):
            source, target = frames[k, start : start + flatfield.size], out[k, start : start + flatfield.size]
            if background.size:
                for i in range(flatfield.size):
                    value = (real(source[i]) - background[i]) / flatfield[i]
                    target[i] = value if flatfield[i] > 0 else zero
            else:
                for i in range(flatfield.size):
                    value = real(source[i]) / flatfield[i]
                    target[i] = value if flatfield[i] > 0 else zero
