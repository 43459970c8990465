"""What a browser asks to see, as it says it."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from lima2_tango.core.params import Int, Params

LARGEST = 2048
"""Most columns and rows of a picture [pixel]."""

Start = Annotated[Int, Field(ge=0, le=65535)]
Extent = Annotated[Int, Field(ge=0, le=65535)]
Percent = Annotated[float, Field(ge=0, le=100)]


class Pool(StrEnum):
    MAX = "max"
    """The brightest pixel of each group: a single hot pixel or a spot stays visible."""
    MEAN = "mean"


class Scale(StrEnum):
    LINEAR = "linear"
    SQRT = "sqrt"
    LOG = "log"


class View(Params):
    """How one browser looks at the newest frame."""

    x: Start = 0
    """First column [pixel]."""
    y: Start = 0
    """First row [pixel]."""
    width: Extent = 0
    """Columns [pixel]; 0 is up to the last."""
    height: Extent = 0
    """Rows [pixel]; 0 is up to the last."""
    columns: Annotated[Int, Field(ge=16, le=LARGEST)] = 1024
    """Pixels of the screen that there are for a row: more are never sent."""
    rows: Annotated[Int, Field(ge=16, le=LARGEST)] = 1024
    pool: Pool = Pool.MAX
    scale: Scale = Scale.LINEAR
    low: Percent = 1.0
    """Percentile that is black [%]."""
    high: Percent = 99.9
    """Percentile that is brightest [%]."""
    limits: tuple[float, float] | None = None
    """Values that are black and brightest, in place of the percentiles [count]."""
    channel: Annotated[Int, Field(ge=0, le=63)] = 0
    mask: bool = True
    """Show masked pixels as such."""
    playing: bool = True
    """Whether pictures are wanted at all; those of a hidden tab are not."""


class Message(Params):
    """What comes over the WebSocket; each part may be left out."""

    view: View | None = None
    drawn: bool = False
    """The last picture is on the screen: another one may come."""
    pixel: tuple[Start, Start] | None = None
    """Column and row whose value is asked for [pixel]."""
