"""Statistics of regions of interest."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lima2_tango.core.frame import Block, FrameSpec
from lima2_tango.core.roi import Arc, Rectangle
from lima2_tango.processing.kernels.layout import flat
from lima2_tango.processing.kernels.statistics import region_statistics
from lima2_tango.processing.node import RowNode
from lima2_tango.processing.rows import ROI

from .regions import Mask, RowBuffer, arc_window, joined, rectangle_window, zero_of


class RoiStatistics(RowNode):
    """min, max, avg, std (of the population) and sum over the valid pixels of all channels of each region.

    A region without a valid pixel, and every region of a lost frame, gives zeros. An arc that leaves the image is
    cut at its edge. It costs the pixels of the regions only; sums of integers are exact.
    """

    dtype = ROI

    def __init__(
        self, rects: Sequence[Rectangle], arcs: Sequence[Arc], spec: FrameSpec, valid: Mask | None = None
    ) -> None:
        """Raises ParamError for a rectangle that leaves the image and for an arc without pixels."""
        windows = [rectangle_window(rect, spec, f"$.statistics.rect_rois[{i}]") for i, rect in enumerate(rects)]
        windows += [arc_window(arc, spec, f"$.statistics.arc_rois[{i}]") for i, arc in enumerate(arcs)]
        self.length = len(windows)
        """Rows per frame: rectangles first, then arcs."""
        self._runs = joined([window.runs(spec, valid) for window in windows])
        self._positions = np.arange(self.length)

    def rows(self, block: Block, recv_idx: int) -> NDArray[np.void]:
        """(n * length,) rows of type `processing.rows.ROI`, frame by frame."""
        buffer = RowBuffer.zeros(len(block), self.length)
        if self.length:
            zero = zero_of(block.data.dtype)
            region_statistics(flat(block.data), self._runs, self._positions, zero, buffer.singles, buffer.doubles)
        return buffer.finish(block, recv_idx)
