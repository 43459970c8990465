"""The master file of a run: the frames of all receivers as one dataset, in global order, whatever their number.

Dense and vector frames are shown where they are, in the data files beside it (a virtual dataset). Sparse frames are
copied. Frames that no file has are zeros (a sparse one is empty), as the placeholders of lost frames are, and the
dataset `valid` names both. It is copied, and so are the masks of missing modules: a mapping whose file is gone reads as
zeros, which would say that nothing is missing.
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from mmap import mmap
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from lima2_tango.core.errors import ParamError, SavingError
from lima2_tango.core.frame import FrameSpec
from lima2_tango.core.modules import Layout
from lima2_tango.core.storage import FileExistsPolicy, SavingParams

from .compression import compressor
from .datafile import template
from .folder import exists_already, remedy, translated
from .gather import CHUNK, gather, intensity_type, places
from .layout import SeriesMetadata, data_path, row_shape
from .master_layout import Marks, master_tree
from .names import FileNames
from .part import Part
from .reserve import Reserve, publish, remove_leftovers
from .sources import Kind, Source, find_sources
from .virtual import dataset_of_parts, virtual_dataset

LIBVER = ("v110", "v110")
"""Any HDF5 since 1.10 reads it. An older lower bound would list every frame of a mapping (a second to open)."""


def master_path(saving: SavingParams) -> Path:
    return Path(saving.base_path, f"{saving.filename_prefix}_master.h5")


def check_master(saving: SavingParams, json_path: str = "$.saving") -> None:
    """At Prepare: raise ParamError where the master file's name is taken and its file not to be replaced."""
    path = master_path(saving)
    if path.name in FileNames(saving, json_path, saving.filename_rank, 1).taken([path.name]):
        reason = f"a data file would have the name of the master file {path}; choose another format"
        raise ParamError(f"{json_path}.filename_format", saving.filename_format, reason)
    if path.is_dir() and not path.is_symlink():
        raise ParamError(f"{json_path}.filename_prefix", saving.filename_prefix, f"{path} is a folder; choose another")
    if os.path.lexists(path) and not _replaces(saving):
        raise exists_already(str(path), saving, json_path)


def write_master(
    path: Path,
    saving: SavingParams,
    kind: Kind,
    spec: FrameSpec,
    frames: Sequence[NDArray[np.int64]],
    metadata: SeriesMetadata,
) -> None:
    """Write the master file over the files of all receivers; `path` is in their folder.

    `frames[r]` are the global indices of the rows that receiver r saved, in the order of its files. A file that is not
    there, or lacks rows, leaves frames that are not valid. The file appears when it is complete; what fails
    leaves nothing behind. Raises SavingError.
    """
    shape = (spec.width,) if kind == "vector" else row_shape(saving, spec)
    index = [np.asarray(one, np.int64) for one in frames]
    nb_frames = _count(index)
    sources = find_sources(saving, kind, shape, index)
    tree = master_tree(saving, kind, metadata, _marks(sources, nb_frames), path.name, datetime.now(UTC))
    file = MasterFile(path, template(tree, {}, 0))
    try:
        with translated(str(path), "the master file cannot be written"), file:
            if kind == "sparse":
                _copy_sparse(file, saving, spec.dtype, sources, nb_frames)
            else:
                data = virtual_dataset(file.group(data_path(saving)), spec.dtype, (nb_frames, *shape), sources, path)
                data.attrs["interpretation"] = "spectrum" if kind == "vector" else "image"
        file.publish(_replaces(saving))
    finally:
        file.remove()


def write_master_of_parts(
    path: Path,
    saving: SavingParams,
    part: FrameSpec,
    layout: Layout,
    frames: Sequence[NDArray[np.int64]],
    metadata: SeriesMetadata,
) -> None:
    """As `write_master`, over files of which receiver r's hold its part of each frame (`layout.part(r)`).

    `part` says channels and pixel type. What is no module of the receiver that has it is zero. Modules are missing
    whose receiver says so, or has not got the frame; a frame is not valid where all are, as one that is assembled.
    """
    shape = row_shape(saving, FrameSpec(part.channels, layout.height, layout.width, part.dtype))
    nb_frames = max((len(index) for index in frames), default=0)
    sources: list[list[Source]] = []
    marks = Marks(np.ones(nb_frames, np.bool_), np.zeros(nb_frames, np.uint64))
    every = np.uint64(sum(layout.bits(rank) for rank in range(len(frames))))
    for rank, index in enumerate(frames):
        place = layout.part(rank)
        own = row_shape(saving, FrameSpec(part.channels, place.height, place.width, part.dtype))
        sources.append(find_sources(saving, "dense", own, [*[index[:0]] * rank, index]))
        own_marks = _marks(sources[-1], nb_frames)
        marks.missing[...] |= np.where(own_marks.valid, own_marks.missing, np.uint64(layout.bits(rank)))
    marks.valid[...] = marks.missing != every
    tree = master_tree(saving, "dense", metadata, marks, path.name, datetime.now(UTC))
    file = MasterFile(path, template(tree, {}, 0))
    try:
        with translated(str(path), "the master file cannot be written"), file:
            data = dataset_of_parts(
                file.group(data_path(saving)), part.dtype, (nb_frames, *shape), sources, layout, path
            )
            data.attrs["interpretation"] = "image"
        file.publish(_replaces(saving))
    finally:
        file.remove()


