"""Saving parameters (contract section 6.5), shared by every pipeline and by cameras that save raw frames."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from .params import Int, Params


class Compression(StrEnum):
    NONE = "none"
    ZIP = "zip"
    BSHUF_LZ4 = "bshuf_lz4"


class FileExistsPolicy(StrEnum):
    ABORT = "abort"
    OVERWRITE = "overwrite"


class NbDimensions(StrEnum):
    DIM_4D = "dim_4d"
    DIM_3D_OR_4D = "dim_3d_or_4d"


NAME = "^[^/:]+$"


class SavingParams(Params):
    enabled: bool = True
    """Write the frames to HDF5 files."""
    base_path: Annotated[str, Field(min_length=1, pattern="^[^:]*$")] = "/tmp"
    """Folder of the files, made if it is missing; without a colon (clients split the file's address there)."""
    filename_format: Annotated[str, Field(min_length=1)] = (
        "{filename_prefix}_{filename_rank}_{file_number:05d}{filename_suffix}"
    )
    """Name of a file; a conductor finds only names that equal the default format's."""
    filename_prefix: Annotated[str, Field(pattern=NAME)] = "lima2"
    """Beginning of the file names."""
    filename_rank: Annotated[Int, Field(ge=0)] = 0
    """Rank of the receiver that writes; the conductor sets it."""
    filename_suffix: Annotated[str, Field(pattern=NAME)] = ".h5"
    """End of the file names."""
    start_number: Annotated[Int, Field(ge=0)] = 0
    """Number of the first file."""
    nb_frames_per_file: Annotated[Int, Field(ge=1, le=2**31 - 1)] = 50
    """Rows of a full file [frame]."""
    file_exists_policy: FileExistsPolicy = FileExistsPolicy.ABORT
    """What to do when a file exists already: abort refuses Prepare, overwrite replaces it."""
    nb_dimensions: NbDimensions = NbDimensions.DIM_3D_OR_4D
    """Shape of the dataset: dim_4d is (frame, channel, row, column); dim_3d_or_4d leaves out a single channel."""
    nx_entry_name: Annotated[str, Field(pattern=NAME)] = "entry_0000"
    """Name of the NXentry group."""
    nx_instrument_name: Annotated[str, Field(pattern=NAME)] = "instrument"
    """Name of the NXinstrument group."""
    nx_detector_name: Annotated[str, Field(pattern=NAME)] = "detector"
    """Name of the NXdetector group."""
    include_frame_idx: bool = False
    """Write the global frame number of each row to the dataset frame_idx."""
    compression: Compression = Compression.BSHUF_LZ4
    """How the chunks are compressed: none, zip (deflate) or bshuf_lz4 (bitshuffle and LZ4)."""
