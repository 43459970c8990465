"""Acquisition parameters that every camera shares; a camera adds its own under `det`."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from .errors import ParamError
from .modules import Layout
from .params import Int, Params


class TriggerMode(StrEnum):
    INTERNAL = "internal"
    SOFTWARE = "software"
    EXTERNAL = "external"
    GATE = "gate"


class Dispatch(StrEnum):
    """How frames are dealt to receivers."""

    ROUND_ROBIN = "round_robin"
    PREDICTIVE_RANDOM = "predictive_random"
    FULL_RANDOM = "full_random"
    LEAST_LOADED = "least_loaded"


class Sharing(StrEnum):
    """How receivers share one detector."""

    FULL_FRAMES = "full_frames"
    """Each receiver acquires whole frames, its own; nothing crosses ranks."""
    DISTRIBUTED_PROCESSING = "distributed_processing"
    """The control's rank acquires all frames and scatters them."""
    PARTIAL_FRAMES = "partial_frames"
    """Each receiver acquires its modules of every frame; whole frames are assembled, receiver i % N has frame i."""
    KEPT_PARTIAL_FRAMES = "kept_partial_frames"
    """Each receiver acquires, processes and saves its part of every frame."""

    @property
    def kept(self) -> bool:
        """Every receiver has a part of every frame until the end."""
        return self is Sharing.KEPT_PARTIAL_FRAMES


class Acq(Params):
    """When frames are exposed."""

    nb_frames: Annotated[Int, Field(ge=0, le=2**31 - 1)] = 1
    """Detector frames in the series; 0 runs until stopped."""
    expo_time: Annotated[Int, Field(ge=1, le=10_000_000_000)] = 100_000
    """Exposure time of one frame [us]."""
    latency_time: Annotated[Int, Field(ge=0, le=1_000_000_000_000)] = 10
    """Dead time between the end of one exposure and the start of the next [us]."""
    trigger_mode: TriggerMode = TriggerMode.INTERNAL
    """What starts an exposure."""
    nb_frames_per_trigger: Annotated[Int, Field(ge=1, le=2**31 - 1)] = 1
    """Frames that one software or external trigger exposes."""
    acq_mode: Literal["normal"] = "normal"
    """Only normal; frames are summed by the accumulation of the processing parameters."""

    @property
    def period(self) -> float:
        """From the start of one exposure to the start of the next [s]."""
        return (self.expo_time + self.latency_time) * 1e-6

    @property
    def endless(self) -> bool:
        return self.nb_frames == 0


class XY(Params):
    x: Annotated[Int, Field(ge=0)] = 0
    """Along a row [pixel]."""
    y: Annotated[Int, Field(ge=0)] = 0
    """Along a column [pixel]."""


class BinningFactors(Params):
    x: Annotated[Int, Field(ge=1, le=256)] = 1
    """Columns summed into one [pixel]."""
    y: Annotated[Int, Field(ge=1, le=256)] = 1
    """Rows summed into one [pixel]."""


class Roi(Params):
    """A rectangle of the image; 0 x 0 is the whole image."""

    topleft: XY = XY()
    dimensions: XY = XY()


class Flip(StrEnum):
    NONE = "none"
    LEFT_RIGHT = "left_right"
    UP_DOWN = "up_down"
    ROTATE_180 = "both"


class Image(Params):
    """Image operations, in this order: binning (sum), flip, region of interest."""

    binning: BinningFactors = BinningFactors()
    roi: Roi = Roi()
    """Region kept, in pixels of the binned and flipped image."""
    flip: Flip = Flip.NONE
    """Mirror: left_right swaps columns, up_down swaps rows, both does both."""


class Shutter(Params):
    mode: Literal["manual"] = "manual"
    """Only manual: the shutter is not moved."""


class CameraAccumulation(Params):
    """Accumulation inside a camera; the processing parameters have ours."""

    nb_frames: Annotated[Int, Field(ge=1, le=1)] = 1
    """Only 1; use accumulation.nb_frames of the processing parameters."""
    expo_time: Annotated[Int, Field(ge=0)] = 1000
    """Longest exposure of a sub-frame [us]; without effect while nb_frames is 1."""
    saturated_threshold: Annotated[Int, Field(ge=0, le=0)] = 0
    """Only 0: saturated pixels are not counted."""


class Video(Params):
    auto_exposure_mode: Literal["off"] = "off"
    """Only off: the exposure time is the one asked for."""


class Alignment(Params):
    """Layout of frames in memory, which no client sees."""

    col_alignment: Annotated[Int, Field(ge=1)] = 1
    """Columns are a multiple of this [pixel]; any value gives the same image."""
    row_alignment: Annotated[Int, Field(ge=1)] = 8
    """Rows begin at a multiple of this [byte]; any value gives the same image."""
    header: Annotated[Int, Field(ge=0, le=0)] = 0
    """Only 0 bytes before a frame."""
    footer: Annotated[Int, Field(ge=0, le=0)] = 0
    """Only 0 bytes after a frame."""


class TransferSlice(Params):
    start: Annotated[Int, Field(ge=0, le=0)] = 0
    """Only 0: transfer begins with the first frame."""
    stride: Annotated[Int, Field(ge=1, le=1)] = 1
    """Only 1: every frame is transferred."""


class Transfer(Params):
    alignment: Alignment = Alignment()
    slice: TransferSlice = TransferSlice()


class AcquisitionParams(Params):
    """Root of what control and receivers take as `acq_params`; a camera's `det` comes beside `acq`."""

    acq: Acq = Acq()
    det: Params = Params()
    """Parameters of the camera; each camera's own subclass declares them."""
    img: Image = Image()
    shut: Shutter = Shutter()
    accu: CameraAccumulation = CameraAccumulation()
    vid: Video = Video()
    xfer: Transfer = Transfer()

    @property
    def dispatch(self) -> Dispatch:
        """How this camera deals its frames; one that can do otherwise overrides it."""
        return Dispatch.ROUND_ROBIN

    @property
    def sharing(self) -> Sharing:
        """How the receivers share this camera; one that can do otherwise overrides it."""
        return Sharing.FULL_FRAMES

    @property
    def pulled(self) -> bool:
        """Receivers take whatever frame comes to each next: nobody knows before who gets which."""
        return False

    @property
    def acquisition_rank(self) -> int:
        """Receiver whose process acquires, where one rank does for all; -1 for the control's."""
        return -1

    def layout(self, receivers: int) -> Layout:
        """Where the modules of each receiver lie in the frame; raises ParamError for a layout that cannot be.

        Only asked where partial frames are shared: such a camera overrides it.
        """
        raise ParamError("$.det", self.det.model_dump(mode="json"), "this camera does not deliver parts of frames")
