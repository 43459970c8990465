"""Frames of any number of files as one series, in the order in which they were taken."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lima2_tango.core.errors import ParamError
from lima2_tango.core.frame import FrameSpec

from ._files import FabioFile, FileType, FrameFile, HdfFile, begins_as_hdf5
from ._recorded import ANSWER, Record, look_into

MOST_OPEN = 64
"""HDF5 files that are kept open."""


class Recording:
    """Frames in order; used by one thread at a time.

    Files that say which frame of the series each row is (our data and master files) are merged by these numbers.
    Frames of others follow each other in the order of the files, numbered from 0.
    """

    def __init__(self, paths: Sequence[Path], dataset: str = "", start: int = 0, stop: int | None = None) -> None:
        """The frames at the places `start` to `stop` - 1 of the series; all where `stop` is None.

        `dataset` is where the images of HDF5 files are, their default plot where it is empty. Raises ParamError.
        """
        self._open: list[FrameFile] = []
        self._files: list[FrameFile] = []
        self._records: list[Record] = []
        for path in paths:
            self._add(path, dataset)
        if not self._files:
            raise ParamError(ANSWER, [], "name one file or more")
        counts = [file.frames for file in self._files]
        index = self._numbers(counts)
        order = np.argsort(index, kind="stable")
        self._file = np.repeat(np.arange(len(counts)), counts)[order]
        self._row = np.concatenate([np.arange(count) for count in counts])[order]
        self._check_once(index[order])
        chosen = order[start:stop]
        if not len(chosen):
            raise ParamError(
                "$.frames", f"{start}:{'' if stop is None else stop}", f"the files hold {len(order)} frames"
            )
        self._file, self._row = self._file[start:stop], self._row[start:stop]
        self.index: NDArray[np.int64] = index[chosen]
        """[frame] number of each frame in its series, ascending."""
        self.time: NDArray[np.float64] = _joined([record.time for record in self._records], counts, 0.0)[chosen]
        """[frame] when its exposure began, seconds since the epoch (UTC); 0 where the file does not say."""
        self.valid: NDArray[np.bool_] = _joined([record.valid for record in self._records], counts, True)[chosen]
        """[frame] False for the placeholder of a lost frame."""
        first = self._files[0]
        self.paths = {file.path for file in self._files} | set(paths)
        """Files that are read: those that were named, and those behind them."""
        self.spec = FrameSpec(*first.shape, first.dtype)
        self.about = self._records[0]
        """What the first file says of the detector and of the run."""

    def __len__(self) -> int:
        return len(self.index)

    def read(self, position: int, out: NDArray[np.generic]) -> None:
        """The frames from this place in the series on into `out` [frame, channel, row, column]. Raises DetectorError.

        `out` is C-contiguous.
        """
        places = slice(position, position + len(out))
        which, rows = self._file[places], self._row[places]
        for first, last in _runs(which, rows):
            self._turn_to(self._files[which[first]]).read(int(rows[first]), 1, out[first:last])

    def close(self) -> None:
        """Close all files; safe twice, and a later `read` opens them again."""
        for file in self._files:
            file.close()
        self._open.clear()

    def _add(self, path: Path, dataset: str) -> None:
        if not path.is_file():
            raise ParamError(ANSWER, str(path), "there is no such file: correct its name")
        try:
            records = look_into(path, dataset) if begins_as_hdf5(path) else [Record(path, "")]
            for record in records:
                file = self._file_of(record)
                self._records.append(record)
                self._files.append(file)
                file.close()
        except ParamError as error:  # of the Reader's files, which speak of its parameters
            raise ParamError(ANSWER, str(path), error.reason) from error

    def _file_of(self, record: Record) -> FrameFile:
        first = self._files[0] if self._files else None
        if record.dataset:
            file: FrameFile = HdfFile(record.path, FileType.HDF5, record.dataset)
        else:
            file = FabioFile(record.path, FileType.AUTO, like=first if first is not None and first.alone else None)
        if first is not None and (file.shape, file.dtype) != (first.shape, first.dtype):
            has, had = (f"{one.shape} pixels of {one.dtype}" for one in (file, first))
            raise ParamError(ANSWER, str(record.path), f"its frames are {has}, those of {first.path} {had}")
        return file

    def _numbers(self, counts: Sequence[int]) -> NDArray[np.int64]:
        """Of all frames, file by file: their own where every file has them, else counted."""
        own = [record.index for record in self._records]
        return np.concatenate(own) if all(map(len, own)) else np.arange(sum(counts), dtype=np.int64)

    def _check_once(self, index: NDArray[np.int64]) -> None:
        """Raise ParamError where two files have the same frame."""
        twice = np.flatnonzero(np.diff(index) == 0)
        if len(twice):
            one, other = (self._files[self._file[place]].path for place in (twice[0], twice[0] + 1))
            reason = f"frame {index[twice[0]]} is in {one} too: name a master file alone, or data files of one run"
            raise ParamError(ANSWER, str(other), reason)

    def _turn_to(self, file: FrameFile) -> FrameFile:
        """Keep open what the next frames may be in: many of HDF5, whose decoded frames are small, one of others."""
        if file in self._open:
            self._open.remove(file)
        self._open.append(file)
        most = MOST_OPEN if isinstance(file, HdfFile) else 1
        while len(self._open) > most:
            self._open.pop(0).close()
        return file


def _joined(columns: Sequence[NDArray[Any]], counts: Sequence[int], otherwise: object) -> NDArray[Any]:
    """One column of all files, with a value for those that have none."""
    parts = [
        column if len(column) else np.full(count, otherwise) for column, count in zip(columns, counts, strict=True)
    ]
    return np.concatenate(parts)


def _runs(which: NDArray[np.intp], rows: NDArray[np.intp]) -> Iterator[tuple[int, int]]:
    """[first, last) of frames that lie in one file, one row after the other."""
    breaks = np.flatnonzero((np.diff(which) != 0) | (np.diff(rows) != 1)) + 1
    return pairwise([0, *breaks.tolist(), len(which)])
