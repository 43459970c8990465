"""Regions of interest as runs of valid pixels, in which the statistics kernels walk through memory."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lima2_tango.core.errors import ParamError
from lima2_tango.core.frame import Block, FrameSpec
from lima2_tango.core.roi import Arc, Rectangle
from lima2_tango.processing.rows import ROI

Mask = NDArray[np.bool_]
Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Runs:
    """Run j is the pixels starts[j] to stops[j] - 1 of a flat frame; it begins in this row and column of its window."""

    starts: Indices
    stops: Indices
    rows: Indices
    columns: Indices


@dataclass(frozen=True, slots=True)
class Window:
    """A rectangle of the image and which of its pixels belong to the region."""

    x: int
    y: int
    inside: Mask
    """[row, column]"""

    def runs(self, spec: FrameSpec, valid: Mask | None) -> Runs:
        """Runs of the region's valid pixels in all channels; `valid` is (row, column) or (channel, row, column)."""
        height, width = self.inside.shape
        inside = np.broadcast_to(self.inside, (spec.channels, height, width))
        if valid is not None:
            inside = inside & valid[..., self.y : self.y + height, self.x : self.x + width]
        edges = np.zeros((spec.channels, height, width + 1), np.int8)
        edges[..., :width] = inside
        edges[..., 1:] -= inside
        channels, rows, columns = np.nonzero(edges == 1)
        stops = np.nonzero(edges == -1)[2]
        lines = (channels * spec.height + self.y + rows) * spec.width + self.x
        return Runs(lines + columns, lines + stops, rows, columns)


def rectangle_window(rect: Rectangle, spec: FrameSpec, path: str) -> Window:
    """Raises ParamError, which names `path`, where the rectangle leaves the image."""
    corner, size = rect.topleft, rect.dimensions
    if corner.x + size.x > spec.width or corner.y + size.y > spec.height:
        raise ParamError(
            path,
            rect.model_dump(),
            f"the region leaves the image of {spec.width} x {spec.height} pixels (x, y); move or shrink it",
        )
    return Window(corner.x, corner.y, np.ones((size.y, size.x), np.bool_))


def arc_window(arc: Arc, spec: FrameSpec, path: str) -> Window:
    """The part of an arc that lies on the image: a beam centre near or beyond its edge is usual.

    The centre itself has angle 0. Raises ParamError, which names `path`, where the arc is empty or has no pixel.
    """
    if arc.r2 <= arc.r1 or arc.a2 <= arc.a1:
        raise ParamError(path, arc.model_dump(), "the arc is empty: r2 must be above r1, and a2 above a1")
    left, right = _clip(arc.center.x, arc.r2, spec.width)
    top, bottom = _clip(arc.center.y, arc.r2, spec.height)
    dx = np.arange(left, right) - arc.center.x
    dy = np.arange(top, bottom)[:, np.newaxis] - arc.center.y
    squares = dx * dx + dy * dy
    inside = (squares >= arc.r1**2) & (squares < arc.r2**2)
    if arc.a2 - arc.a1 < 360:
        rows, columns = np.nonzero(inside)
        angles = np.degrees(np.arctan2(dy[rows, 0], dx[columns]))
        inside[rows, columns] = (angles - arc.a1) % 360 < arc.a2 - arc.a1
    if not inside.any():
        raise ParamError(
            path,
            arc.model_dump(),
            f"no pixel of the image of {spec.width} x {spec.height} pixels (x, y) has its centre in the arc; "
            "move or widen it",
        )
    return Window(left, top, inside)


def _clip(center: float, radius: float, size: int) -> tuple[int, int]:
    """[first, last) pixel within `radius` of `center` along an axis of `size` pixels."""
    first, last = np.clip([np.floor(center - radius), np.ceil(center + radius) + 1], 0, size)
    return int(first), int(last)


def joined(regions: Sequence[Runs]) -> tuple[Indices, Indices, Indices]:
    """(starts, stops, bounds) of several regions, as the kernels take them."""
    empty = np.empty(0, np.int64)
    starts = np.concatenate([empty, *(runs.starts for runs in regions)])
    stops = np.concatenate([empty, *(runs.stops for runs in regions)])
    bounds = np.cumsum([0, *(len(runs.starts) for runs in regions)], dtype=np.int64)
    return starts, stops, bounds


@dataclass(frozen=True, slots=True)
class RowBuffer:
    """Rows of one block, and the two views of them that kernels write: float32 and float64 words."""

    rows: NDArray[np.void]
    """[frame, row]"""
    singles: NDArray[np.float32]
    doubles: NDArray[np.float64]

    @classmethod
    def zeros(cls, n: int, length: int) -> "RowBuffer":
        rows = np.zeros((n, length), ROI)
        singles = rows.view(np.float32).reshape(n, length, ROI.itemsize // 4)
        doubles = rows.view(np.float64).reshape(n, length, ROI.itemsize // 8)
        return cls(rows, singles, doubles)

    def finish(self, block: Block, recv_idx: int) -> NDArray[np.void]:
        """The rows (n * length,) with their numbers; those of lost frames carry zeros."""
        if block.valid is not None:
            self.rows[~block.valid] = 0
        self.rows["frame_idx"] = block.index[:, np.newaxis]
        self.rows["recv_idx"] = recv_idx
        return self.rows.reshape(-1)


def zero_of(dtype: np.dtype) -> Any:
    """0 of the type in which pixels are summed: int64 is exact for integers of up to 32 bits."""
    return np.float64(0) if dtype.kind == "f" else np.int64(0)
