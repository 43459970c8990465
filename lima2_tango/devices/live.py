"""What people look at: the newest frame as an image, and the values of the regions of interest.

All is made when it is read. Who reads nothing costs the frames nothing, and who reads takes nothing from anybody.
"""

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tango import AttrQuality, AttrWriteType, DispLevel
from tango.server import Device, device_property

from lima2_tango.control.live import Regions
from lima2_tango.core.errors import NotAvailableError
from lima2_tango.core.live import VIDEO_IMAGE, Look, video

from .errors import as_dev_failed
from .shown import attribute

LARGEST = 4096
"""Most pixels of a side of `last_image`; as floats they are a quarter of what omniORB sends in one message."""
MOST_REGIONS = 65536
MOST_FRAMES = 65536

Timed = tuple[Any, float, AttrQuality]


def _timed(value: Any, quality: AttrQuality = AttrQuality.ATTR_VALID) -> Timed:
    return value, time.time(), quality


NO_VALUES = np.dtype([(name, "<f8") for name in ("min", "max", "avg", "std", "sum")])


def _statistic(name: str, label: str, what: str) -> Any:
    def read(device: "LiveDevice") -> NDArray[np.float64]:
        return device._regions(f"roi_{name}").newest(name)[:MOST_REGIONS]  # noqa: SLF001 - a method of that class

    read.__name__ = f"read_roi_{name}"
    return attribute(
        fget=read,
        dtype=(float,),
        max_dim_x=MOST_REGIONS,
        label=label,
        unit="count",
        format="%g",
        doc=f"{what} of each region in the newest frame, rectangles first, then arcs, as in the parameters; "
        "empty before the first frame, or without regions.",
    )


