"""Files of a run, read back: a master file, or data files of any number of receivers, as one series in order."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from resource import RLIMIT_NOFILE, getrlimit
from types import TracebackType
from typing import Any, Self

import h5py
import hdf5plugin  # noqa: F401 (tells HDF5 how the frames are compressed)
import numpy as np
from numpy.typing import NDArray

from lima2_tango.core.errors import DataLossError, NotAvailableError, ParamError
from lima2_tango.saving.positioners import read_positioners

from .link import Frame
from .records import RunRecord

MASTER = "_master.h5"
SPARE_FILES = 64
"""What else a process has open, of the files that it may open."""


class _Source:
    """One file: its images and, for each row, which frame it is."""

    def __init__(self, path: Path) -> None:
        """Raises NotAvailableError for what is no file of a run, DataLossError for a master whose files are gone."""
        try:
            self.file = h5py.File(path, "r")
        except OSError as error:
            raise NotAvailableError(f"{path} cannot be read: {error}") from error
        try:
            self.images = self._find()
            _check_sources(self.images, path)
            self.index = self._numbers()
            self.valid = self._column("valid", np.bool_, np.ones(len(self.images), np.bool_))
        except BaseException:
            self.file.close()
            raise

    @property
    def detector(self) -> h5py.Group:
        return self.images.parent

    def _find(self) -> h5py.Dataset:
        """The default plot of a NeXus file, where it really is: beside it is what else is known of its frames."""
        node: Any = self.file
        for _ in range(2):
            node = node.get(node.attrs.get("default", ""), None) or node
        signal = node.attrs.get("signal", "data")
        link = node.get(signal, getlink=True)
        found = node.get(link.path if isinstance(link, h5py.SoftLink) else signal, None)
        if not isinstance(found, h5py.Dataset) or found.ndim < 2:
            raise NotAvailableError(f"{self.file.filename} has no dense frames: no file of a run, or a sparse one")
        return found

    def _numbers(self) -> NDArray[np.int64]:
        rows = len(self.images)
        receiver = self.detector.get("receiver")
        if receiver is not None and "frame_idx" not in self.detector and "first_frame" in receiver:
            return np.linspace(receiver["first_frame"][()], receiver["last_frame"][()], rows).round().astype(np.int64)
        return self._column("frame_idx", np.int64, np.arange(rows))

    def _column(self, name: str, dtype: type, otherwise: NDArray[Any]) -> NDArray[Any]:
        """A value for each row."""
        if name not in self.detector:
            return otherwise
        found: NDArray[Any] = self.detector[name][...].astype(dtype)
        return found


class SavedRun:
    """Frames of a run, in order of their global index; a context manager that closes the files.

    Raises DataLossError where the files are not of one series: frames of different shapes, or one frame twice.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = tuple(paths)
        self._sources: list[_Source] = []
        try:
            for path in self.paths:
                self._sources.append(_Source(path))
            self._arrange()
        except BaseException:
            self.close()
            raise

    def _arrange(self) -> None:
        numbers = np.concatenate([source.index for source in self._sources])
        self._rows = np.argsort(numbers, kind="stable")
        self.index: NDArray[np.int64] = numbers[self._rows]
        """[frame] global indices, ascending."""
        self.valid: NDArray[np.bool_] = np.concatenate([source.valid for source in self._sources])[self._rows]
        """[frame] False for the placeholder of a frame that was lost."""
        self._ends = np.cumsum([len(source.images) for source in self._sources])
        self._check()

    def _check(self) -> None:
        kinds = {(source.images.shape[1:], source.images.dtype) for source in self._sources}
        names = ", ".join(map(str, self.paths))
        if len(kinds) > 1:
            raise DataLossError(f"these files are not of one run: their frames differ in shape or type: {names}")
        if len(double := self.index[1:][np.diff(self.index) == 0]):
            raise DataLossError(f"these files are not of one run: frame {double[0]} is there twice: {names}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Safe twice."""
        for source in self._sources:
            source.file.close()

    def __len__(self) -> int:
        return len(self.index)

    def __iter__(self) -> Iterator[Frame]:
        return (self._at(position) for position in range(len(self)))

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one frame as saved: (row, column), or with channels before."""
        return tuple(self._sources[0].images.shape[1:])

    @property
    def dtype(self) -> np.dtype:
        found: np.dtype = self._sources[0].images.dtype
        return found

    def frame(self, index: int) -> Frame:
        """By its global index; raises NotAvailableError for one that was not saved."""
        position = int(np.searchsorted(self.index, index))
        if position == len(self) or self.index[position] != index:
            held = f"{len(self)} frames from {self.index[0]} to {self.index[-1]}" if len(self) else "no frame"
            raise NotAvailableError(f"frame {index} was not saved: the files hold {held}", frame_idx=index)
        return self._at(position)

    def array(self) -> NDArray[np.generic]:
        """[frame, ...] all frames in order; takes the memory of all frames."""
        if len(self._sources) == 1 and (np.diff(self._rows) == 1).all():
            whole: NDArray[np.generic] = self._sources[0].images[...]
            return whole
        places = np.empty_like(self._rows)
        places[self._rows] = np.arange(len(self))
        result = np.empty((len(self), *self.shape), self.dtype)
        for source, end in zip(self._sources, self._ends, strict=True):
            result[places[end - len(source.images) : end]] = source.images[...]
        return result

    def parameters(self) -> dict[str, Any]:
        """`acquisition` and `processing` parameters of the run, where its files have them as JSON."""
        detector = self._sources[0].detector
        found = {}
        for name in ("acquisition", "processing"):
            for place in (f"params/{name}_json", f"params/{name}"):  # of a master file, of a data file
                if isinstance(text := detector.get(place), h5py.Dataset):
                    found[name] = json.loads(text[()])
                    break
        return found

    @property
    def detector(self) -> h5py.Group:
        """What the first file says of the detector, open for reading."""
        return self._sources[0].detector

    @property
    def images(self) -> tuple[h5py.Dataset, ...]:
        """The frames as they lie in each file, open for reading."""
        return tuple(source.images for source in self._sources)

    def positions(self) -> dict[str, NDArray[np.generic]]:
        """[frame] where each motor was, by its name, as `write_positions` has added it to a master file."""
        return read_positioners(self._sources[0].detector) if len(self._sources) == 1 else {}

    def _at(self, position: int) -> Frame:
        row = int(self._rows[position])
        number = int(np.searchsorted(self._ends, row, side="right"))
        source = self._sources[number]
        data: NDArray[np.generic] = source.images[row - int(self._ends[number]) + len(source.images)]
        return Frame(int(self.index[position]), data[np.newaxis] if data.ndim == 2 else data)


def open_run(*paths: str | Path) -> SavedRun:
    """A master file, or data files of one run; raises NotAvailableError for what cannot be read."""
    if not paths:
        raise ParamError("paths", [], "name a master file or data files")
    return SavedRun([Path(path) for path in paths])


def saved_run(record: RunRecord) -> SavedRun:
    """What a run has saved: its first master file, or all its data files where it has none.

    Raises NotAvailableError without a file, DataLossError where it has no master and more files than are named.
    """
    if not record.files:
        raise NotAvailableError(
            f"run {record.uuid} has no files: nothing was saved, or it is not over ({record.state})"
        )
    masters = [file for file in record.files if file.name.endswith(MASTER)]
    if not masters and record.nb_unnamed > 0:
        first = record.files[0]
        raise DataLossError(
            f"run {record.uuid} has no master file, and the control names {len(record.files)} of its {record.nb_files} "
            f"data files: open all of them with open_run(*Path({str(first.parent)!r}).glob('*{first.suffix}'))"
        )
    return SavedRun(masters[:1] or record.files)


def _check_sources(images: h5py.Dataset, path: Path) -> None:
    """HDF5 shows zeros in the place of files that are gone, and of those that it may not open any more."""
    if not images.is_virtual:
        return
    # A percent sign is doubled in there: HDF5 takes one for the beginning of a format.
    names = {source.file_name.replace("%%", "%") for source in images.virtual_sources()} - {"."}
    if gone := sorted(name for name in names if not (path.parent / name).exists()):
        raise DataLossError(
            f"{path} shows frames of {len(names)} files, of which {len(gone)} are gone, {gone[0]} first: put them back "
            "beside it"
        )
    limit = getrlimit(RLIMIT_NOFILE)[0]
    if len(names) > limit - SPARE_FILES:
        raise DataLossError(
            f"{path} shows frames of {len(names)} files, and this process may open {limit}: raise that limit "
            "(ulimit -n), or read the data files one by one"
        )
