"""Profiles of regions of interest."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lima2_tango.core.errors import ParamError
from lima2_tango.core.frame import Block, FrameSpec
from lima2_tango.core.roi import Direction, Rectangle
from lima2_tango.processing.kernels.layout import flat
from lima2_tango.processing.kernels.profiles import column_statistics
from lima2_tango.processing.kernels.statistics import region_statistics
from lima2_tango.processing.node import RowNode
from lima2_tango.processing.rows import ROI

from .regions import Indices, Mask, RowBuffer, Runs, joined, rectangle_window, zero_of


@dataclass(frozen=True, slots=True)
class _Columns:
    """One horizontal profile: its first row, its runs (starts, stops, first column), its pixels per column."""

    first: int
    runs: tuple[Indices, Indices, Indices]
    counts: Indices


class RoiProfiles(RowNode):
    """Statistics of each row (vertical) or each column (horizontal) of rectangles, over all channels.

    Values are those of `RoiStatistics`; a line without a valid pixel, and every line of a lost frame, gives zeros.
    """

    dtype = ROI

    def __init__(
        self, rois: Sequence[Rectangle], directions: Sequence[Direction], spec: FrameSpec, valid: Mask | None = None
    ) -> None:
        """Raises ParamError where a rectangle leaves the image or lacks a direction."""
        if len(rois) != len(directions):
            raise ParamError(
                "$.profiles.directions",
                [str(direction) for direction in directions],
                f"there are {len(rois)} regions and {len(directions)} directions; give one direction per region",
            )
        self.length = 0
        """Rows per frame: profiles in their order, one after the other."""
        lines: list[Runs] = []
        positions: list[int] = []
        self._columns: list[_Columns] = []
        for i, (rect, direction) in enumerate(zip(rois, directions, strict=True)):
            runs = rectangle_window(rect, spec, f"$.profiles.rois[{i}]").runs(spec, valid)
            length = rect.dimensions.y if direction is Direction.VERTICAL else rect.dimensions.x
            if direction is Direction.VERTICAL:
                lines += _by_row(runs, length)
                positions += range(self.length, self.length + length)
            else:
                self._columns.append(_by_column(runs, self.length, length))
            self.length += length
        self._lines, self._positions = joined(lines), np.array(positions, np.int64)

    def rows(self, block: Block, recv_idx: int) -> NDArray[np.void]:
        """(n * length,) rows of type `processing.rows.ROI`, frame by frame."""
        buffer = RowBuffer.zeros(len(block), self.length)
        dtype, frames = block.data.dtype, flat(block.data)
        zero, extremes = zero_of(dtype), _extremes(dtype)
        if len(self._positions):
            region_statistics(frames, self._lines, self._positions, zero, buffer.singles, buffer.doubles)
        for profile in self._columns:
            shape = profile.first, profile.counts
            column_statistics(frames, profile.runs, shape, extremes, zero, buffer.singles, buffer.doubles)
        return buffer.finish(block, recv_idx)


def _by_row(runs: Runs, height: int) -> list[Runs]:
    """The runs of each row of the window, those of all channels together."""
    order = np.argsort(runs.rows, kind="stable")
    cuts = np.searchsorted(runs.rows[order], np.arange(1, height))
    return [
        Runs(runs.starts[part], runs.stops[part], runs.rows[part], runs.columns[part]) for part in np.split(order, cuts)
    ]


def _by_column(runs: Runs, first: int, width: int) -> _Columns:
    edges = np.zeros(width + 1, np.int64)
    np.add.at(edges, runs.columns, 1)
    np.add.at(edges, runs.columns + runs.stops - runs.starts, -1)
    counts = np.cumsum(edges[:-1])
    return _Columns(first, (runs.starts, runs.stops, runs.columns), counts)


def _extremes(dtype: np.dtype) -> tuple[Any, Any]:
    """Largest and smallest value of a pixel type."""
    if dtype.kind == "f":
        return dtype.type(np.inf), dtype.type(-np.inf)
    limits = np.iinfo(dtype)
    return dtype.type(limits.max), dtype.type(limits.min)
