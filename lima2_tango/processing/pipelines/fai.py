"""Azimuthal integration: frames saved and read as they come, and of each the average of every bin."""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from lima2_tango.core.params import Int, Params
from lima2_tango.core.storage import NAME, SavingParams
from lima2_tango.processing.params import Count, CountRateLimit, Fifo, ImageFile, Profiles, Statistics
from lima2_tango.processing.plugin import PipelinePlugin, build_graph

if TYPE_CHECKING:
    from lima2_tango.processing.graph import Graph


class FaiBuffers(Params):
    """Upper bounds: the memory budget may keep fewer frames, and a later run may need their memory."""

    nb_frames_buffer: Count = 100
    """Most frames, and most vectors, kept for readers [frame]."""
    nb_roi_statistics_buffer: Count = 100
    """A hint [frame]: rows are kept until they are popped."""
    nb_roi_profiles_buffer: Count = 100
    """A hint [frame]: rows are kept until they are popped."""
    nb_frame_idx_buffer: Count = 100
    """A hint [frame]: rows are kept until they are popped."""


class IntegrationParams(Params):
    """Azimuthal integration with a matrix and corrections that pyFAI has made; an empty path is no correction.

    Images have the shape of the frames, after the image operations, for all channels or for each; formats as for the
    mask.
    """

    channel: Annotated[Int, Field(ge=0, le=2**31 - 1)] = 0
    """Channel of the frame that is used, from 0: of a detector with thresholds those that are enabled, in its order."""
    csr_path: str = "/opt/detector/calibration/csr.h5"
    """File with the integration matrix: data, indices and indptr, in HDF5 (file.h5::/path/of/group) or npz."""
    mask_path: str = ""
    """Image of pixels to leave out: where it is not 0 a pixel is masked, as pyFAI has it ($.mask is the other way)."""
    dark_path: str = ""
    """Image to subtract from each frame before it is integrated."""
    dark_variance_path: str = ""
    """Variance of the dark image, added to that of each pixel (error models variance, poisson and hybrid)."""
    flat_path: str = ""
    """Normalisation: flat field."""
    solid_angle_path: str = ""
    """Normalisation: solid angle of each pixel, relative to that of the point of normal incidence."""
    polarization_path: str = ""
    """Normalisation: polarization of the beam."""
    absorption_path: str = ""
    """Normalisation: absorption in the sensor."""
    normalization_factor: Annotated[float, Field(gt=0)] = 1.0
    """Normalisation of all pixels, such as the monitor's counts."""
    variance_path: str = ""
    """Image of the variance of each pixel; for error model variance only."""
    error_model: Literal["no_var", "variance", "poisson", "azimuthal", "hybrid"] = "poisson"
    """Variance of a pixel: none; an image; its counts, 1 or more (poisson, hybrid); or from its scatter in the bin."""
    do_dummy: bool = False
    """Leave out pixels of a frame that have the value dummy."""
    dummy: float = 0.0
    """Value that marks a pixel as not valid, and value of bins without a valid pixel (0 without do_dummy)."""
    delta_dummy: Annotated[float, Field(ge=0)] = 0.0
    """Values this near to dummy count as dummy."""
    cl_source_path: str = "/opt/lima2/processings/common/fai/kernels"
    """Not opened: Lima2's kernels for graphics cards lie there, ours are compiled for the processor."""


class VectorSaving(SavingParams):
    filename_prefix: Annotated[str, Field(pattern=NAME)] = "lima2_fai"
    """Beginning of the file names; another than that of the frames where both go to one folder."""


class FaiParams(Params):
    class_name: Literal["LimaProcessingFai"] = "LimaProcessingFai"
    """The pipeline: azimuthal integration, regions of interest and saving of frames and vectors."""
    fifo: Fifo = Fifo()
    buffers: FaiBuffers = FaiBuffers()
    frame_idx_enabled: bool = False
    """Tell which frames this receiver got (popFrameIdx); a conductor of dynamic topology sets it."""
    mask: ImageFile = ImageFile()
    """Valid pixels: where the image is 0 a pixel is masked, becomes 0 and is left out of all that follows."""
    statistics: Statistics = Statistics(enabled=False)
    profiles: Profiles = Profiles(enabled=False)
    fai: IntegrationParams = IntegrationParams()
    max_countrate_protection: CountRateLimit = CountRateLimit()
    saving_dense: SavingParams = SavingParams()
    saving_fai: VectorSaving = VectorSaving()


def _graph() -> "Graph":
    from lima2_tango.processing.fai import GRAPH

    return GRAPH


PLUGIN = PipelinePlugin(
    class_name="LimaProcessingFai",
    doc="Azimuthal integration: frames and the average of each bin, regions of interest, saving of both.",
    params=FaiParams,
    build=build_graph(_graph),
    graph=_graph,
    frame_commands={"getFrame": "source"},
    vector_commands={"getFaiAverint": ("integrated", 0), "getFaiErrors": ("integrated", 1)},
    row_commands=("popRoiStatistics", "popRoiProfiles", "popFrameIdx"),
    info_attributes=("processed_frame_info", "vector_info"),
    progress="nb_frames_integrated",
)
