"""Serial crystallography: of each frame its background and the pixels that stand out of it."""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from lima2_tango.core.params import Int, Params
from lima2_tango.core.storage import NAME, SavingParams
from lima2_tango.processing.params import Count, Fifo, Profiles, Statistics
from lima2_tango.processing.pipeline import Pipeline, Setup
from lima2_tango.processing.plugin import PipelinePlugin, Product

from .fai import IntegrationParams

if TYPE_CHECKING:
    from lima2_tango.processing.graph import Graph

Real = Annotated[float, Field(ge=0)]


class SmxBuffers(Params):
    """Upper bounds: the memory budget may keep fewer frames, and a later run may need their memory."""

    nb_frames_buffer: Count = 100
    """Most frames of each stream kept for readers [frame]."""
    nb_peak_counters_buffer: Count = 100
    """A hint [frame]: rows are kept until they are popped."""
    nb_roi_statistics_buffer: Count = 100
    """A hint [frame]: rows are kept until they are popped."""
    nb_roi_profiles_buffer: Count = 100
    """A hint [frame]: rows are kept until they are popped."""
    nb_frame_idx_buffer: Count = 100
    """A hint [frame]: rows are kept until they are popped."""


class PeakParams(IntegrationParams):
    """Background of each radius by sigma clipping, and the pixels that stand out of it, as pyFAI's sparsify-Bragg."""

    radius1d_path: str = "/opt/detector/calibration/bin_centers.h5"
    """File with the centre of each bin: a row of rising numbers, in HDF5 (file.h5::/path/of/dataset), npy or text."""
    radius2d_path: str = "/opt/detector/calibration/r_center.h5"
    """Image of the radius of each pixel, in the unit of radius1d; where it is NaN no pixel is picked."""
    cutoff_clip: Real = 0.0
    """Distance from the mean beyond which a pixel is no background [sigma]; Chauvenet's criterion where wider."""
    cycle: Annotated[Int, Field(ge=0, le=1000)] = 3
    """Cycles of clipping at most [cycle]; 0 clips nothing."""
    cutoff_pick: Real = 4.0
    """Height above the background from which on a pixel is picked [sigma]."""
    noise: Real = 0.6
    """Least height above the background of a picked pixel, and added in quadrature to the deviation [count]."""
    acc_nb_frames_xfer: Annotated[Int, Field(ge=0)] = 10
    """Frames after which the sums of frames and of peaks are made readable and saved [frame]; 0 makes no sums."""
    acc_nb_frames_reset: Annotated[Int, Field(ge=0)] = 0
    """Frames after which the sums begin anew [frame]; 0 never."""


class SparseSaving(SavingParams):
    filename_prefix: Annotated[str, Field(pattern=NAME)] = "lima2_sparse"
    """Beginning of the file names; another than that of the other streams where they go to one folder."""


class CorrectedSaving(SavingParams):
    filename_prefix: Annotated[str, Field(pattern=NAME)] = "lima2_acc_corrected"
    """Beginning of the file names; another than that of the other streams where they go to one folder."""


class PeakSaving(SavingParams):
    filename_prefix: Annotated[str, Field(pattern=NAME)] = "lima2_acc_peaks"
    """Beginning of the file names; another than that of the other streams where they go to one folder."""


class SmxParams(Params):
    class_name: Literal["LimaProcessingSmx"] = "LimaProcessingSmx"
    """The pipeline: background, peaks, regions of interest and saving of frames, sparse frames and their sums."""
    fifo: Fifo = Fifo()
    buffers: SmxBuffers = SmxBuffers()
    frame_idx_enabled: bool = False
    """Tell which frames this receiver got (popFrameIdx); a conductor of dynamic topology sets it."""
    statistics: Statistics = Statistics(enabled=False)
    profiles: Profiles = Profiles(enabled=False)
    fai: PeakParams = PeakParams()
    saving_dense: SavingParams = SavingParams()
    saving_sparse: SparseSaving = SparseSaving()
    saving_accumulation_corrected: CorrectedSaving = CorrectedSaving()
    saving_accumulation_peak: PeakSaving = PeakSaving()


def _graph() -> "Graph":
    from lima2_tango.processing.smx import GRAPH

    return GRAPH


def _build(params: SmxParams, setup: Setup) -> Pipeline[SmxParams]:
    from lima2_tango.processing.smx import Smx

    return Smx(params, setup)


def _sum(label: str, saving: str) -> Product:
    """Sums of the run so far: each receiver has its own, now and then."""
    return Product(label, "dense", "processed_frame_info", f"nb_frames_{label}", saving, in_order=False)


PLUGIN = PipelinePlugin(
    class_name="LimaProcessingSmx",
    doc="Serial crystallography: background, peaks, regions of interest, saving of frames and sparse frames.",
    params=SmxParams,
    build=_build,
    graph=_graph,
    frame_commands={"getFrame": "input", "getAccCorrected": "acc_corrected", "getAccPeaks": "acc_peaks"},
    sparse_commands={"getSparseFrame": "sparse"},
    row_commands=("popPeakCounters", "popRoiStatistics", "popRoiProfiles", "popFrameIdx"),
    info_attributes=("processed_frame_info",),
    progress="nb_frames_sparse",
    beside=(
        _sum("acc_corrected", "saving_accumulation_corrected"),
        _sum("acc_peaks", "saving_accumulation_peak"),
    ),
)
