"""One file of frames: HDF5 by h5py, everything else by fabio. Both are imported when the first file is opened."""

from abc import ABC, abstractmethod
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lima2_tango.core.errors import DetectorError, ParamError
from lima2_tango.core.frame import PixelType
from lima2_tango.core.imagefiles import undamaged

if TYPE_CHECKING:
    from ._stored import StoredFrames

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
UNREADABLE = (OSError, ValueError, RuntimeError, LookupError, TypeError, AttributeError, AssertionError, EOFError)
"""What fabio's and h5py's readers raise for files that are damaged, or are something else."""


class FileType(StrEnum):
    NEXUS = "nexus"
    HDF5 = "hdf5"
    EDF = "edf"
    CBF = "cbf"
    TIFF = "tiff"
    AUTO = "auto"


class FrameFile(ABC):
    """Frames of one shape in one file; opened when needed, closed at any time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.frames = 0
        self.shape = (0, 0, 0)
        """(channel, row, column)"""
        self.dtype = np.dtype(np.uint8)
        """In this machine's byte order."""
        self.alone = False
        """This format has one frame per file."""

    def read(self, first: int, step: int, out: NDArray[np.generic]) -> None:
        """The frames first, first + step, ... into `out` [frame, channel, row, column]."""
        try:
            self._read(first, step, out)
        except UNREADABLE as error:
            what = f"frame {first} of {self.path} cannot be read any more ({error}): has the file changed or gone?"
            raise DetectorError(what, path=str(self.path)) from error

    @abstractmethod
    def _read(self, first: int, step: int, out: NDArray[np.generic]) -> None: ...

    @abstractmethod
    def close(self) -> None:
        """Free the file and what is decoded of it; safe twice."""

    def _describe(self, frames: int, shape: tuple[int, ...], dtype: np.dtype, key: str, value: object) -> None:
        """Take over what was found; raises ParamError for pixels that no client knows."""
        try:
            PixelType.of(dtype)
        except KeyError:
            known = "integers of 8, 16 or 32 bits or floats of 32 or 64"
            raise ParamError(f"$.det.{key}", value, f"{self.path} holds pixels of type {dtype}; give {known}") from None
        self.frames, self.dtype = frames, dtype.newbyteorder("=")
        self.shape = (1, *shape) if len(shape) == 2 else (shape[0], shape[1], shape[2])


class HdfFile(FrameFile):
    """A dataset [row, column], [frame, row, column] or [frame, channel, row, column]; virtual ones too."""

    def __init__(self, path: Path, file_type: FileType, dataset_path: str) -> None:
        super().__init__(path)
        self._type = file_type
        self._dataset_path = dataset_path
        self._file: Any = None
        self._stored: StoredFrames | None = None
        try:
            self._dataset = self._open()
            self._check()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        if self._stored is not None:
            self._stored.close()
            self._stored = None
        if self._file is not None:
            self._file.close()
            self._file = None

    def _read(self, first: int, step: int, out: NDArray[np.generic]) -> None:
        from ._stored import stored_frames  # what decompresses takes long to import: not before a frame is read

        if self._file is None:
            self._dataset = self._open()
            self._check_unchanged()
        if self._stored is None:
            self._stored = stored_frames(self._dataset, self.path, self.shape, self.dtype)
        self._stored.read(first, step, out)

    def _check_unchanged(self) -> None:
        """Raise DetectorError where another file has taken the place of the one that Prepare saw."""
        shape, dtype = self._dataset.shape, self._dataset.dtype.newbyteorder("=")
        if shape[-2:] != self.shape[1:] or dtype != self.dtype:
            raise DetectorError(
                f"{self.path} was replaced since Prepare: it holds {shape} of {dtype}, the frames were {self.shape} of "
                f"{self.dtype}; prepare again"
            )

    def _open(self) -> Any:
        import h5py
        import hdf5plugin  # noqa: F401 - registers the filters of compressed datasets

        try:
            self._file = h5py.File(self.path, "r", locking="best-effort")
        except OSError as error:
            hdf5 = begins_as_hdf5(self.path)
            remedy = f"{error}; is it still written?" if hdf5 else "it is no HDF5 file: set $.det.file_type to auto"
            raise ParamError("$.det.file_type", self._type, f"{self.path} cannot be opened: {remedy}") from error
        try:
            found = self._file.get(self._dataset_path)
        except RuntimeError as error:  # links in a circle
            raise ParamError("$.det.dataset_path", self._dataset_path, f"{self.path}: {error}; correct it") from error
        if isinstance(found, h5py.Group):  # an NXdata group names its dataset
            found = found.get(found.attrs.get("signal", "data"))
        if not isinstance(found, h5py.Dataset):
            there = ", ".join(_datasets(self._file)) or "no images"
            raise ParamError(
                "$.det.dataset_path", self._dataset_path, f"{self.path} has no such dataset; it has {there}"
            )
        return found

    def _check(self) -> None:
        shape, path = self._dataset.shape, self._dataset_path
        if shape is None or not 2 <= len(shape) <= 4 or 0 in shape:
            reason = f"the dataset in {self.path} has the shape {shape}; give 1 or more frames in 2 to 4 dimensions"
            raise ParamError("$.det.dataset_path", path, reason)
        for source in self._dataset.virtual_sources() if self._dataset.is_virtual else ():
            if "%" not in source.file_name and not (self.path.parent / source.file_name).exists():
                reason = f"{self.path} maps its frames to {source.file_name}, which does not exist: put it beside"
                raise ParamError("$.det.dataset_path", path, reason)
        frames, image = (1, shape) if len(shape) == 2 else (shape[0], shape[1:])
        self._describe(frames, image, self._dataset.dtype, "dataset_path", path)


