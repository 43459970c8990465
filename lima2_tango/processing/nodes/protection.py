"""Guard against count rates that a detector does not stand."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lima2_tango.core.frame import Block, FrameSpec
from lima2_tango.core.roi import Rectangle
from lima2_tango.processing.kernels.layout import flat
from lima2_tango.processing.kernels.protection import first_above

from .regions import Mask, rectangle_window

PATH = "$.max_countrate_protection.pixel_capacity_override"


class CountRateProtection:
    """Finds pixels whose value divided by the exposure time is above their limit.

    Masked pixels and lost frames are not looked at.
    """

    def __init__(
        self,
        limit: float,
        expo_time_us: int,
        overrides: Sequence[tuple[Rectangle, float]],
        ignore_max_value: bool,
        spec: FrameSpec,
        valid: Mask | None = None,
    ) -> None:
        """`limit` in counts/s, `expo_time_us` in microseconds; `overrides` are limits [counts/s] of rectangles.

        Where rectangles overlap the last one counts. `ignore_max_value` leaves out integers at the maximum of their
        type, with which detectors mark bad pixels. Raises ParamError where a rectangle leaves the image.
        """
        self._seconds = expo_time_us / 1e6
        self._size = spec.shape[0] * spec.height * spec.width
        limits = np.array([limit])
        if overrides or valid is not None:
            limits = np.full(spec.shape, limit)
            for i, (rect, rect_limit) in enumerate(overrides):
                window = rectangle_window(rect, spec, f"{PATH}[{i}]")
                height, width = window.inside.shape
                limits[:, window.y : window.y + height, window.x : window.x + width] = rect_limit
        top = _largest(spec.dtype)
        self._thresholds = _counts(limits * expo_time_us / 1e6, spec.dtype)
        if valid is not None:
            self._thresholds[~np.broadcast_to(valid, spec.shape)] = top
        self._thresholds = self._thresholds.reshape(-1)
        self._top = spec.dtype.type(top - 1) if ignore_max_value and spec.dtype.kind != "f" else top

    def check(self, block: Block) -> tuple[int, int, int, int, float] | None:
        """(global frame index, channel, row, column, counts/s) of the block's first offender, None without one."""
        frames = flat(block.data)
        first = 0
        while first < len(block):
            frame, pixel = first_above(frames[first:], self._thresholds, self._top, self._size)
            if frame < 0:
                return None
            first += frame
            if block.valid is None or block.valid[first]:
                channel, row, column = (int(i) for i in np.unravel_index(pixel, block.data.shape[1:]))
                rate = float(block.data[first, channel, row, column]) / self._seconds
                return int(block.index[first]), channel, row, column, rate
            first += 1
        return None


def _largest(dtype: np.dtype) -> Any:
    return dtype.type(np.inf if dtype.kind == "f" else np.iinfo(dtype).max)


def _counts(limits: NDArray[np.float64], dtype: np.dtype) -> NDArray[Any]:
    """Limits [counts] in the pixel type: for integers, value > limit is value > floor(limit)."""
    if dtype.kind == "f":
        return limits.astype(dtype)
    bounds = np.iinfo(dtype)
    return np.clip(np.floor(limits), bounds.min, bounds.max).astype(dtype)
