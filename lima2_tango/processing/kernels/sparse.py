"""Sums of frames and of the pixels picked from them, and sparse frames made dense again."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .jit import kernel

HEADER_WORDS, PIXELS = 4, 2
"""Words before the numbers of the pixels, and the one with how many these are (see `core.sparse`)."""


@kernel()
def add_signal(frames: NDArray[Any], dark: NDArray[Any], dummy: tuple[bool, float, float], total: NDArray[Any]) -> None:
    """Add each pixel less its dark value to `total` [pixel] (float64), where it is finite and no dummy.

    `dark` is empty for none, `dummy` (checked, value, delta).
    """
    checked, sought, delta = dummy
    for k in range(len(frames)):
        frame = frames[k]
        for i in range(total.size):
            value = np.float64(frame[i])
            signal = value - (dark[i] if dark.size else 0.0)
            real = value - value == 0.0 and not (checked and abs(value - sought) <= delta)
            total[i] += signal if real else 0.0


@kernel()
def add_peaks(words: NDArray[Any], reals: NDArray[Any], total: NDArray[Any]) -> None:
    """Add the intensities of packed frames to `total` [pixel] (float64); `words` and `reals` as of `peaks.pick`."""
    for k in range(len(words)):
        kept = words[k, PIXELS]
        for j in range(kept):
            total[words[k, HEADER_WORDS + j]] += reals[k, HEADER_WORDS + kept + j]
