"""Pixels that stand out of the background of their radius."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lima2_tango.core.sparse import HEADER, WORD, SparseSpec
from lima2_tango.processing.kernels import peaks as kernels
from lima2_tango.processing.products import PixelTables

MARGIN = 1e-5
"""Relative distance of a limit, which is asked first, below the exact one."""
Sought = tuple[bool, float, float]


@dataclass(frozen=True, slots=True)
class Picking:
    """How far above the background a pixel must be."""

    cutoff: float = 4.0
    """In deviations."""
    noise: float = 0.6
    """At least [value of a pixel at weight 1]."""


class PeakPicker:
    """Picks the pixels with x / w - mean > max(noise, cutoff * sqrt(deviation**2 + noise**2)).

    w is the weight of a pixel and x its value less the dark current. Mean and deviation at its radius are on the
    lines between the centres of the bins; below the first and above the last centre they are theirs. Pixels of
    weight 0, without a radius or a value, and dummies are not picked.

    As pyFAI's find_intense (sparsify.cl; Kieffer et al. 2025, J. Appl. Cryst. 58 138), in one channel of frames.
    """

    def __init__(self, layout: SparseSpec, tables: PixelTables, picking: Picking, sought: Sought) -> None:
        """`layout.radius` must rise. `sought` says whether there is a dummy, its value, and how near to it is one."""
        self._layout, self._picking, self._sought = layout, picking, sought
        radius2d, nb_bins = layout.radius2d.reshape(-1), layout.nb_bins
        usable = np.isfinite(radius2d) & (tables.weight > 0)
        intervals, parts = _places(layout.radius.astype(np.float64), np.where(usable, radius2d, layout.radius[0]))
        intervals[~usable] = nb_bins
        dark = np.empty(0, np.float32) if tables.dark is None else tables.dark.astype(np.float32)
        weight = np.where(usable, tables.weight, 1.0).astype(np.float32)
        self._places = intervals, parts, weight, dark
        self._weights = _extremes(weight, intervals, nb_bins)
        self._least_dark = _extremes(dark, intervals, nb_bins)[0] if dark.size else np.zeros(nb_bins)
        self.nb_usable = int(np.count_nonzero(usable))
        """Pixels that can be picked."""

    def pack(self, frames: NDArray[Any], background: NDArray[np.float64], packed: NDArray[np.uint8]) -> None:
        """Write into `packed` [frame, byte] all but the frame numbers; `background` [frame, 2, bin].

        `frames` are one channel as `kernels.layout.channel_of` gives it.
        """
        words, reals = packed.view(np.int32), packed.view(np.float32)
        heads = np.frombuffer(HEADER.pack(self._layout.width, self._layout.height, self._layout.nb_bins, 0, 0), "<i4")
        words[:, : HEADER.size // WORD] = heads
        settings = self._picking.noise, self._picking.cutoff, self._sought
        limits = self._limits(background)
        capacity = self._layout.capacity
        kernels.pick(frames, self._places, limits, background, settings, words, reals, capacity)

    def _limits(self, background: NDArray[np.float64]) -> NDArray[np.float32]:
        """[frame, interval + 1] values that no pixel is picked without exceeding."""
        lower = background.copy()
        np.minimum(background[..., :-1], background[..., 1:], out=lower[..., :-1])
        noise, cutoff = self._picking.noise, self._picking.cutoff
        above = lower[:, 0] + np.maximum(noise, cutoff * np.hypot(lower[:, 1], noise))
        least, most = self._weights
        exact = np.minimum(above * least, above * most) + self._least_dark
        limits = np.full((len(background), background.shape[2] + 1), np.inf, np.float32)
        limits[:, :-1] = exact - MARGIN * (np.abs(exact) + np.abs(self._least_dark))
        return limits


def _places(centres: NDArray[np.float64], radius: NDArray[Any]) -> tuple[NDArray[np.uint16], NDArray[np.float32]]:
    """Of each radius the number of the centre below it, and how far it is from there to the next."""
    below = np.clip(np.searchsorted(centres, radius, side="right") - 1, 0, max(0, len(centres) - 2))
    if len(centres) == 1:
        return below.astype(np.uint16), np.zeros(len(radius), np.float32)
    parts = (radius - centres[below]) / np.diff(centres)[below]
    return below.astype(np.uint16), np.clip(parts, 0, 1).astype(np.float32)


def _extremes(
    values: NDArray[np.float32], intervals: NDArray[np.uint16], nb_bins: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Least and largest value in each interval, (0, 0) where there is none."""
    least, most = np.full(nb_bins + 1, np.inf), np.full(nb_bins + 1, -np.inf)
    np.minimum.at(least, intervals, values)
    np.maximum.at(most, intervals, values)
    empty = least > most
    least[empty] = most[empty] = 0.0
    return least[:nb_bins], most[:nb_bins]
