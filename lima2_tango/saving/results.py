"""The file of a processing without an acquisition: rows of reduced data, and links to the files of its frames.

::

    /                              NXroot
      entry_0000                   NXentry: program_name
        frames, dense, fai, ...    NXdata of each saved stream: a link into its file beside this one
        roi_statistics, ...        rows [row] as the clients pop them, in order: a structured array
        process                    NXprocess: program, pipeline, sources, parameters as JSON
"""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from lima2_tango.core.errors import SavingError

from .datafile import template
from .folder import remedy, translated
from .layout import PROGRAM, Field, Group, Node, SeriesMetadata
from .part import Part
from .reserve import Reserve, publish, remove_leftovers

ENTRY = "entry_0000"
LIBVER = ("earliest", "v110")
CHUNK_ROWS = 4096
"""Rows that HDF5 keeps together."""


class ResultFile:
    """Rows go in as they come; hidden until `complete`. A context that leaves nothing hidden behind."""

    def __init__(
        self, path: Path, metadata: SeriesMetadata, pipeline: str, sources: Sequence[Path], replace: bool
    ) -> None:
        """`replace`: a file of that name gives way. Raises SavingError."""
        self.path, self._replace = str(path), replace
        self._rows: dict[str, Any] = {}
        with translated(self.path, "cannot be made"):
            remove_leftovers(self.path)
            self._reserve = Reserve(self.path)
            try:
                self._part = Part(self._reserve.part)
            except BaseException:
                self._reserve.remove()
                raise
            self._part.write(memoryview(template(_tree(path, metadata, pipeline, sources), {}, 0)))
            self._file = h5py.File(self._part, "r+", libver=LIBVER)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()
        with suppress(OSError):
            self._part.close()
        with suppress(FileNotFoundError):
            os.unlink(self._reserve.part)
        self._reserve.remove()

    def append(self, name: str, rows: NDArray[np.void]) -> None:
        """Add rows to the dataset of this name, which the first ones make; raises SavingError."""
        with translated(self.path, f"rows of {name} cannot be written"):
            if name not in self._rows:
                self._rows[name] = self._file[ENTRY].create_dataset(
                    name, (0,), rows.dtype, maxshape=(None,), chunks=(CHUNK_ROWS,), shuffle=True, compression="gzip"
                )
            dataset = self._rows[name]
            done = len(dataset)
            dataset.resize(done + len(rows), axis=0)
            dataset[done:] = rows
            self._check()

    def complete(self, streams: Mapping[str, tuple[str, str]]) -> None:
        """Add the links, close, and give the file its name; raises SavingError.

        `streams`: by name, the file of a stream of frames, beside this one, and the group in it.
        """
        with translated(self.path, "it cannot be completed"):
            entry = self._file[ENTRY]
            for name, (file, group) in streams.items():
                entry[name] = h5py.ExternalLink(file, group)
            if streams:
                entry.attrs["default"] = next(iter(streams))
            self._file.close()
            self._part.settle()
            self._part.close()
        try:
            publish(self._reserve.part, self.path, self._replace)
        except FileExistsError as error:
            raise SavingError(
                f"{self.path} appeared meanwhile and is left alone: name another", file=self.path
            ) from error
        except OSError as error:
            raise SavingError(f"{self.path} cannot get its name: {remedy(error)}", file=self.path) from error

    def _check(self) -> None:
        if self._part.error:
            raise self._part.error


def _tree(path: Path, metadata: SeriesMetadata, pipeline: str, sources: Sequence[Path]) -> Group:
    json_text = {"type": "application/json"}
    process = {
        "program": Field(PROGRAM),
        "version": Field(metadata.version),
        "date": Field(datetime.now(UTC).isoformat()),
        "pipeline": Field(pipeline),
        "sources": Field("\n".join(map(str, sources)), {"what": "files of the frames, a line each"}),
        "acquisition": Field(metadata.acquisition_json, json_text),
        "processing": Field(metadata.processing_json, json_text),
    }
    entry: dict[str, Node] = {"program_name": Field(PROGRAM), "process": Group("NXprocess", process)}
    attrs = {"default": ENTRY, "file_name": path.name, "creator": PROGRAM, "creator_version": metadata.version}
    return Group("NXroot", {ENTRY: Group("NXentry", entry)}, attrs)
