"""Pixels that stand out of the background, picked as frames lie in memory and packed as the clients read them.

A pixel belongs to an interval between two centres of the background, numbered by the lower one. `limits` has for each
interval a value that no pixel in it is picked without exceeding; few pixels do, and only these are looked at. Pixels
that are never picked are in an interval with a limit of infinity.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .jit import kernel, part

STEP = 32
"""Pixels that are compared at once."""
HEADER_WORDS = 4
"""32-bit words before the numbers of the pixels."""
PIXELS = 2
"""Word with how many they are."""


@part()
def _picked(value: float, place: Any, background: Any, settings: Any) -> bool:
    """Whether a pixel is picked; `place` is (interval, part of it, weight, dark)."""
    (b, part_of, weight, dark), (noise, cutoff, dummy) = place, settings
    checked, sought, delta = dummy
    if value - value != 0.0 or (checked and abs(value - sought) <= delta):
        return False
    after = min(b + 1, background.shape[1] - 1)
    mean = background[0, b] * (1.0 - part_of) + background[0, after] * part_of
    deviation = background[1, b] * (1.0 - part_of) + background[1, after] * part_of
    above = (value - dark) / weight - mean
    return bool(above > max(noise, cutoff * math.sqrt(deviation * deviation + noise * noise)))


@part()
def _find(frame: Any, places: Any, limits: Any, background: Any, settings: Any, numbers: Any) -> int:
    """Write the numbers of the pixels picked, as many as there is room for; returns how many they are."""
    intervals, parts, weights, darks = places
    found = 0
    for first in range(0, intervals.size, STEP):
        last = min(first + STEP, intervals.size)
        above = 0
        for i in range(first, last):
            above += np.float32(frame[i]) > limits[intervals[i]]
        for i in range(first, last if above else first):
            if np.float32(frame[i]) > limits[intervals[i]]:
                place = np.int64(intervals[i]), parts[i], weights[i], darks[i] if darks.size else np.float32(0)
                if _picked(np.float64(frame[i]), place, background, settings):
                    if found < numbers.size:
                        numbers[found] = i
                    found += 1
    return found


@kernel()
def pick(
    frames: NDArray[Any],
    places: Any,
    limits: NDArray[Any],
    background: NDArray[Any],
    settings: Any,
    words: NDArray[Any],
    reals: NDArray[Any],
    capacity: int,
) -> None:
    """Pack the pixels picked of each frame, in order of their numbers, and its background (see `core.sparse`).

    `places` are (interval, part, weight, dark) of each pixel, no dark for 0; `limits` [frame, interval + 1] float32;
    `background` [frame, 2, centre] are mean and deviation; `settings` (noise, cutoff, dummy) with dummy (checked,
    value, delta). `words` [frame, word] int32 and `reals` float32 are two views of the packed frames, of which this
    writes all but the first two words and the frame number, with `capacity` pixels at most; zeros follow.
    """
    darks = places[3]
    for k in range(len(frames)):
        numbers = words[k, HEADER_WORDS : HEADER_WORDS + capacity]
        found = _find(frames[k], places, limits[k], background[k], settings, numbers)
        kept = min(found, capacity)
        words[k, PIXELS], words[k, words.shape[1] - 1] = kept, found
        for j in range(kept):
            i = numbers[j]
            reals[k, HEADER_WORDS + kept + j] = np.float64(frames[k, i]) - (darks[i] if darks.size else 0.0)
        for channel in range(2):
            begin = HEADER_WORDS + 2 * kept + channel * background.shape[2]
            for b in range(background.shape[2]):
                reals[k, begin + b] = background[k, channel, b]
        for j in range(HEADER_WORDS + 2 * (kept + background.shape[2]), words.shape[1] - 1):
            words[k, j] = 0
