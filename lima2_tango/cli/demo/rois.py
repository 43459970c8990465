"""The demo's regions of interest, and what their statistics must be."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lima2_tango.core.roi import Arc, PixelPosition, PixelSize, Position, Rectangle

from .frames import Image

RECTANGLES = (
    Rectangle(topleft=PixelPosition(x=650, y=1150), dimensions=PixelSize(x=256, y=256)),
    Rectangle(topleft=PixelPosition(x=1100, y=1875), dimensions=PixelSize(x=300, y=200)),
)
ARCS = (Arc(center=Position(x=2074.0, y=2181.0), r1=300.0, r2=420.0, a1=-55.0, a2=-25.0),)
"""None of the regions holds a masked pixel of the real frame: their statistics are those of counts."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """Of one region in one frame; `total` is the sum."""

    minimum: float
    maximum: float
    average: float
    deviation: float
    total: float

    def agrees(self, row: np.void) -> bool:
        """Whether a row as clients get it says the same: all exactly, but the deviation as far as 32-bit floats go."""
        expected = (self.minimum, self.maximum, np.float32(self.average), self.total)
        exact = expected == (row["min"], row["max"], row["avg"], row["sum"])
        return exact and math.isclose(self.deviation, row["std"], rel_tol=1e-6)


class Region:
    """One region as pixels of an image."""

    def __init__(self, roi: Rectangle | Arc) -> None:
        self._box, self._inside = _rectangle(roi) if isinstance(roi, Rectangle) else _arc(roi)

    def pixels(self, image: Image) -> Image:
        """The region's pixels, flat."""
        box = image[self._box]
        return box.reshape(-1) if self._inside is None else box[self._inside]

    def statistics(self, image: Image) -> Statistics:
        pixels = self.pixels(image)
        return Statistics(
            float(pixels.min()), float(pixels.max()), float(pixels.mean()), float(pixels.std()), float(pixels.sum())
        )


def regions() -> list[Region]:
    """All of them, in the order of the conductor's channels: rectangles before arcs."""
    return [Region(roi) for roi in (*RECTANGLES, *ARCS)]


Box = tuple[slice, slice]


def _rectangle(roi: Rectangle) -> tuple[Box, NDArray[np.bool_] | None]:
    left, top = roi.topleft.x, roi.topleft.y
    return (slice(top, top + roi.dimensions.y), slice(left, left + roi.dimensions.x)), None


def _arc(roi: Arc) -> tuple[Box, NDArray[np.bool_] | None]:
    reach = int(np.ceil(roi.r2))
    top, left = int(roi.center.y) - reach, int(roi.center.x) - reach
    y, x = np.ogrid[top : top + 2 * reach + 1, left : left + 2 * reach + 1]
    radius = np.hypot(x - roi.center.x, y - roi.center.y)
    angle = np.degrees(np.arctan2(y - roi.center.y, x - roi.center.x))
    inside = (radius >= roi.r1) & (radius < roi.r2) & ((angle - roi.a1) % 360 < roi.a2 - roi.a1)
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    rows_kept, columns_kept = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    box = slice(top + rows[0], top + rows[-1] + 1), slice(left + columns[0], left + columns[-1] + 1)
    return box, inside[rows_kept, columns_kept]
