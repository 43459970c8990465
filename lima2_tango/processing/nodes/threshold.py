"""Pixels below or above a limit taken out."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lima2_tango.core.errors import GraphError
from lima2_tango.core.frame import Block, FrameSpec
from lima2_tango.core.pool import Pool
from lima2_tango.processing.kernels.layout import flat
from lima2_tango.processing.kernels.threshold import keep_range
from lima2_tango.processing.node import Node

from .derive import derive, lines


@dataclass(frozen=True, slots=True)
class Threshold(Node):
    """A pixel keeps its value where low <= value <= high, else it is 0; so are NaN. The pixel type stays.

    Limits are compared in the pixel type: of integers, low is rounded up and high down to the next value.
    What noise leaves in dark pixels, and what a saturated or hot pixel shows, then adds nothing to what follows.
    """

    low: float = -math.inf
    """Least value kept."""
    high: float = math.inf
    """Greatest value kept."""

    def output_spec(self, spec: FrameSpec) -> FrameSpec:
        if not self.low <= self.high:
            raise GraphError(f"no value lies between {self.low} and {self.high}; give a low limit below the high one")
        return spec

    def process(self, block: Block, pool: Pool) -> Block:
        low, high = _limits(self.low, self.high, block.data.dtype)

        def fill(out: NDArray[Any]) -> None:
            keep_range(flat(block.data), low, high, lines(out))

        return derive(block, block.spec, pool, fill)


def _limits(low: float, high: float, dtype: np.dtype[Any]) -> tuple[Any, Any]:
    """The same range in values of the pixel type; 1 and 0, between which nothing lies, where none of them is in it."""
    if dtype.kind == "f":
        return _narrowed(low, dtype, up=True), _narrowed(high, dtype, up=False)
    info = np.iinfo(dtype)
    least = info.min if low <= info.min else math.ceil(low) if low <= info.max else info.max + 1
    most = info.max if high >= info.max else math.floor(high) if high >= info.min else info.min - 1
    return (dtype.type(least), dtype.type(most)) if least <= most else (dtype.type(1), dtype.type(0))


def _narrowed(limit: float, dtype: np.dtype[Any], up: bool) -> Any:
    """The nearest value of a float type that lies on the inner side of a limit."""
    with np.errstate(over="ignore"):
        near = dtype.type(limit)
    if (float(near) < limit) if up else (float(near) > limit):
        near = np.nextafter(near, dtype.type(math.inf if up else -math.inf))
    return near
