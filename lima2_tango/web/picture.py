"""Pixels of a detector to pixels of a screen: cut, pooled, scaled to 8 bits. Pure; colours are the browser's."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lima2_tango.core.live import MARKING

from .view import Pool, Scale, View

MASKED = 255
"""Index of a masked pixel; values are 0 to 254."""
TOP = MASKED - 1
SAMPLES = 1 << 16
"""About so many pixels tell the percentiles."""

Image = NDArray[Any]
"""[row, column]"""
Bad = NDArray[np.bool_]
"""[row, column], True for a masked pixel."""


@dataclass(frozen=True, slots=True)
class Picture:
    """What a browser draws."""

    indices: NDArray[np.uint8]
    """[row, column]; 255 is masked."""
    x: int
    y: int
    width: int
    height: int
    """The rectangle of the frame that it shows [pixel]."""
    factor: int
    """Columns, and rows, of the frame in one pixel; those at the end may have fewer."""
    low: float
    high: float
    """Values of the indices 0 and 254."""


def draw(image: Image, view: View, bad: Bad | None = None) -> Picture:
    """The part of an image that a view asks for, as far as the image has it."""
    rows, columns = image.shape
    x, y = min(view.x, columns - 1), min(view.y, rows - 1)
    part = image[y : y + view.height if view.height else rows, x : x + view.width if view.width else columns]
    height, width = part.shape
    factor = max(1, -(-width // view.columns), -(-height // view.rows))
    hidden = bad[y : y + height, x : x + width] if bad is not None and view.mask else None
    values, masked = pooled(part, factor, view.pool, hidden, view.mask)
    low, high = _limits(values, masked, view)
    indices = scaled(values, low, high, view.scale)
    if masked is not None:
        indices[masked] = MASKED
    return Picture(indices, x, y, width, height, factor, low, high)


def pooled(image: Image, factor: int, how: Pool, bad: Bad | None, marked: bool = True) -> tuple[Image, Bad | None]:
    """One value for each `factor` x `factor` pixels, and which of them are masked throughout; None where none is.

    Masked pixels have no part in the value. `marked`: those that the detector marks, and those that are no numbers, are
    masked too.
    """
    if bad is None and not (marked and _may_be_marked(image)):
        if image.dtype.kind == "f" and not marked:
            image = np.nan_to_num(image)
        return _pooled(image, factor, how), None
    hidden = _hidden(image, bad, marked)
    if not hidden.any():
        return _pooled(image, factor, how), None
    if how is Pool.MAX:
        return _pooled(np.where(hidden, _least(image.dtype), image), factor, how), _fold(hidden, factor, np.logical_and)
    valid = _fold((~hidden).astype(np.float32), factor, np.add)
    total = _fold(np.where(hidden, 0, image).astype(np.float32), factor, np.add)
    return total / np.maximum(valid, 1), valid == 0


def scaled(values: Image, low: float, high: float, scale: Scale) -> NDArray[np.uint8]:
    """Indices 0 to 254 of values between `low` and `high`, those beyond at the ends."""
    if values.dtype in {np.dtype(np.uint8), np.dtype(np.uint16)}:  # a table is faster than arithmetic
        table: NDArray[np.uint8] = _indices(
            np.arange(np.iinfo(values.dtype).max + 1, dtype=np.float32), low, high, scale
        )
        found: NDArray[np.uint8] = table[values]
        return found
    return _indices(values.astype(np.float32), low, high, scale)


def _indices(values: NDArray[np.float32], low: float, high: float, scale: Scale) -> NDArray[np.uint8]:
    span = np.float32(max(high - low, float(np.finfo(np.float32).tiny)))
    part = np.clip(np.nan_to_num(values - np.float32(low)), 0, span)
    if scale is Scale.LOG:
        part, span = np.log1p(part), np.log1p(span)
    elif scale is Scale.SQRT:
        part, span = np.sqrt(part), np.sqrt(span)
    found: NDArray[np.uint8] = (part * (np.float32(TOP) / span) + np.float32(0.5)).astype(np.uint8)
    return found


def _limits(values: Image, masked: Bad | None, view: View) -> tuple[float, float]:
    if view.limits is not None:
        low, high = view.limits
        return (low, high) if high > low else (low, low + 1)
    flat = values.reshape(-1) if masked is None else values[~masked]
    if flat.dtype.kind == "f":  # what is no number is no limit
        flat = flat[np.abs(flat) < np.finfo(flat.dtype).max]
    if not len(flat):
        return 0.0, 1.0
    sample = flat[:: max(1, len(flat) // SAMPLES)]
    low, high = np.percentile(sample, sorted((view.low, view.high))).tolist()
    if high > low:
        return low, high
    top = float(flat.max())  # most pixels are equal: what is left is brighter
    return (low, top) if top > low else (low, low + 1)


def _pooled(image: Image, factor: int, how: Pool) -> Image:
    if factor == 1:
        return image
    if how is Pool.MAX:
        return _fold(image, factor, np.maximum)
    rows, columns = (_counts(length, factor) for length in image.shape)
    total: Image = _fold(image.astype(np.float32), factor, np.add) / (rows[:, None] * columns)
    return total


def _fold(image: NDArray[Any], factor: int, join: np.ufunc) -> NDArray[Any]:
    """Rows together, then columns: each step runs along memory; groups at the end may be smaller."""
    rows = image[::factor].copy()
    for step in range(1, factor):
        others = image[step::factor]
        join(rows[: len(others)], others, out=rows[: len(others)])
    found = rows[:, ::factor].copy()
    for step in range(1, factor):
        others = rows[:, step::factor]
        width = others.shape[1]
        join(found[:, :width], others, out=found[:, :width])
    return found


def _counts(length: int, factor: int) -> NDArray[np.float32]:
    """Pixels of each group along one axis."""
    found = np.full(-(-length // factor), factor, np.float32)
    found[-1] = length - factor * (len(found) - 1)
    return found


def _may_be_marked(image: Image) -> bool:
    if image.dtype.kind == "f":
        return not bool(np.isfinite(image.sum()))
    return image.dtype in MARKING and bool(image.max(initial=0) == np.iinfo(image.dtype).max)


def _hidden(image: Image, bad: Bad | None, marked: bool) -> Bad:
    hidden: Bad = np.zeros(image.shape, bool) if bad is None else bad
    if marked and image.dtype.kind == "f":
        hidden = hidden | ~np.isfinite(image)
    if marked and image.dtype in MARKING:
        hidden = hidden | (image == np.iinfo(image.dtype).max)
    return hidden


def _least(dtype: np.dtype[Any]) -> Any:
    least = np.iinfo(dtype).min if dtype.kind in "iu" else np.finfo(dtype).min
    return dtype.type(least)
