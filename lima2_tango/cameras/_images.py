"""The simulator's images: a pattern of real numbers, scaled, rounded and clipped to the pixel type.

Image k, channel c, pixel (x, y) is `pattern_k(x, y) * grow_k / (c + 1)`: each further channel sees less, as behind
a higher threshold. Integer types round to the nearest whole number; what leaves the type's range is clipped.
"""

from enum import StrEnum
from typing import Annotated, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from lima2_tango.core.frame import PixelType
from lima2_tango.core.params import Int, Params

ROWS = 16
"""Rows made at a time: 2048 columns of them stay in a core's cache."""

Real = NDArray[np.float64]


class Pattern(Protocol):
    """What an image shows, in real numbers."""

    @property
    def moves(self) -> bool:
        """Images differ by more than their `grow`."""

    def grow(self, k: int) -> float:
        """Factor of image k."""

    def intensity(self, k: int, rows: Real, columns: Real) -> Real:
        """Image k without its factor, as [row, column], at rows [row, 1] and columns [column]."""


class GeneratorType(StrEnum):
    GAUSS = "gauss"
    DIFFRACTION = "diffraction"
    SPIRAL = "spiral"


class Peak(Params):
    """max * exp(-4 ln 2 * r^2 / fwhm^2), with r the distance from (x0, y0)."""

    x0: float = 1024.0
    """Column of the centre [pixel]."""
    y0: float = 1024.0
    """Row of the centre [pixel]."""
    fwhm: Annotated[float, Field(gt=0)] = 128.0
    """Full width at half maximum [pixel]."""
    max: float = 100.0
    """Intensity at the centre [count]."""


class Gauss(Params):
    """Sum of peaks."""

    peaks: Annotated[tuple[Peak, ...], Field(max_length=1000)] = (Peak(),)
    """Peaks that are summed."""
    grow_factor: float = 0.0
    """Image k of the prefetched ones is multiplied by 1 + grow_factor * k."""

    @property
    def moves(self) -> bool:
        return False

    def grow(self, k: int) -> float:
        return 1.0 + self.grow_factor * k

    def intensity(self, k: int, rows: Real, columns: Real) -> Real:
        total = np.zeros((len(rows), len(columns)))
        for peak in self.peaks:
            rate = 4 * np.log(2) / peak.fwhm**2
            along_y = peak.max * np.exp(-rate * (rows - peak.y0) ** 2)
            if along_y.any():
                total += along_y * np.exp(-rate * (columns - peak.x0) ** 2)
        return total


class Diffraction(Params):
    """Rings: max / 2 * (1 + cos(2 pi r / spacing)) * exp(-r / decay), r = distance from the rings' centre.

    The centre of image k is (x0 + source_pos_x + k * source_speed_x, y0 + source_pos_y + k * source_speed_y).
    """

    x0: float = 1024.0
    """Column where a source at 0 shines [pixel]."""
    y0: float = 1024.0
    """Row where a source at 0 shines [pixel]."""
    source_pos_x: float = 5.0
    """Offset of the source along a row [pixel]."""
    source_pos_y: float = 5.0
    """Offset of the source along a column [pixel]."""
    source_speed_x: float = 0.0
    """Movement of the source along a row [pixel/image]."""
    source_speed_y: float = 0.0
    """Movement of the source along a column [pixel/image]."""
    spacing: Annotated[float, Field(gt=0)] = 64.0
    """Distance between rings [pixel]."""
    decay: Annotated[float, Field(gt=0)] = 512.0
    """Radius over which the rings weaken by a factor e [pixel]."""
    max: float = 100.0
    """Intensity at the centre [count]."""

    @property
    def moves(self) -> bool:
        return bool(self.source_speed_x or self.source_speed_y)

    def grow(self, k: int) -> float:
        return 1.0

    def intensity(self, k: int, rows: Real, columns: Real) -> Real:
        x = columns - (self.x0 + self.source_pos_x + k * self.source_speed_x)
        y = rows - (self.y0 + self.source_pos_y + k * self.source_speed_y)
        r = np.sqrt(x * x + y * y).astype(np.float32)  # cosines of 32 bits are ten times faster, and good to 1e-6
        rings: Real = (
            (1 + np.cos(r * np.float32(2 * np.pi / self.spacing))) * np.exp(r * np.float32(-1 / self.decay))
        ).astype(np.float64)
        return self.max / 2 * rings


