"""A part of the image."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lima2_tango.core.errors import ParamError
from lima2_tango.core.frame import Block, FrameSpec
from lima2_tango.core.pool import Pool
from lima2_tango.processing.node import Mask, Node

from .derive import derive


@dataclass(frozen=True, slots=True)
class Crop(Node):
    """Keeps a rectangle of every channel [pixel]. It copies: what follows needs frames without gaps.

    Pixel (row i, column j) of what leaves is (y + i, x + j) of what enters.
    """

    x: int
    """First column kept."""
    y: int
    """First row kept."""
    width: int
    height: int

    def output_spec(self, spec: FrameSpec) -> FrameSpec:
        inside = 0 <= self.x and 0 <= self.y and self.x + self.width <= spec.width
        if not (inside and self.y + self.height <= spec.height and self.width > 0 and self.height > 0):
            given = {
                "topleft": {"x": self.x, "y": self.y},
                "dimensions": {"x": self.width, "y": self.height},
            }
            raise ParamError(
                "$.img.roi",
                given,
                f"the region must have pixels and lie in the image of {spec.width} x {spec.height} pixels (x, y), "
                "which is counted after binning; 0 x 0 is the whole image",
            )
        return FrameSpec(spec.channels, self.height, self.width, spec.dtype)

    def output_valid(self, valid: Mask | None) -> Mask | None:
        rows, columns = slice(self.y, self.y + self.height), slice(self.x, self.x + self.width)
        return None if valid is None else np.ascontiguousarray(valid[..., rows, columns])

    def process(self, block: Block, pool: Pool) -> Block:
        rows = slice(self.y, self.y + self.height)
        columns = slice(self.x, self.x + self.width)

        def fill(out: NDArray[Any]) -> None:
            np.copyto(out, block.data[:, :, rows, columns])  # releases the GIL

        return derive(block, self.output_spec(block.spec), pool, fill)
