"""The default pipeline: image operations, correction, protection, accumulation, regions of interest, saving."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from lima2_tango.core.params import Int, Params
from lima2_tango.core.storage import SavingParams
from lima2_tango.processing.params import Accumulation, CountRateLimit, Fifo, ImageFile, Profiles, Statistics
from lima2_tango.processing.plugin import PipelinePlugin, build_graph

if TYPE_CHECKING:
    from lima2_tango.processing.graph import Graph

FrameLimit = Annotated[Int, Field(ge=1, le=2**31 - 1)]


class Buffers(Params):
    """Upper bounds: the memory budget may keep fewer frames, and a later run may need their memory."""

    nb_frames_buffer: FrameLimit = 100
    """Most processed frames kept for readers [frame]."""
    nb_input_frames_buffer: FrameLimit = 100
    """Most camera frames kept for readers [frame]; where nothing changes them they are the processed ones."""
    nb_roi_statistics_buffer: FrameLimit = 100
    """A hint [frame]: rows are kept until they are popped."""
    nb_roi_profiles_buffer: FrameLimit = 100
    """A hint [frame]: rows are kept until they are popped."""
    nb_frame_idx_buffer: FrameLimit = 100
    """A hint [frame]: rows are kept until they are popped."""


class LegacyParams(Params):
    class_name: Literal["LimaProcessingLegacy"] = "LimaProcessingLegacy"
    """The pipeline: correction, accumulation, regions of interest and saving of dense frames."""
    pipeline: dict[str, Any] = {}
    """Runs a pipeline of your own instead: its class_name, and the parameters that it has beside those here."""
    fifo: Fifo = Fifo()
    buffers: Buffers = Buffers()
    frame_idx_enabled: bool = False
    """Tell which frames this receiver got (popFrameIdx); a conductor of dynamic topology sets it."""
    accumulation: Accumulation = Accumulation()
    mask: ImageFile = ImageFile()
    """Valid pixels: where the image is 0 a pixel is masked, becomes 0 and is left out of the statistics."""
    flatfield: ImageFile = ImageFile()
    """Divides each frame, after the background is taken off."""
    background: ImageFile = ImageFile()
    """Subtracted from each frame."""
    statistics: Statistics = Statistics()
    profiles: Profiles = Profiles()
    max_countrate_protection: CountRateLimit = CountRateLimit()
    saving: SavingParams = SavingParams()


def _graph() -> "Graph":
    from lima2_tango.processing.legacy import GRAPH

    return GRAPH


PLUGIN = PipelinePlugin(
    class_name="LimaProcessingLegacy",
    doc="Dense frames: correction, accumulation, regions of interest, saving.",
    params=LegacyParams,
    build=build_graph(_graph),
    graph=_graph,
    frame_commands={"getInputFrame": "input", "getFrame": "processed"},
    row_commands=("popRoiStatistics", "popRoiProfiles", "popFrameIdx"),
    info_attributes=("input_frame_info", "processed_frame_info"),
    progress="nb_frames_processed",
)
