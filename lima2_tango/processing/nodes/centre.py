"""Where the intensity of a region lies."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lima2_tango.core.frame import Block, FrameSpec
from lima2_tango.core.roi import Rectangle
from lima2_tango.processing.kernels.centre import centres
from lima2_tango.processing.kernels.layout import flat
from lima2_tango.processing.node import Mask, RowNode

from .regions import joined, rectangle_window

CENTRE = np.dtype([("frame_idx", "<i4"), ("recv_idx", "<i4"), ("x", "<f8"), ("y", "<f8"), ("sum", "<f8")])
"""The centre of mass [pixel] of one region of one frame, and the sum of its pixels."""


class CentreOfMass(RowNode):
    """First moments of the valid pixels of rectangles, all channels together, over their sum.

    As `scipy.ndimage.center_of_mass`: the centre of the first pixel of the image is (0, 0), negative pixels count as
    they are. x and y are NaN where the sum is 0, as it is in a region without a valid pixel.
    """

    dtype = CENTRE

    def __init__(self, rects: Sequence[Rectangle], path: str, spec: FrameSpec, valid: Mask | None = None) -> None:
        """`path` is the JSON path of the rectangles. Raises ParamError for one that leaves the image."""
        windows = [rectangle_window(rect, spec, f"{path}[{i}]") for i, rect in enumerate(rects)]
        regions = [window.runs(spec, valid) for window in windows]
        self.length = len(windows)
        starts, stops, self._bounds = joined(regions)
        self._runs = starts, stops
        none = np.empty(0, np.int64)
        pairs = list(zip(windows, regions, strict=True))
        self._corners = (
            np.concatenate([none, *(window.x + runs.columns for window, runs in pairs)]),
            np.concatenate([none, *(window.y + runs.rows for window, runs in pairs)]),
        )

    def rows(self, block: Block, recv_idx: int) -> NDArray[np.void]:
        found = np.zeros((len(block), self.length), CENTRE)
        doubles = found.view(np.float64).reshape(len(block), self.length, CENTRE.itemsize // 8)
        centres(flat(block.data), self._runs, self._corners, self._bounds, doubles)
        if block.valid is not None:
            found[~block.valid] = 0
        found["frame_idx"], found["recv_idx"] = block.index[:, np.newaxis], recv_idx
        return found.reshape(-1)