class LiveDevice(Device):
    """A device with frames to look at. Before the first frame, images are invalid and spectra are empty.

    A class says what `newest`, `make_look`, `regions` and `is_newest` are; Tango's metaclass leaves no room for ABC.
    """

    live_image_size = device_property(
        dtype=int,
        default_value=1024,
        doc="Most columns and rows of last_image and video_last_image [pixel], 4096 at most; larger frames are shown "
        "with the largest value of each square of pixels.",
    )
    _look: Look | None = None
    """The last one: many may look at one frame."""
    _looked = False
    """The call that is being answered has its look already, or cannot have one."""
    _why_not = ""
    _values_read: Regions | None = None
    """Those of the call that is being answered."""
    _region = 0
    _nb_made = 0

    def read_attr_hardware(self, attributes: Any) -> None:
        """Tango asks once for each call of a client: what it reads together is of one frame."""
        self._looked, self._values_read = False, None
        super().read_attr_hardware(attributes)

    def newest(self) -> int:
        """Global number of the newest frame; -1 before the first. Raises NotAvailableError."""
        raise NotImplementedError

    def make_look(self, limit: int) -> Look:
        """The newest frame with sides within `limit` [pixel]; raises NotAvailableError."""
        raise NotImplementedError

    def regions(self) -> Regions:
        """Values of the regions of the newest frames; raises NotAvailableError."""
        raise NotImplementedError

    def is_newest(self, look: Look) -> bool:
        """Whether a frame is still the newest, where that can be told at no cost."""
        raise NotImplementedError

    def look(self) -> Look:
        """The newest frame; one that was made before is not made again. Raises NotAvailableError."""
        if not self._looked:
            try:
                self._look, self._why_not = self._newest_look(), ""
            except NotAvailableError as error:
                self._look, self._why_not = None, error.what
            self._looked = True
        if self._look is None:
            raise NotAvailableError(self._why_not)
        return self._look

    def _newest_look(self) -> Look:
        look = self._look
        if look is not None and self.is_newest(look):
            return look
        made = self.make_look(min(max(1, self.live_image_size), LARGEST))
        self._nb_made += made is not look
        return made

    @attribute(
        label="Last image",
        dtype=((np.float32,),),
        max_dim_x=LARGEST,
        max_dim_y=LARGEST,
        format="%g",
        unit="count",
        doc="Newest processed frame, [row][column], made smaller where a side is longer than the device property "
        "live_image_size: the largest value of each square of last_image_factor pixels a side. "
        "The first channel where there are several; whole numbers above 16777216 are rounded.",
    )
    def last_image(self) -> Timed:
        with as_dev_failed("last_image"):
            try:
                return _timed(self.look().image.astype(np.float32))
            except NotAvailableError:
                return _timed(np.zeros((1, 1), np.float32), AttrQuality.ATTR_INVALID)

    @attribute(
        label="Last image (VIDEO_IMAGE)",
        dtype="DevEncoded",
        doc="Newest processed frame in LImA's encoding VIDEO_IMAGE, as small as last_image: a header of 32 bytes with "
        "the number of the frame, then pixels Y8, Y16, Y32 or Y64. Floats are rounded, negative pixels are 0.",
    )
    def video_last_image(self) -> Timed:
        with as_dev_failed("video_last_image"):
            try:
                look = self.look()
                return _timed(video(look.image, look.number))
            except NotAvailableError:
                return _timed((VIDEO_IMAGE, b""), AttrQuality.ATTR_INVALID)

    @attribute(
        label="Number of the last image",
        dtype="DevLong64",
        doc="Global number, from 0, of the newest frame that can be looked at; -1 before the first. Read after an "
        "image in one call, it is the number of that.",
    )
    def last_image_frame(self) -> int:
        with as_dev_failed("last_image_frame"):
            try:
                return self.look().number if self._looked else self.newest()
            except NotAvailableError:
                return -1

    @attribute(
        label="Factor of the last image",
        dtype="DevLong",
        unit="pixel",
        doc="Columns, and rows, of the frame in one pixel of last_image; 0 before the first frame.",
    )
    def last_image_factor(self) -> int:
        with as_dev_failed("last_image_factor"):
            try:
                return self.look().factor
            except NotAvailableError:
                return 0

    @attribute(
        label="Images made to look at",
        dtype="DevULong64",
        display_level=DispLevel.EXPERT,
        doc="How often a frame was copied for last_image or video_last_image since the start of the server: 0 where "
        "nobody reads them.",
    )
    def last_image_copies(self) -> int:
        return self._nb_made

    @attribute(
        label="Frame of the region values",
        dtype="DevLong64",
        doc="Global number, from 0, of the frame that roi_min to roi_sum are of; -1 before the first, or without "
        "regions.",
    )
    def roi_frame(self) -> int:
        frames = self._regions("roi_frame").frames
        return int(frames[-1]) if len(frames) else -1

    roi_min = _statistic("min", "Minimum of each region", "Least pixel")
    roi_max = _statistic("max", "Maximum of each region", "Largest pixel")
    roi_avg = _statistic("avg", "Mean of each region", "Mean of the pixels")
    roi_std = _statistic("std", "Deviation in each region", "Standard deviation of the pixels")
    roi_sum = _statistic("sum", "Sum of each region", "Sum of the pixels")

    @attribute(
        label="Region",
        dtype="DevLong",
        access=AttrWriteType.READ_WRITE,
        min_value=0,
        max_value=MOST_REGIONS - 1,
        doc="Which region roi_history is of, from 0: rectangles first, then arcs, as in the parameters. "
        "All clients of this device share it; it is 0 again after a restart.",
    )
    def roi_history_region(self) -> int:
        return self._region

    @roi_history_region.write  # type: ignore[no-redef]
    def roi_history_region(self, region: int) -> None:
        self._region = region

    @attribute(
        label="Sums of the region",
        dtype=(float,),
        max_dim_x=MOST_FRAMES,
        unit="count",
        format="%g",
        doc="Sums of the pixels of the region that roi_history_region chooses, of the newest frames, oldest first; as "
        "many frames as fit into 256 KiB of statistics of all regions on each receiver.",
    )
    def roi_history(self) -> NDArray[np.float64]:
        return self._regions("roi_history").history("sum", self._region)[-MOST_FRAMES:]

    @attribute(
        label="Frames of the sums",
        dtype=("DevLong64",),
        max_dim_x=MOST_FRAMES,
        doc="Global numbers, from 0, of the frames that the values of roi_history are of.",
    )
    def roi_history_frames(self) -> NDArray[np.int64]:
        return self._regions("roi_history_frames").frames[-MOST_FRAMES:].astype(np.int64)

    def _regions(self, reader: str) -> Regions:
        with as_dev_failed(reader):
            if self._values_read is None:
                try:
                    self._values_read = self.regions()
                except NotAvailableError:
                    self._values_read = Regions(np.empty(0, np.int32), np.empty((0, 0), NO_VALUES))
            return self._values_read
