"""Statistics of regions on the frames that the page shows.

The receivers' own rows belong to whoever pops them (a conductor, a script): to take them here would take them from
there. These are of the same pixels, of the frames that are looked at.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lima2_tango.core.roi import Arc, Rectangle

KEPT = 2000
"""Points of a curve that are kept."""
Region = Rectangle | Arc
Bad = NDArray[np.bool_]
"""True where a pixel is masked."""
Part = tuple[slice, slice]
"""Rows and columns."""


@dataclass(frozen=True, slots=True)
class Point:
    """All regions of one frame."""

    number: int
    """Counts the points that were ever made."""
    frame: int
    values: tuple[tuple[float, float, float, float, float], ...]
    """Of each region: min, max, avg, std, sum [count]."""


@dataclass
class Curves:
    """The last points of the regions of one run."""

    regions: tuple[Region, ...] = ()
    uuid: str = ""
    generation: int = 0
    """Counts how often the curves began anew."""
    _points: deque[Point] = field(default_factory=lambda: deque(maxlen=KEPT))
    _made: int = 0

    def begin(self, uuid: str, regions: Sequence[Region]) -> None:
        """Another run, or other regions, are other curves."""
        if (self.uuid, self.regions) != (uuid, tuple(regions)):
            self.uuid, self.regions = uuid, tuple(regions)
            self.generation += 1
            self._points.clear()

    def add(self, frame: int, image: NDArray[np.generic], bad: Bad | None = None) -> None:
        """`image` [row, column] or [channel, row, column]; `bad` True where a pixel is masked, [row, column]."""
        if not self.regions:
            return
        self._made += 1
        self._points.append(Point(self._made, frame, tuple(statistics(image, each, bad) for each in self.regions)))

    @property
    def last(self) -> int:
        """Number of the newest point that was ever made."""
        return self._made

    def since(self, number: int) -> list[Point]:
        """Points after the one of that number."""
        return [point for point in list(self._points) if point.number > number]


def regions_of(proc: Mapping[str, Any]) -> list[Region]:
    """Regions in the processing parameters, rectangles first, as their rows come."""
    block = proc.get("statistics") or {}
    rectangles = [Rectangle.model_validate(each) for each in block.get("rect_rois", ())]
    return [*rectangles, *(Arc.model_validate(each) for each in block.get("arc_rois", ()))]


def channel_of(proc: Mapping[str, Any], data: NDArray[np.generic]) -> NDArray[np.generic]:
    """What the pipeline's statistics are of: all channels of a frame [channel, row, column], or one."""
    channel = int((proc.get("statistics") or {}).get("channel", -1))
    return data[channel : channel + 1] if 0 <= channel < len(data) else data


def statistics(
    image: NDArray[np.generic], region: Region, bad: Bad | None = None
) -> tuple[float, float, float, float, float]:
    """min, max, avg, std, sum of the pixels of an image in a region but the masked; zeros where there are none."""
    part = _rectangle(region) if isinstance(region, Rectangle) else _bounds(image, region)
    pixels: NDArray[Any] = image[..., *part]
    wanted = None if isinstance(region, Rectangle) else _inside(part, region)
    if bad is not None:
        wanted = ~bad[part] if wanted is None else wanted & ~bad[part]
    if wanted is not None:
        pixels = pixels[..., wanted]
    if not pixels.size:
        return 0.0, 0.0, 0.0, 0.0, 0.0
    total = float(pixels.sum(dtype=np.float64))
    return float(pixels.min()), float(pixels.max()), total / pixels.size, float(pixels.std(dtype=np.float64)), total


def _rectangle(region: Rectangle) -> Part:
    x, y = region.topleft.x, region.topleft.y
    return slice(y, y + region.dimensions.y), slice(x, x + region.dimensions.x)


def _bounds(image: NDArray[np.generic], arc: Arc) -> Part:
    """Rows and columns of an image that an arc may have."""
    rows, columns = image.shape[-2:]
    left, right = (int(np.clip(edge, 0, columns)) for edge in (arc.center.x - arc.r2, arc.center.x + arc.r2 + 2))
    top, bottom = (int(np.clip(edge, 0, rows)) for edge in (arc.center.y - arc.r2, arc.center.y + arc.r2 + 2))
    return slice(top, bottom), slice(left, right)


def _inside(part: Part, arc: Arc) -> Bad:
    """Which pixels have their centre at a radius in [r1, r2) and an angle in [a1, a2), as `core.roi` says."""
    dy, dx = np.ogrid[part]
    dx, dy = dx - arc.center.x, dy - arc.center.y
    square = dx**2 + dy**2
    inside: Bad = (square >= arc.r1**2) & (square < arc.r2**2)
    if arc.a2 - arc.a1 < 360:
        inside &= (np.degrees(np.arctan2(dy, dx)) - arc.a1) % 360 < arc.a2 - arc.a1
    return inside
