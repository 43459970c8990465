"""Parameter blocks that several pipelines share (contract section 6.5)."""

from typing import Annotated

from pydantic import Field

from lima2_tango.core.params import Int, Params
from lima2_tango.core.roi import Arc, Direction, Rectangle

Count = Annotated[Int, Field(ge=1, le=2**31 - 1)]
Channel = Annotated[Int, Field(ge=-1, le=2**31 - 1)]
"""Number of a channel, or all of them."""


class Fifo(Params):
    nb_fifo_frames: Count = 100
    """Most frames that wait for processing [frame]; an upper bound, memory may allow fewer."""


class ImageFile(Params):
    enabled: bool = False
    """Use the image."""
    path: str = ""
    """File with the image, given when it is enabled: EDF, CBF, TIFF, npy, npz, or HDF5 as file.h5::/path/of/dataset."""


class Accumulation(Params):
    enabled: bool = False
    """Sum consecutive frames of a receiver into one."""
    nb_frames: Count = 1
    """Frames in one sum [frame]; frames left over at the end are in no sum."""


class Statistics(Params):
    """Minimum, maximum, mean, standard deviation and sum of regions of the processed frame."""

    enabled: bool = True
    """Compute the statistics of the regions below."""
    channel: Channel = -1
    """Channel of the frame that the regions are in, from 0; -1 takes all channels of a region together."""
    rect_rois: list[Rectangle] = []
    """Rectangles [pixel]."""
    arc_rois: list[Arc] = []
    """Arcs [pixel, degree]; their rows come after those of the rectangles."""


class Profiles(Params):
    """Statistics of each line of regions of the processed frame."""

    enabled: bool = True
    """Compute the profiles of the regions below."""
    channel: Channel = -1
    """Channel of the frame that the regions are in, from 0; -1 takes all channels of a region together."""
    rois: list[Rectangle] = []
    """Rectangles [pixel]."""
    directions: list[Direction] = []
    """One for each of rois: vertical gives one value per row, horizontal one per column."""


class PixelCapacity(Rectangle):
    """Pixels with a limit of their own, in the coordinates of the processed frame."""

    max_countrate: Count = 100_000
    """Most counts that these pixels may take [1/s]."""


class CountRateLimit(Params):
    """Protects the detector: what to do when a pixel of a frame counts faster than it may.

    It looks at frames after the image operations and before their correction; masked pixels are left out.
    """

    enabled: bool = False
    """Watch the count rate of every pixel."""
    max_countrate: Count = 100_000
    """Most counts that a pixel may take [1/s]."""
    pixel_capacity_override: list[PixelCapacity] = []
    """Rectangles of pixels with a limit of their own; the last one that holds a pixel counts."""
    abort_on_protection: bool = True
    """Stop the run when a pixel is over its limit; else count the frames in nb_frames_over_limit."""
    ignore_max_value: bool = False
    """Do not look at pixels that have the largest value of their type, which marks defects."""
    command: str = ""
    """Program to run once when a pixel is over its limit; the device property allowed_commands must list it."""
    args: list[str] = []
    """Arguments of the program, passed on as they are, without a shell."""
