"""A virtual dataset over data files, made with HDF5's own calls: h5py's would list every row."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import h5d, h5p, h5s, h5t
from numpy.typing import NDArray

from lima2_tango.core.modules import Layout

from .mappings import Stretches, mappings
from .sources import Source


def virtual_dataset(
    detector: Any, dtype: np.dtype, shape: tuple[int, ...], sources: Sequence[Source], master: Path
) -> Any:
    """Make `data` of `shape` in the h5py group `detector`, over the files in their own group of that name."""
    row_shape, path = shape[1:], _escaped(f"{detector.name}/data")
    used = [source for source in sources if len(source.index)]
    options, space = h5p.create(h5p.DATASET_CREATE), h5s.create_simple(shape)
    for source, parts in zip(used, mappings([source.index for source in used]), strict=True):
        file = _escaped(os.path.relpath(source.path, master.parent))
        rows = h5s.create_simple((len(source.index), *row_shape))
        for stretches in parts:
            _select(space, stretches, stretches.frame, row_shape)
            _select(rows, stretches, stretches.row, row_shape)
            options.set_virtual(space, file, path, rows)
    space.select_all()
    return h5py.Dataset(h5d.create(detector.id, b"data", h5t.py_create(dtype), space, options))


def dataset_of_parts(
    detector: Any,
    dtype: np.dtype,
    shape: tuple[int, ...],
    sources: Sequence[Sequence[Source]],
    layout: Layout,
    master: Path,
) -> Any:
    """As `virtual_dataset`, where the files of receiver r, `sources[r]`, hold its part of each frame."""
    path = _escaped(f"{detector.name}/data")
    options, space = h5p.create(h5p.DATASET_CREATE), h5s.create_simple(shape)
    for receiver, files in enumerate(sources):
        part = layout.part(receiver)
        for source in files:
            count = len(source.index)
            rows = h5s.create_simple((count, *shape[1:-2], part.height, part.width))
            for number in layout.numbers(receiver):
                place = layout.modules[number].place
                size = (count, *shape[1:-2], place.height, place.width)
                middle = (0,) * len(shape[1:-2])
                space.select_hyperslab((int(source.index[0]), *middle, place.top, place.left), size)
                rows.select_hyperslab((0, *middle, place.top - part.top, place.left - part.left), size)
                options.set_virtual(space, _escaped(os.path.relpath(source.path, master.parent)), path, rows)
    space.select_all()
    return h5py.Dataset(h5d.create(detector.id, b"data", h5t.py_create(dtype), space, options))


def _select(space: Any, stretches: Stretches, begin: NDArray[np.int64], row_shape: tuple[int, ...]) -> None:
    """Select the whole rows of these stretches, which begin at `begin`."""
    ones, rest = (1,) * len(row_shape), (0,) * len(row_shape)
    if stretches.even:
        step = int(begin[1] - begin[0]) if len(stretches) > 1 else int(stretches.length[0])
        first, count, block = (int(begin[0]), *rest), (len(stretches), *ones), (int(stretches.length[0]), *row_shape)
        space.select_hyperslab(first, count, (step, *row_shape), block)
        return
    space.select_none()
    for one, length in zip(begin.tolist(), stretches.length.tolist(), strict=True):
        space.select_hyperslab((one, *rest), (1, *ones), None, (length, *row_shape), h5s.SELECT_OR)


def _escaped(name: str) -> bytes:
    """HDF5 takes a percent sign for the beginning of a format."""
    return os.fsencode(name.replace("%", "%%"))