class Spiral(Params):
    """Arms: max / 2 * (1 + cos(arms * a - 2 pi r / pitch)), at radius r and angle a from (x0, y0).

    Image k is turned by k * rotation.
    """

    x0: float = 1024.0
    """Column of the centre [pixel]."""
    y0: float = 1024.0
    """Row of the centre [pixel]."""
    arms: Annotated[Int, Field(ge=1, le=1000)] = 2
    """Number of arms."""
    pitch: Annotated[float, Field(gt=0)] = 128.0
    """Radial distance over which the intensity repeats along a line from the centre [pixel]."""
    rotation: float = 0.0
    """Turn from one image to the next [degree/image]."""
    max: float = 100.0
    """Intensity on the middle of an arm [count]."""

    @property
    def moves(self) -> bool:
        return bool(self.rotation)

    def grow(self, k: int) -> float:
        return 1.0

    def intensity(self, k: int, rows: Real, columns: Real) -> Real:
        x, y = columns - self.x0, rows - self.y0
        angle = np.arctan2(y, x) - np.radians(k * self.rotation)
        arms: Real = np.cos(self.arms * angle - np.sqrt(x * x + y * y) * (2 * np.pi / self.pitch))
        return self.max / 2 * (1 + arms)


class Generator(Params):
    """What the images show."""

    type: GeneratorType = GeneratorType.GAUSS
    """Which of the patterns below: gauss, diffraction or spiral."""
    pixel_type: PixelType = PixelType.GRAY16
    """Type of the pixels; intensities beyond its range are clipped."""
    nb_channels: Annotated[Int, Field(ge=1, le=64)] = 1
    """Channels of a frame; channel c shows the image divided by c + 1."""
    gauss: Gauss = Gauss()
    diffraction: Diffraction = Diffraction()
    spiral: Spiral = Spiral()

    @property
    def pattern(self) -> Pattern:
        patterns: dict[GeneratorType, Pattern] = {
            GeneratorType.GAUSS: self.gauss,
            GeneratorType.DIFFRACTION: self.diffraction,
            GeneratorType.SPIRAL: self.spiral,
        }
        return patterns[self.type]


def warm() -> None:
    """Compile for the pixel types that are asked for most."""
    for pixel_type in (PixelType.GRAY8, PixelType.GRAY16, PixelType.GRAY32):
        fill(Generator(pixel_type=pixel_type), np.zeros(1, np.int64), np.empty((1, 1, 1, 1), pixel_type.dtype))


def fill(
    generator: Generator, numbers: NDArray[np.int64], images: NDArray[np.generic], top: int = 0, left: int = 0
) -> None:
    """Make the images with these numbers in `images` [image, channel, row, column], from this row and column on."""
    from ._pixels import store  # numba takes most of a second to import: not before the first image is made

    pattern = generator.pattern
    _, channels, height, width = images.shape
    columns = np.arange(left, left + width, dtype=np.float64)
    for first in range(0, height, ROWS):
        rows = np.arange(top + first, top + min(first + ROWS, height), dtype=np.float64)[:, np.newaxis]
        intensity = pattern.intensity(0, rows, columns)
        for position, k in enumerate(numbers.tolist()):
            if pattern.moves:
                intensity = pattern.intensity(k, rows, columns)
            for channel in range(channels):
                store(intensity, pattern.grow(k) / (channel + 1), images[position, channel, first : first + ROWS])