class MasterFile:
    """The file under its hidden name; a context in which it can be written, and which completes it."""

    def __init__(self, path: Path, image: bytes | mmap) -> None:
        """Begin with `image`; raises SavingError."""
        self._path = str(path)
        with translated(self._path, "the master file cannot be made"):
            remove_leftovers(self._path)
            self._reserve = Reserve(self._path)
            try:
                self._part = Part(self._reserve.part)
            except BaseException:
                self._reserve.remove()
                raise
            try:
                self._part.write(memoryview(image))
                self.check()
            except BaseException:
                self.remove()
                raise

    def __enter__(self) -> None:
        self._file = h5py.File(self._part, "r+", libver=LIBVER)

    def __exit__(self, kind: object, *_: object) -> None:
        self._file.close()
        if kind is None:
            self._part.settle()

    def group(self, path: str) -> Any:
        """The group in which `path` is to be made."""
        return self._file[os.path.dirname(path)]

    def check(self) -> None:
        """Raise OSError where the disk has refused something."""
        if self._part.error:
            raise self._part.error

    def publish(self, replace: bool) -> None:
        try:
            publish(self._reserve.part, self._path, replace)
        except FileExistsError as error:
            reason = (
                "appeared during the run, so the master file is not written; rename it, or acquire with "
                f"file_exists_policy={FileExistsPolicy.OVERWRITE}"
            )
            raise SavingError(f"{self._path} {reason}", file=self._path) from error
        except OSError as error:
            raise SavingError(f"{self._path} cannot get its name: {remedy(error)}", file=self._path) from error

    def remove(self) -> None:
        """Forget what is still hidden; nothing of it matters."""
        with suppress(OSError):
            self._part.close()
        with suppress(FileNotFoundError):
            os.unlink(self._reserve.part)
        self._reserve.remove()


def _copy_sparse(
    file: MasterFile, saving: SavingParams, dtype: np.dtype, sources: Sequence[Source], nb_frames: int
) -> None:
    path = data_path(saving)
    found = places(sources, nb_frames)
    group = file.group(path).create_group("data")
    group.attrs["NX_class"] = "NXdata"
    group.create_dataset("frame_ptr", data=found.pointer.astype(np.uint64))
    types = {"index": np.dtype(np.uint32), "intensity": intensity_type(sources, path) or dtype}
    length = int(found.pointer[-1])
    options = {**compressor(saving.compression).dataset_options, "chunks": min(CHUNK, length)} if length else {}
    made = {name: group.create_dataset(name, (length,), one, **options) for name, one in types.items()}

    def write(name: str, begin: int, values: NDArray[np.generic]) -> None:
        made[name][begin : begin + len(values)] = values
        file.check()

    gather(sources, path, found, types, write)


def _count(index: Sequence[NDArray[np.int64]]) -> int:
    """Frames of the run; raises SavingError where the indices cannot be those of one."""
    every = np.concatenate([*index, np.empty(0, np.int64)])
    if not len(every):
        return 0
    every.sort()
    if every[0] < 0:
        raise SavingError(f"no master file is written: a receiver has frame {every[0]}; frames are counted from 0")
    if len(double := every[1:][np.diff(every) == 0]):
        raise SavingError(f"no master file is written: frame {double[0]} is in the data files twice")
    return int(every[-1]) + 1


def _marks(sources: Sequence[Source], nb_frames: int) -> Marks:
    marks = Marks(np.zeros(nb_frames, np.bool_), np.zeros(nb_frames, np.uint64))
    for source in sources:
        marks.valid[source.index] = source.valid
        marks.missing[source.index] = source.missing
    return marks


def _replaces(saving: SavingParams) -> bool:
    return saving.file_exists_policy is FileExistsPolicy.OVERWRITE
