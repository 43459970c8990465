"""Compression and nothing else. The reference is the bitshuffle library of hdf5plugin, which others use."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lima2_tango.core import bitshuffle

Compress = Callable[[NDArray[Any], NDArray[np.uint8]], int]
"""Compresses C-contiguous pixels into memory of `bitshuffle.compress_bound` bytes."""
LEAST = 0.5
"""A frame's time is an average over at least so long [s]."""


def by_library(pixels: NDArray[Any], out: NDArray[np.uint8]) -> int:
    """All blocks by hdf5plugin's C function."""
    return bitshuffle.compress_stream(pixels.ctypes.data, out.ctypes.data, pixels.size, pixels.itemsize)


def compression_time(frames: NDArray[Any], compress: Compress = by_library) -> float:
    """Seconds that one thread needs for bitshuffle and LZ4 of one frame, averaged over all of `frames`."""
    room = np.empty(bitshuffle.compress_bound(frames[0].nbytes, frames.itemsize), np.uint8)
    done, begin = 0, time.monotonic()
    while (spent := time.monotonic() - begin) < LEAST or done < len(frames):
        compress(frames[done % len(frames)], room)
        done += 1
    return spent / done
