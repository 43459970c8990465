"""One HDF5 file on its way from the first row to its final name."""

import os
from collections.abc import Callable, Mapping, Sequence
from threading import get_ident
from typing import Any

import h5py
import hdf5plugin  # noqa: F401 - its import makes HDF5 know the filters
import numpy as np

from lima2_tango.core.errors import SavingError

from .compression import Chunk, nbytes
from .folder import remedy, translated
from .layout import Field, Flat, Group, Images, Link, Node, Ragged, Rows, Value
from .part import Part
from .reserve import Reserve, publish, remove_leftovers

LIBVER = ("earliest", "v110")
"""Any HDF5 since 1.10 reads our files."""
GROWTH = 1024
"""Rows that the dataset has at first at most; then it doubles (trimming a huge one is slow)."""
STRUCTURE_BYTES = 64 << 10
"""What HDF5 needs beside images and rows, generously."""
CHUNK_BYTES = 160
"""Share of a chunk in HDF5's index, with half-filled nodes."""
ROW_BYTES = 40
"""Share of a row in the columns."""
FLAT_CHUNK = 1 << 14
"""Values in a chunk of those that lie one behind the other."""
ROW_CHUNK = 64
"""Rows in a chunk of those of any length."""


def template(tree: Group, dataset_options: Mapping[str, object], capacity: int) -> bytes:
    """A whole HDF5 file with this tree, without rows: each file of a series begins as a copy (making it is slow).

    `capacity` is the most rows that a file will hold.
    """
    # Files of one name cannot be made at once, not even in memory.
    with h5py.File(f"template of thread {get_ident()}", "w", driver="core", backing_store=False, libver=LIBVER) as file:
        _write_group(file, tree, {**dataset_options, "capacity": capacity})
        file.flush()
        image: bytes = file.id.get_file_image()
        return image


class DataFile:
    """Rows go in, one by one; the file is invisible until `complete`."""

    def __init__(self, final: str, number: int, capacity: int, image: bytes, data_paths: Sequence[str]) -> None:
        """Make the hidden part of file `final` as a copy of `image`, for at most `capacity` rows.

        The chunks of a row go into the one dataset of images, or into one dataset each. Raises SavingError, and then
        leaves nothing behind.
        """
        self.final = final
        self.rows = 0
        self._capacity = capacity
        self._columns = Rows(
            number, np.empty(0, np.int64), np.empty(0, np.float64), np.empty(0, np.bool_), np.empty(0, np.uint64)
        )
        self._structure = STRUCTURE_BYTES + len(image)
        self._file: Any = None
        with translated(final, "cannot be made"):
            remove_leftovers(final)
            self._reserve = Reserve(final)
            try:
                self._part = Part(self._reserve.part)
            except BaseException:
                self._reserve.remove()
                raise
            try:
                self._open(image, data_paths)
                if self._part.error:
                    raise self._part.error
            except BaseException:
                self._abandon()
                raise

    @property
    def full(self) -> bool:
        return self.rows == self._capacity

    def write(self, chunks: Sequence[Chunk], index: int, time: float, valid: bool, missing: int = 0) -> None:
        """Add a row: one chunk a channel; `missing` has a bit for each module that is missing.

        What fails leaves the rows before it as they are; raises SavingError.
        """
        row, columns = self.rows, self._columns
        with translated(self.final, f"frame {index} (row {row}) cannot be written"):
            if row == len(columns):
                self._grow(min(2 * row, self._capacity))
                columns = self._columns
            for (dataset, place), chunk in zip(self._places, chunks, strict=True):
                dataset.write_direct_chunk((row, *place), chunk)
                if error := self._part.error:
                    self._part.forget(nbytes(chunk))
                    raise error
        columns.index[row], columns.time[row], columns.valid[row] = index, time, valid
        columns.missing[row] = missing
        self.rows = row + 1

    def complete(self, tree: Callable[[Rows], Group], replace: bool) -> None:
        """Trim, add what `tree` says of the rows, close, and give the file its name; without rows it vanishes.

        Raises SavingError.
        """
        if self.rows == 0:
            self._abandon()
            return
        path = self._reserve.part
        try:
            with translated(
                self.final, f"cannot be completed; what could be written of its {self.rows} rows is {path}"
            ):
                self._reserve.give_up()
                self._fill(tree)
                self._part.settle()
                self._part.close()
            self._publish(replace)
        finally:
            with translated(self.final, f"is complete, but what helped to write it is not removed: {path}"):
                self._part.close()
                self._reserve.remove()

    def _open(self, image: bytes, data_paths: Sequence[str]) -> None:
        self._part.write(memoryview(image))
        self._file = h5py.File(self._part, "r+", libver=LIBVER)
        self._datasets = [self._file[path].id for path in data_paths]
        self._places = [(dataset, place) for dataset in self._datasets for place in _places(dataset.shape)]
        self._grow(min(GROWTH, self._capacity))

    def _grow(self, rows: int) -> None:
        """Make room for `rows`: in the dataset, in the columns, and on the disk for what they add to the structure."""
        chunks = rows * len(self._places)
        self._reserve.hold(self._structure + chunks * CHUNK_BYTES + rows * ROW_BYTES)
        self._extend(rows)
        self._columns = self._columns.resized(rows)

    def _extend(self, rows: int) -> None:
        for dataset in self._datasets:
            dataset.set_extent((rows, *dataset.shape[1:]))

    def _fill(self, tree: Callable[[Rows], Group]) -> None:
        rows = self.rows
        try:
            self._extend(rows)
            _write_group(self._file, tree(self._columns.resized(rows)), {})
        finally:
            self._file.close()

    def _publish(self, replace: bool) -> None:
        part = self._reserve.part
        try:
            publish(part, self.final, replace)
        except FileExistsError as error:
            raise SavingError(
                f"{self.final} appeared while we wrote it: it is left alone, and our {self.rows} rows are in {part}; "
                f"rename that file to keep it",
                file=self.final,
                part=part,
            ) from error
        except OSError as error:
            raise SavingError(
                f"{part} is complete but cannot be renamed to {self.final}: {remedy(error)}", file=self.final, part=part
            ) from error

    def _abandon(self) -> None:
        """Forget a file without rows."""
        with translated(self.final, "its hidden files cannot be removed"):
            if self._file is not None:
                self._file.close()
            self._part.close()
            os.unlink(self._reserve.part)
            self._reserve.remove()