def _datasets(file: Any, at_most: int = 5) -> list[str]:
    """Names of the first datasets that could be images."""
    names: list[str] = []

    def visit(name: str, found: Any) -> bool | None:
        if getattr(found, "ndim", 0) >= 2:
            names.append(f"/{name}")
        return True if len(names) == at_most else None

    file.visititems(visit)
    return names


class FabioFile(FrameFile):
    """A file of EDF, CBF, TIFF, ... possibly compressed as a whole (.gz, .bz2)."""

    def __init__(self, path: Path, file_type: FileType, like: FrameFile | None = None) -> None:
        """Not opened where it holds one frame `like` another file."""
        super().__init__(path)
        self._type = file_type
        self._image: Any = None
        if like is not None:
            self.frames, self.shape, self.dtype, self.alone = 1, like.shape, like.dtype, True
        else:
            self._check()

    def close(self) -> None:
        if self._image is not None:
            self._image.close()
            self._image = None

    def _read(self, first: int, step: int, out: NDArray[np.generic]) -> None:
        try:
            with undamaged():
                self._read_whole(first, step, out)
        except BaseException:
            self.close()  # it keeps what it has decoded of a damaged frame
            raise

    def _read_whole(self, first: int, step: int, out: NDArray[np.generic]) -> None:
        """Raises ValueError for frames that are not like the first one."""
        if self._image is None:
            self._image = self._open()
        for position, number in enumerate(range(first, first + len(out) * step, step)):
            data = self._image.get_frame(number).data if self.frames > 1 else self._image.data
            if data.shape != self.shape[1:] or data.dtype.newbyteorder("=") != self.dtype:
                raise ValueError(
                    f"it is {data.shape} of {data.dtype}, the first frame {self.shape[1:]} of {self.dtype}"
                )
            out[position, 0] = data

    def _open(self) -> Any:
        import fabio

        return fabio.open(str(self.path))

    def _check(self) -> None:
        try:
            with undamaged():
                self._image = self._open()
                frames, data = self._image.nframes, self._image.data
        except UNREADABLE as error:
            what = " ".join(str(error).split()) or type(error).__name__
            raise ParamError("$.det.file_type", self._type, f"{self.path} cannot be read: {what}") from error
        if self._type is not FileType.AUTO and not isinstance(self._image, _image_class(self._type)):
            reason = f"{self.path} is something else ({type(self._image).__name__}): set $.det.file_type to auto"
            raise ParamError("$.det.file_type", self._type, reason)
        if data is None or data.ndim != 2 or not data.size:
            raise ParamError("$.det.file_type", self._type, f"{self.path} holds no two-dimensional image")
        self.alone = isinstance(self._image, _image_class(FileType.CBF))
        self._describe(frames, data.shape, data.dtype, "file_type", self._type)


def _image_class(file_type: FileType) -> type:
    from fabio import cbfimage, edfimage, tifimage

    classes: dict[FileType, type] = {
        FileType.EDF: edfimage.EdfImage,
        FileType.CBF: cbfimage.CbfImage,
        FileType.TIFF: tifimage.TifImage,
    }
    return classes[file_type]


def begins_as_hdf5(path: Path) -> bool:
    """What the first bytes say; raises ParamError where they cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(len(HDF5_MAGIC)) == HDF5_MAGIC
    except OSError as error:
        raise ParamError("$.det.base_path", str(path), f"cannot be read ({error.strerror}): allow reading") from error


def open_frame_file(path: Path, file_type: FileType, dataset_path: str) -> FrameFile:
    """Raises ParamError for a file that cannot be read as this type."""
    hdf5 = begins_as_hdf5(path) if file_type is FileType.AUTO else file_type in {FileType.NEXUS, FileType.HDF5}
    return HdfFile(path, file_type, dataset_path) if hdf5 else FabioFile(path, file_type)
