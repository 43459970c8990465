"""Regions of interest as the clients send them."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from .params import Int, Params

Pixel = Annotated[Int, Field(ge=0, le=65535)]
Size = Annotated[Int, Field(ge=1, le=65535)]


class PixelPosition(Params):
    x: Pixel = 0
    """Column [pixel]."""
    y: Pixel = 0
    """Row [pixel]."""


class PixelSize(Params):
    x: Size = 1
    """Columns [pixel]."""
    y: Size = 1
    """Rows [pixel]."""


class Rectangle(Params):
    """Pixels with topleft.x <= column < topleft.x + dimensions.x, and rows alike."""

    topleft: PixelPosition = PixelPosition()
    dimensions: PixelSize = PixelSize()


Coordinate = Annotated[float, Field(ge=-1e12, le=1e12)]
Radius = Annotated[float, Field(ge=0, le=1e12)]


class Position(Params):
    x: Coordinate = 0.0
    """Along a row [pixel]; a pixel's centre has whole coordinates."""
    y: Coordinate = 0.0
    """Along a column [pixel]; a pixel's centre has whole coordinates."""


class Arc(Params):
    """Pixels whose centre lies at a radius in [r1, r2) and an angle in [a1, a2) from the centre.

    A point at radius r and angle a is x = center.x + r cos a, y = center.y + r sin a in image axes (y downwards).
    """

    center: Position = Position()
    r1: Radius = 0.0
    """Inner radius [pixel]."""
    r2: Radius = 1.0
    """Outer radius [pixel]."""
    a1: float = 0.0
    """Angle where the arc begins [degree]."""
    a2: float = 360.0
    """Angle where the arc ends [degree]; a span of 360 or more is the whole ring."""


class Direction(StrEnum):
    """Which way a profile runs: along a row (one value per column) or along a column (one value per row)."""

    HORIZONTAL = "horizontal"
    VERTICAL = "vertical"