def _places(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Where in a row its chunks begin: one a channel of (row, channel, y, x), else one."""
    inside = (0,) * (len(shape) - 1)
    return [(channel, 0, 0) for channel in range(shape[1])] if len(shape) == 4 else [inside]


def _write_group(parent: Any, group: Group, options: Mapping[str, object]) -> None:
    """Write a group's attributes and children into an h5py group."""
    if group.nx_class:
        parent.attrs["NX_class"] = group.nx_class
    _write_attrs(parent, group.attrs)
    for name, node in group.children.items():
        _write_node(parent, name, node, options)


def _write_node(parent: Any, name: str, node: Node, options: Mapping[str, object]) -> None:
    if isinstance(node, Group):
        _write_group(parent[name] if name in parent else parent.create_group(name), node, options)
    elif isinstance(node, Link):
        parent[name] = h5py.ExternalLink(node.file, node.target) if node.file else h5py.SoftLink(node.target)
    elif isinstance(node, Field):
        _write_attrs(_make_field(parent, name, node, options), node.attrs)
    else:
        _write_attrs(_make_rows(parent, name, node, dict(options)), node.attrs)


def _make_field(parent: Any, name: str, node: Field, options: Mapping[str, object]) -> Any:
    """Images are compressed as those of the series are."""
    value = node.value
    if isinstance(value, np.ndarray) and value.ndim > 1 and options:
        used = {key: option for key, option in options.items() if key != "capacity"}
        return parent.create_dataset(name, data=value, chunks=value.shape, **used)
    return parent.create_dataset(name, data=value)


def _make_rows(parent: Any, name: str, node: Images | Flat | Ragged, options: dict[str, object]) -> Any:
    capacity = options.pop("capacity")
    if isinstance(node, Flat):
        return parent.create_dataset(name, (0,), node.dtype, maxshape=(None,), chunks=(FLAT_CHUNK,), **options)
    if isinstance(node, Ragged):
        return parent.create_dataset(name, (0,), h5py.vlen_dtype(node.dtype), maxshape=(None,), chunks=(ROW_CHUNK,))
    shape = (0, *node.row_shape)
    most = (capacity, *node.row_shape)
    return parent.create_dataset(name, shape=shape, maxshape=most, chunks=node.chunks, dtype=node.dtype, **options)


def _write_attrs(target: Any, attrs: Mapping[str, Value]) -> None:
    for name, value in attrs.items():
        target.attrs[name] = value
