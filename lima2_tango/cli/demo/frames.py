"""The demo's frames: a real detector frame under a background and Bragg spots that its global index determines.

Nothing is kept between frames: whoever knows the index can make the frame again, which is how the demo finds frames
that were swapped, doubled or lost.
"""

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

Image = NDArray[np.uint16]

MASKED = 65535
"""Value of gaps and bad pixels in an EIGER2's frames."""
FULL = 60000
"""No pixel counts more than this, so that none looks masked."""
LEVELS = 32
"""Steps of the background from the darkest to the brightest pixel."""
BACKGROUND = (1.0, 8.0)
"""Mean of the background in the darkest and the brightest pixel [count]."""
DRAW_BITS = 12
"""Random bits of one pixel; four pixels share a 64-bit hash."""
SPOT_AREA = 30_000
"""One Bragg spot for so many pixels: 600 on an EIGER2 16M."""
SPOT_WIDTH = 1.3
"""Standard deviation of a spot [pixel]."""
SPOT_PEAK = 800.0
"""Mean of the spots' peaks, which are exponentially distributed [count]."""
SPOT_REACH = 5
"""A spot ends this far from its centre [pixel]."""


class DemoFrames:
    """Frames over one real frame; threads may share it."""

    def __init__(self, real: Image) -> None:
        self.shape = real.shape
        self._levels = _levels(real, _profile(math.ceil(math.hypot(*real.shape))))
        self._table = np.vstack([_poisson(mean) for mean in np.linspace(*BACKGROUND, LEVELS)] + [_masked()])
        where = np.flatnonzero((real > 0) & (real != MASKED))
        self._counted = where, real.reshape(-1)[where]

    @property
    def mask(self) -> NDArray[np.bool_]:
        """True where a pixel is in a gap or bad."""
        return np.equal(self._levels, LEVELS)

    def frame(self, index: int, out: Image | None = None) -> Image:
        """Frame `index`, in `out` (C order) where it is given."""
        image = np.empty(self.shape, np.uint16) if out is None else out
        flat = image.reshape(-1)
        _background(flat, self._levels.reshape(-1), self._table, np.uint64(index))
        where, counts = self._counted
        flat[where] += counts
        rows, columns, peaks = self._spots(index)
        _add_spots(image, rows, columns, peaks)
        return image

    def _spots(self, index: int) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        random = np.random.default_rng(index)
        spots = math.prod(self.shape) // SPOT_AREA
        rows, columns = (random.uniform(0, length, spots) for length in self.shape)
        return rows, columns, np.minimum(random.exponential(SPOT_PEAK, spots), FULL)


def _profile(length: int) -> NDArray[np.uint8]:
    """Level of the background by distance from the beam [pixel]: it decays, with the ring of a solvent on it."""
    radius = np.arange(length + 1) / length
    shape = np.exp(-radius / 0.4) + 0.5 * np.exp(-(((radius - 0.14) / 0.04) ** 2))
    levels: NDArray[np.uint8] = (shape / shape.max() * (LEVELS - 1)).astype(np.uint8)
    return levels


def _poisson(mean: float) -> Image:
    """Counts by random number: the inverse of Poisson's distribution function in steps of 2**-DRAW_BITS."""
    counts = range(100)
    below = np.cumsum([math.exp(-mean) * mean**k / math.factorial(k) for k in counts])
    draws = (np.arange(1 << DRAW_BITS) + 0.5) / (1 << DRAW_BITS)
    return np.searchsorted(below, draws).astype(np.uint16)


def _masked() -> Image:
    """The row of the table for pixels that keep their value whatever is drawn."""
    return np.full(1 << DRAW_BITS, MASKED, np.uint16)


@njit(nogil=True, cache=True)
def _levels(real: Image, profile: NDArray[np.uint8]) -> NDArray[np.uint8]:
    rows, columns = real.shape
    levels = np.empty(real.shape, np.uint8)
    for row in range(rows):
        for column in range(columns):
            y, x = row - 0.5 * rows, column - 0.5 * columns
            masked = real[row, column] == MASKED
            levels[row, column] = LEVELS if masked else profile[int(math.sqrt(x * x + y * y))]
    return levels


@njit(nogil=True, cache=True)
def _mix(value: np.uint64) -> np.uint64:
    """The finaliser of splitmix64 (Steele, Lea and Flood, 2014): neighbouring numbers become unrelated."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


@njit(nogil=True, cache=True)
def _background(out: Image, levels: NDArray[np.uint8], table: Image, index: np.uint64) -> None:
    step, low = np.uint64(0x9E3779B97F4A7C15), np.uint64((1 << DRAW_BITS) - 1)
    start = _mix(index + step)
    for word in range(out.size // 4):
        bits = _mix(start + np.uint64(word) * step)
        pixel = 4 * word
        out[pixel] = table[levels[pixel], bits & low]
        out[pixel + 1] = table[levels[pixel + 1], (bits >> np.uint64(16)) & low]
        out[pixel + 2] = table[levels[pixel + 2], (bits >> np.uint64(32)) & low]
        out[pixel + 3] = table[levels[pixel + 3], (bits >> np.uint64(48)) & low]
    for pixel in range(out.size // 4 * 4, out.size):
        out[pixel] = table[levels[pixel], _mix(start ^ np.uint64(pixel)) & low]


@njit(nogil=True, cache=True)
def _add_spots(
    image: Image, rows: NDArray[np.float64], columns: NDArray[np.float64], peaks: NDArray[np.float64]
) -> None:
    height, width = image.shape
    for y, x, peak in zip(rows, columns, peaks):  # noqa: B905 (numba knows no strict)
        for row in range(max(0, int(y) - SPOT_REACH), min(height, int(y) + SPOT_REACH + 1)):
            for column in range(max(0, int(x) - SPOT_REACH), min(width, int(x) + SPOT_REACH + 1)):
                if image[row, column] != MASKED:
                    squared = (row - y) ** 2 + (column - x) ** 2
                    count = image[row, column] + int(peak * math.exp(-squared / (2 * SPOT_WIDTH**2)))
                    image[row, column] = min(count, FULL)
