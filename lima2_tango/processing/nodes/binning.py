"""Sums of neighbouring pixels."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lima2_tango.core.errors import ParamError
from lima2_tango.core.frame import Block, FrameSpec
from lima2_tango.core.pool import Pool
from lima2_tango.processing.kernels.binning import bin_sum
from lima2_tango.processing.kernels.layout import flat
from lima2_tango.processing.node import Mask, Node

from .derive import derive


@dataclass(frozen=True, slots=True)
class Binning(Node):
    """Sum of x columns times y rows; columns and rows that do not fill a bin are dropped.

    Pixel (row i, column j) is the sum of the rows y i to y i + y - 1 and the columns x j to x j + x - 1.
    Integers of 8 and 16 bits become 32 bits of the same signedness, sums of 32 bits stay at the limits of their
    type. Floats keep their type; they are summed in double precision.
    """

    x: int
    """Columns summed into one [pixel]."""
    y: int
    """Rows summed into one [pixel]."""

    def output_spec(self, spec: FrameSpec) -> FrameSpec:
        if not (1 <= self.x <= spec.width and 1 <= self.y <= spec.height):
            raise ParamError(
                "$.img.binning",
                {"x": self.x, "y": self.y},
                f"bins must fit the image of {spec.width} x {spec.height} pixels (x, y); use smaller factors",
            )
        dtype = spec.dtype
        if self.x * self.y > 1 and dtype.kind in "iu" and dtype.itemsize < 4:
            dtype = np.dtype(f"{dtype.kind}4")
        return FrameSpec(spec.channels, spec.height // self.y, spec.width // self.x, dtype)

    def output_valid(self, valid: Mask | None) -> Mask | None:
        """A bin is valid where all its pixels are."""
        if valid is None:
            return None
        rows, columns = valid.shape[-2] // self.y, valid.shape[-1] // self.x
        whole = valid[..., : rows * self.y, : columns * self.x]
        return np.asarray(whole.reshape(*valid.shape[:-2], rows, self.y, columns, self.x).all(axis=(-3, -1)))

    def process(self, block: Block, pool: Pool) -> Block:
        spec = self.output_spec(block.spec)

        def fill(out: NDArray[Any]) -> None:
            sums, limits = _sum_type(block.spec.dtype, spec.dtype)
            line = np.empty(spec.width * self.x, sums)
            bin_sum(flat(block.data), block.spec.shape, (self.x, self.y), line, limits, out)

        return derive(block, spec, pool, fill)


def _sum_type(pixel: np.dtype, result: np.dtype) -> tuple[np.dtype, tuple[Any, Any]]:
    """The type that holds the sum of any bin, and the limits of the result in that type."""
    if result.kind == "f":
        return np.dtype("f8"), (np.float64(-np.inf), np.float64(np.inf))
    sums = np.dtype("i8") if pixel.itemsize >= 4 else result
    limits = np.iinfo(result)
    return sums, (sums.type(limits.min), sums.type(limits.max))
