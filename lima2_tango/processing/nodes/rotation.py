"""Images turned by right angles."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lima2_tango.core.frame import Block, FrameSpec
from lima2_tango.core.pool import Pool
from lima2_tango.processing.node import Mask, Node

from .derive import derive

ROW, COLUMN = -2, -1
"""Axes of an image, from the last: masks may have a channel or not."""


@dataclass(frozen=True, slots=True)
class Rotation(Node):
    """Turns every channel counter-clockwise by `turns` times 90 degrees, as `numpy.rot90` does with rows and columns.

    Row 0 is the top row. An odd number of turns swaps width and height. numpy's copy of a turned view was faster than
    a compiled loop over tiles (1.9 against 0.8 GB/s of 16 bits).
    """

    turns: int
    """Quarters of a full turn; any whole number, clockwise below 0."""

    def output_spec(self, spec: FrameSpec) -> FrameSpec:
        height, width = (spec.width, spec.height) if self.turns % 2 else (spec.height, spec.width)
        return FrameSpec(spec.channels, height, width, spec.dtype)

    def output_valid(self, valid: Mask | None) -> Mask | None:
        return None if valid is None else np.ascontiguousarray(np.rot90(valid, self.turns, (ROW, COLUMN)))

    def process(self, block: Block, pool: Pool) -> Block:
        turned = np.rot90(block.data, self.turns, (ROW, COLUMN))

        def fill(out: NDArray[Any]) -> None:
            np.copyto(out, turned)  # releases the GIL

        return derive(block, self.output_spec(block.spec), pool, fill)
