"""A series of files of sparse frames: the sink of packed frames (`core.sparse`).

A block's pixels are copied by the workers and compressed when they are written: they are few. HDF5 keeps what it
is given for a while, so it is asked to hand everything to the file system before the frames of a block count.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lima2_tango.core.errors import SavingError
from lima2_tango.core.frame import Block
from lima2_tango.core.sparse import SparseFrame, SparseSpec, unpacked
from lima2_tango.core.storage import SavingParams

from .datafile import DataFile, template
from .folder import translated
from .layout import Group, Rows, SeriesMetadata, data_path
from .sparse_layout import BACKGROUND, PIXELS, detector_path, merged, rows_tree, sparse_tree
from .writer import SeriesWriter, flags

CACHE_BYTES = 4 << 20
"""What HDF5 may still hold of the rows when a disk is full, generously."""


@dataclass(slots=True)
class _Encoded:
    """Frames of a block, in memory of their own."""

    local: int
    index: NDArray[np.int64]
    time: NDArray[np.float64]
    valid: NDArray[np.bool_]
    missing: NDArray[np.uint64]
    frames: list[SparseFrame]

    def rows(self, first: int, last: int) -> "_Encoded":
        part = slice(first, last)
        columns = (self.index[part], self.time[part], self.valid[part], self.missing[part])
        return _Encoded(self.local + first, *columns, self.frames[part])


class SparseFile(DataFile):
    """One file under way."""

    def __init__(self, final: str, number: int, capacity: int, image: bytes, params: SavingParams) -> None:
        self._params = params
        self._pointer = [0]
        super().__init__(final, number, capacity, image, ())

    @property
    def room(self) -> int:
        """Rows that it can still take."""
        return self._capacity - self.rows

    def add(self, encoded: _Encoded) -> int:
        """Add rows; returns the bytes of what they hold. Raises SavingError, and then none of them counts."""
        begin, end = self.rows, self.rows + len(encoded.frames)
        with translated(self.final, f"frames from {encoded.index[0]} (rows {begin} to {end - 1}) cannot be written"):
            self._write_pixels(encoded.frames, begin, end)
            for name, values in zip(BACKGROUND, _backgrounds(encoded.frames), strict=True):
                self._sparse[name].resize(end, axis=0)
                self._sparse[name][begin:end] = values
            self._file.flush()
            if error := self._part.error:
                raise error
        for row in range(len(encoded.frames)):
            valid, missing = bool(encoded.valid[row]), int(encoded.missing[row])
            self.write((), int(encoded.index[row]), float(encoded.time[row]), valid, missing)
        self._pointer += (self._pointer[-1] + np.cumsum([len(frame.pixels) for frame in encoded.frames])).tolist()
        return sum(8 * (len(frame.pixels) + len(frame.average)) for frame in encoded.frames)

    def complete(self, tree: Callable[[Rows], Group], replace: bool) -> None:
        def whole(rows: Rows) -> Group:
            pointer = np.array(self._pointer)
            for name, dataset in self._sparse.items():
                dataset.resize(int(pointer[-1]) if name in self._flat else len(rows), axis=0)
            return merged(tree(rows), rows_tree(self._params, pointer))

        super().complete(whole, replace)

    def _open(self, image: bytes, data_paths: Sequence[str]) -> None:
        self._structure += CACHE_BYTES
        super()._open(image, data_paths)
        detector, data = self._file[detector_path(self._params)], self._file[data_path(self._params)]
        self._flat = {f"data/{name}": data[name] for name in PIXELS}
        self._sparse: dict[str, Any] = {name: detector[name] for name in (*PIXELS, *BACKGROUND)} | self._flat

    def _write_pixels(self, frames: Sequence[SparseFrame], begin: int, end: int) -> None:
        first = self._pointer[-1]
        for name, arrays in (
            ("index", [frame.pixels for frame in frames]),
            ("intensity", [frame.intensity for frame in frames]),
        ):
            rows, flat = self._sparse[name], self._flat[f"data/{name}"]
            rows.resize(end, axis=0)
            for row, array in enumerate(arrays, begin):
                rows[row] = array
            values = np.concatenate(arrays)
            flat.resize(first + len(values), axis=0)
            flat[first : first + len(values)] = values


class SparseWriter(SeriesWriter):
    """Sink of one receiver's packed frames into files of `nb_frames_per_file` rows each."""

    def __init__(
        self,
        params: SavingParams,
        layout: SparseSpec,
        json_path: str,
        rank: int,
        metadata: SeriesMetadata,
        expected_frames: int | None,
    ) -> None:
        """As SeriesWriter."""
        self._layout = layout
        super().__init__(params, layout.packed, json_path, rank, metadata, expected_frames)
        self._later = self._made(self._names.name(params.start_number))

    def encode(self, block: Block) -> Any:
        """Copy the block's frames, in any number of threads at once; raises SavingError."""
        self._check_block(block)
        self._begin()
        frames = [_copied(unpacked(packed)) for packed in block.data]
        return _Encoded(block.local, block.index.copy(), block.time.copy(), *flags(block), frames)

    def append(self, encoded: Any) -> None:
        """Write what `encode` returned, in order of local index; raises SavingError, and from then on always."""
        try:
            if self._error is not None:
                raise self._error
            self._check_order(encoded)
            self._append_rows(encoded)
        except SavingError as error:
            self._error = error
            raise

    def discard(self, encoded: Any) -> None:
        """Nothing to give back: what is encoded has its own memory."""

    def _append_rows(self, encoded: _Encoded) -> None:
        first, count = 0, len(encoded.frames)
        while first < count:
            file = self._sparse_file()
            last = min(count, first + file.room)
            nbytes = file.add(encoded.rows(first, last))
            self._saved += last - first
            self.written.add(nbytes)
            first = last
            if file.full:
                self._complete()

    def _sparse_file(self) -> SparseFile:
        if not isinstance(self._file, SparseFile):
            number = self._next_number
            final = os.path.join(self._params.base_path, self._names.name(number))
            image = self._template if number == self._params.start_number else self._later
            self._file = SparseFile(final, number, self._params.nb_frames_per_file, image, self._params)
            self._next_number = number + 1
        return self._file

    def _image(self, vectors: bool) -> bytes:
        return self._made("")

    def _made(self, first: str) -> bytes:
        tree = sparse_tree(self._params, self._layout, self._metadata, first)
        return template(tree, self._compressor.dataset_options, self._params.nb_frames_per_file)


def _backgrounds(frames: Sequence[SparseFrame]) -> list[NDArray[np.float32]]:
    """[row, bin] averages and deviations."""
    return [np.stack([frame.average for frame in frames]), np.stack([frame.deviation for frame in frames])]


def _copied(frame: SparseFrame) -> SparseFrame:
    pixels, intensity = frame.pixels.copy(), frame.intensity.copy()
    return SparseFrame(frame.index, frame.shape, pixels, intensity, frame.average.copy(), frame.deviation.copy())
