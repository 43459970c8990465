"""The frames of consecutively numbered files, as one sequence."""

import os
from collections.abc import Iterator
from pathlib import Path
from string import Formatter
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from lima2_tango.core.errors import ParamError
from lima2_tango.core.frame import FrameSpec
from lima2_tango.core.params import Int, Params

from ._files import FabioFile, FileType, FrameFile, open_frame_file

MOST_OPEN = 64
"""Files kept open between the look at them and their reading."""
PART = "^[^/]*$"
FIELDS = {"filename_prefix", "filename_rank", "file_number", "filename_suffix"}


class FrameSlice(Params):
    """Which frames of the files are shown."""

    start: Annotated[Int, Field(ge=0, le=2**31 - 1)] = 0
    """First frame [frame]."""
    count: Annotated[Int, Field(ge=0, le=2**31 - 1)] = 0
    """Frames shown; 0 for all that there are [frame]."""
    stride: Annotated[Int, Field(ge=1, le=2**31 - 1)] = 1
    """From one shown frame to the next [frame]."""


class FileSelection(Params):
    """Files and the frames in them."""

    base_path: str = "/tmp"
    """Folder of the files."""
    dataset_path: str = "/entry_0000/measurement/data"
    """Dataset of the frames in an HDF5 file, or the NXdata group around it."""
    file_type: FileType = FileType.NEXUS
    """nexus and hdf5 are HDF5; edf, cbf and tiff may be compressed (.gz, .bz2); auto looks into the file."""
    filename_format: str = "{filename_prefix}_{filename_rank}_{file_number:05d}{filename_suffix}"
    """Name of a file; without file_number there is only one."""
    filename_prefix: Annotated[str, Field(pattern=PART)] = "lima2"
    """Beginning of the file names."""
    filename_rank: Annotated[Int, Field(ge=0)] = 0
    """Rank in the file names; all receivers read the same files."""
    filename_suffix: Annotated[str, Field(pattern=PART)] = ".h5"
    """End of the file names."""
    frame_slice: FrameSlice = FrameSlice()
    nb_frames_per_file: Annotated[Int, Field(ge=1)] = 50
    """Frames that a file is expected to hold; the files tell how many they do [frame]."""
    start_number: Annotated[Int, Field(ge=0)] = 0
    """Number of the first file."""

    def paths(self) -> Iterator[Path]:
        """Files from `start_number` on while they exist; raises ParamError where there is none."""
        numbered = self._check_format()
        path = self._path(self.start_number)
        if not self.base_path:
            raise ParamError("$.det.base_path", "", "give the folder of the files")
        if not os.path.isdir(self.base_path):
            raise ParamError("$.det.base_path", self.base_path, "there is no such folder: correct it")
        if not os.path.isfile(path):
            key, value = ("start_number", self.start_number) if numbered else ("filename_format", self.filename_format)
            raise ParamError(f"$.det.{key}", value, f"there is no file {path}: correct the name or the folder")
        number = self.start_number
        while os.path.isfile(path):
            yield path
            if not numbered:
                return
            number += 1
            path = self._path(number)

    def _check_format(self) -> bool:
        """Whether the names are numbered; raises ParamError for a name that cannot be made."""
        path, value = "$.det.filename_format", self.filename_format
        try:
            fields = {name for _, name, _, _ in Formatter().parse(value) if name is not None}
            unknown = fields - FIELDS
            if unknown:
                choices = ", ".join(sorted(FIELDS))
                raise ParamError(path, value, f"there is no field {min(unknown)!r}; use {choices}")
            name = self._path(self.start_number).relative_to(self.base_path)
        except (ValueError, LookupError) as error:
            raise ParamError(path, value, f"this is no format of a file name: {error}") from error
        if len(name.parts) != 1 or ".." in name.parts:
            raise ParamError(path, value, "a file name has no folder in it: give the folder as $.det.base_path")
        return "file_number" in fields

    def _path(self, number: int) -> Path:
        name = self.filename_format.format(
            filename_prefix=self.filename_prefix,
            filename_rank=self.filename_rank,
            file_number=number,
            filename_suffix=self.filename_suffix,
        )
        return Path(self.base_path) / name


class FrameFiles:
    """The selected frames, numbered from 0; one file is open at a time, or those of the first `keep` frames."""

    def __init__(self, selection: FileSelection, at_most: int = 0, keep: int = 0) -> None:
        """Looks at no more files than `at_most` selected frames need (0: at all). Raises ParamError."""
        self._slice = selection.frame_slice
        self._files: list[FrameFile] = []
        self._ends: list[int] = []
        limits = [limit for limit in (at_most, self._slice.count) if limit]
        needed = self._slice.start + (min(limits) - 1) * self._slice.stride + 1 if limits else 0
        try:
            for path in selection.paths():
                self._add(path, selection, keep)
                if needed and self._ends[-1] >= needed:
                    break
            self.count = self._select(selection)
            if self._ends[-1] > keep or len(self._files) > MOST_OPEN:
                self.close()
        except BaseException:
            self.close()
            raise
        first = self._files[0]
        self.spec = FrameSpec(*first.shape, first.dtype)
        self._open: FrameFile | None = None

    def read(self, numbers: NDArray[np.int64], out: NDArray[np.generic]) -> None:
        """The selected frames with these numbers into `out` [frame, channel, row, column]; raises DetectorError."""
        sources = self._slice.start + numbers * self._slice.stride
        done = 0
        while done < len(sources):
            which = int(np.searchsorted(self._ends, sources[done], "right"))
            step = max(int(sources[done + 1] - sources[done]), 1) if done + 1 < len(sources) else 1
            rest = sources[done:]
            run = (rest == rest[0] + step * np.arange(len(rest))) & (rest < self._ends[which])
            length = len(rest) if run.all() else int(run.argmin())
            file = self._turn_to(self._files[which])
            file.read(int(rest[0]) - self._ends[which] + file.frames, step, out[done : done + length])
            done += length

    def close(self) -> None:
        """Close all files; safe twice. A later `read` opens them again."""
        for file in self._files:
            file.close()

    def _turn_to(self, file: FrameFile) -> FrameFile:
        if self._open is not None and self._open is not file:
            self._open.close()
        self._open = file
        return file

    def _add(self, path: Path, selection: FileSelection, keep: int) -> None:
        file = self._look_at(path, selection)
        self._files.append(file)
        self._ends.append(file.frames + (self._ends[-1] if self._ends else 0))
        first = self._files[0]
        if file.shape != first.shape or file.dtype != first.dtype:
            has, had = (f"{one.shape} pixels of {one.dtype}" for one in (file, first))
            reason = f"{path} has frames of {has}, {first.path} of {had}: choose files of one kind"
            raise ParamError("$.det.start_number", selection.start_number, reason)
        if self._ends[-1] > keep or len(self._files) > MOST_OPEN:
            file.close()

    def _look_at(self, path: Path, selection: FileSelection) -> FrameFile:
        if self._files and self._files[0].alone:
            return FabioFile(path, selection.file_type, like=self._files[0])
        return open_frame_file(path, selection.file_type, selection.dataset_path)

    def _select(self, selection: FileSelection) -> int:
        """Frames that the slice leaves; raises ParamError where it asks for more than there are."""
        start, count, stride = self._slice.start, self._slice.count, self._slice.stride
        total = self._ends[-1]
        if start >= total:
            raise ParamError("$.det.frame_slice.start", start, f"the files hold only {total} frames")
        there = -(-(total - start) // stride)
        if count > there:
            raise ParamError(
                "$.det.frame_slice.count", count, f"from frame {start} on the files hold only {there} of them"
            )
        return count or there
