"""The data files that a master file shows: which are there, and what each says of its rows."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import h5py
import hdf5plugin  # noqa: F401 - its import makes HDF5 know the filters
import numpy as np
from numpy.typing import NDArray

from lima2_tango.core.errors import SavingError
from lima2_tango.core.storage import SavingParams

from .folder import translated
from .layout import MISSING, data_path
from .names import FileNames

Kind = Literal["dense", "vector", "sparse"]
FILES_MAX = 200_000
"""Data files that one master file may show; the time to write it grows faster than their number."""


@dataclass(frozen=True, slots=True)
class Source:
    """A data file."""

    path: str
    index: NDArray[np.int64]
    """[row] global index of the frames that it holds."""
    valid: NDArray[np.bool_]
    """[row] False for the placeholder of a lost frame."""
    missing: NDArray[np.uint64]
    """[row] bit m is set where module m is missing."""
    pointer: NDArray[np.int64]
    """[row + 1] begin of each sparse frame in the flat arrays; empty in dense files."""


def find_sources(
    saving: SavingParams, kind: Kind, row_shape: tuple[int, ...], frames: Sequence[NDArray[np.int64]]
) -> list[Source]:
    """Open each data file once; those that do not exist are left out. Raises SavingError.

    `frames` has the global indices of the rows of each receiver. A file with fewer rows counts with those it has.
    """
    files = list(_files(saving, frames))
    if len(files) > FILES_MAX:
        raise SavingError(
            f"the run has {len(files)} data files, a master file shows {FILES_MAX} at most; read them one by one, and "
            f"raise nb_frames_per_file for the next run"
        )
    return [_read(path, saving, kind, row_shape, index) for path, index in files if os.path.exists(path)]


def _files(saving: SavingParams, frames: Sequence[NDArray[np.int64]]) -> Iterator[tuple[str, NDArray[np.int64]]]:
    """Path and global indices of each file that there should be."""
    per_file = saving.nb_frames_per_file
    for rank, index in enumerate(frames):
        own = saving.model_copy(update={"filename_rank": rank})
        names = FileNames(own, "$.saving", rank, max(1, -(-len(index) // per_file)))
        for number, begin in enumerate(range(0, len(index), per_file), saving.start_number):
            yield os.path.join(saving.base_path, names.name(number)), index[begin : begin + per_file]


def _read(path: str, saving: SavingParams, kind: Kind, row_shape: tuple[int, ...], index: NDArray[np.int64]) -> Source:
    with translated(path, "the master file needs it, but it cannot be read"), h5py.File(path) as file:
        data = file[data_path(saving)]
        detector = data.parent
        _check_first(path, detector, int(index[0]))
        if kind == "sparse":
            pointer = data["frame_ptr"][:].astype(np.int64)
            rows = min(len(index), len(pointer) - 1)
        else:
            _check_shape(path, data.shape[1:], row_shape)
            pointer, rows = np.empty(0, np.int64), min(len(index), len(data))
        valid = detector["valid"][:rows].astype(np.bool_) if "valid" in detector else np.ones(rows, np.bool_)
        missing = detector[MISSING][:rows] if MISSING in detector else np.zeros(rows, np.uint64)
    return Source(path, index[:rows], valid, missing, pointer[: rows + 1])


def _check_first(path: str, detector: Any, frame: int) -> None:
    if "frame_start_number" in detector and (first := int(detector["frame_start_number"][()])) != frame:
        raise SavingError(f"{path} begins with frame {first}, the run has frame {frame} there: it is of another run")


def _check_shape(path: str, found: tuple[int, ...], expected: tuple[int, ...]) -> None:
    if found != expected:
        raise SavingError(f"{path} has frames of {found}, the run has {expected}: it is of another run")
