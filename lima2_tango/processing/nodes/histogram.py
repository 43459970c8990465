"""How often the values of pixels occur."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lima2_tango.core.errors import GraphError
from lima2_tango.core.frame import Block, FrameSpec
from lima2_tango.core.pool import Pool
from lima2_tango.processing.kernels.histogram import count_values
from lima2_tango.processing.kernels.layout import flat
from lima2_tango.processing.node import Mask, Node

from .derive import derive, lines


class Histogram(Node):
    """Of the valid pixels of all channels: how many lie in each of `bins` equal parts of low to high.

    A vector of uint32 for each frame: (1, 1, bins). As `numpy.histogram` of doubles with range=(low, high): a value on
    an edge goes to the upper bin, `high` itself to the last, what lies outside to none. Placeholders of lost frames are
    zeros.
    """

    def __init__(self, low: float, high: float, bins: int, spec: FrameSpec, valid: Mask | None = None) -> None:
        """Raises GraphError for a range or a number of bins that cannot be."""
        if not (np.isfinite([low, high]).all() and low < high and bins >= 1):
            raise GraphError(f"{bins} bins from {low} to {high} cannot be; give a range that rises, and a bin or more")
        self._spec, self._bins = spec, bins
        self._edges = np.linspace(low, high, bins + 1)
        if not (np.diff(self._edges) > 0).all():
            raise GraphError(f"{bins} bins from {low} to {high} are narrower than numbers are apart; use fewer bins")
        counted = np.empty(0, np.bool_) if valid is None else np.broadcast_to(valid, spec.shape).reshape(-1)
        self._counted = np.ascontiguousarray(counted)

    def output_spec(self, spec: FrameSpec) -> FrameSpec:
        if spec.shape != self._spec.shape:
            raise GraphError(f"the histogram is for frames {self._spec.shape}, not {spec.shape}")
        return FrameSpec(1, 1, self._bins, np.dtype(np.uint32))

    def output_valid(self, valid: Mask | None) -> Mask | None:
        """Masked pixels are not counted: the constructor was told which."""
        return None

    def process(self, block: Block, pool: Pool) -> Block:
        spec = self.output_spec(block.spec)

        def fill(out: NDArray[Any]) -> None:
            size = block.data[0].size if len(block) else 0
            count_values(flat(block.data), self._edges, self._counted, size, lines(out))
            if block.valid is not None:
                out[~block.valid] = 0

        return derive(block, spec, pool, fill)
