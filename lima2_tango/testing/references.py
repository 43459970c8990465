"""What the nodes compute, said plainly and slowly, with numpy, scipy and scikit-image."""

import cmath
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage  # type: ignore[import-untyped]
from skimage.measure import block_reduce

from lima2_tango.core.roi import Arc, Rectangle

Data = NDArray[Any]
"""Frames [n, channel, row, column]."""
Image = NDArray[Any] | None
"""(row, column) for all channels, (channel, row, column), or none."""


def binned(data: Data, x: int, y: int) -> Data:
    """Sums of x columns times y rows, at the limits of their type where they leave it."""
    height, width = data.shape[2] // y * y, data.shape[3] // x * x
    exact = data[:, :, :height, :width].astype("f8" if data.dtype.kind == "f" else "i8")
    sums: Data = block_reduce(exact, (1, 1, y, x), np.sum)  # type: ignore[no-untyped-call]
    return saturated(sums, widened(data.dtype) if x * y > 1 else data.dtype)


def widened(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Type of sums."""
    return dtype if dtype.kind == "f" else np.dtype(f"{dtype.kind}4")


def saturated(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """In this type, those beyond its limits at these."""
    if dtype.kind == "f":
        return values.astype(dtype)
    limits = np.iinfo(dtype)
    return np.asarray(np.clip(values, limits.min, limits.max), dtype)


def accumulated(series: Data) -> NDArray[Any]:
    """The limits hold after each frame: a sum that has reached one counts on from there."""
    total: NDArray[Any] = np.zeros(series.shape[1:], "f8" if series.dtype.kind == "f" else "i8")
    for frame in series:
        total = saturated(total + frame, widened(series.dtype)).astype(total.dtype)
    return total.astype(widened(series.dtype))


def corrected(data: Data, background: Image, flatfield: Image, mask: Image) -> Data:
    """(data - background) / flatfield, 0 where masked or without light."""
    if background is None and flatfield is None:
        return data if mask is None else np.where(mask, data, data.dtype.type(0))
    dtype = np.dtype("f4" if data.dtype.itemsize <= 2 or data.dtype == np.float32 else "f8")
    out = data.astype(dtype)
    if background is not None:
        out = out - background.astype(dtype)
    if flatfield is not None:
        lit = flatfield > 0
        out = np.where(lit, out / np.where(lit, flatfield, 1).astype(dtype), 0)
    return (out if mask is None else np.where(mask, out, 0)).astype(dtype)


def described(pixels: NDArray[Any]) -> tuple[float, ...]:
    """(min, max, avg, std, sum) of any pixels, zeros for none."""
    if not pixels.size:
        return (0.0,) * 5
    exact = pixels.astype("f8")
    return exact.min(), exact.max(), exact.mean(), exact.std(), exact.sum()


def in_rectangle(rect: Rectangle, height: int, width: int) -> NDArray[np.bool_]:
    """[row, column]"""
    inside = np.zeros((height, width), bool)
    x, y = rect.topleft.x, rect.topleft.y
    inside[y : y + rect.dimensions.y, x : x + rect.dimensions.x] = True
    return inside


def in_arc(arc: Arc, height: int, width: int) -> NDArray[np.bool_]:
    """[row, column]"""
    inside = np.zeros((height, width), bool)
    for row, column in np.ndindex(height, width):
        radius, angle = cmath.polar(complex(column - arc.center.x, row - arc.center.y))
        turned = (math.degrees(angle) - arc.a1) % 360
        inside[row, column] = arc.r1 <= radius < arc.r2 and (arc.a2 - arc.a1 >= 360 or turned < arc.a2 - arc.a1)
    return inside


def first_offender(
    data: Data, limits: NDArray[Any], seconds: float, ignored: Any, valid: NDArray[np.bool_]
) -> tuple[int, ...] | None:
    """(frame, channel, row, column) of the first pixel above its limit [counts/s]."""
    for place in np.ndindex(data.shape):
        value = data[place]
        if valid[place[1:]] and value != ignored and float(value) > limits[place[1:]] * seconds:
            return place
    return None


def statistics(data: Data, rects: Sequence[Rectangle], valid: NDArray[np.bool_]) -> NDArray[Any]:
    """[n, region, (min, max, avg, std, sum)]; `valid` is (channel, row, column)."""
    insides = [in_rectangle(rect, *data.shape[2:]) & valid for rect in rects]
    return np.array([[described(frame[inside]) for inside in insides] for frame in data]).reshape(-1, len(rects), 5)


def line_statistics(data: Data, rect: Rectangle, axis: str, valid: NDArray[np.bool_]) -> NDArray[Any]:
    """[n, line, (min, max, avg, std, sum)] of each row (`vertical`) or column (`horizontal`) of a rectangle."""
    x, y = rect.topleft.x, rect.topleft.y
    rows, columns = slice(y, y + rect.dimensions.y), slice(x, x + rect.dimensions.x)
    lines = range(rect.dimensions.y if axis == "vertical" else rect.dimensions.x)
    found = []
    for frame in data:
        for line in lines:
            part = (slice(None), line) if axis == "vertical" else (slice(None), slice(None), line)
            found.append(described(frame[:, rows, columns][part][valid[:, rows, columns][part]]))
    return np.array(found).reshape(-1, len(lines), 5)


def kept(data: Data, low: float, high: float) -> Data:
    """0 where a value is not in the range."""
    real = data.astype("f8")
    return np.where((real >= low) & (real <= high), data, data.dtype.type(0))


def mended(data: Data, defective: NDArray[np.bool_]) -> Data:
    """Bad pixels (channel, row, column) as the mean of the good ones in the smallest square that has any."""
    made = data.copy()
    for frame, result in zip(data, made, strict=True):
        for channel, row, column in np.argwhere(defective):
            reach, good = 0, np.zeros(0)
            while not good.size:
                reach += 1
                square = slice(max(0, row - reach), row + reach + 1), slice(max(0, column - reach), column + reach + 1)
                good = frame[channel][square][~defective[channel][square]]
            mean = np.mean(good, dtype="f8")
            result[channel, row, column] = mean if data.dtype.kind == "f" else np.rint(mean)
    return made


def centres(data: Data, rects: Sequence[Rectangle], valid: NDArray[np.bool_]) -> NDArray[Any]:
    """[n, region, (x, y, sum)] by scipy; NaN where the sum is 0."""
    found = []
    for frame in data:
        for rect in rects:
            weight = np.where(in_rectangle(rect, *data.shape[2:]) & valid, frame.astype("f8"), 0).sum(0)
            total = weight.sum()
            y, x = ndimage.center_of_mass(weight) if total else (np.nan, np.nan)
            found.append((x, y, total))
    return np.array(found).reshape(-1, len(rects), 3)


def histograms(data: Data, low: float, high: float, bins: int, valid: NDArray[np.bool_]) -> Data:
    """[n, 1, 1, bin] by numpy."""
    counts = [np.histogram(frame[valid].astype("f8"), bins, (low, high))[0] for frame in data]
    return np.array(counts, np.uint32).reshape(-1, 1, 1, bins)


def integrated(data: Data, dense: NDArray[Any], model: str, dummy: float | None = None) -> Data:
    """[n, 1 or 2, 1, bin]: average and, with an error model, standard error of the bins of `dense` [bin, pixel]."""
    found = np.zeros((len(data), 1 if model == "no_var" else 2, 1, len(dense)))
    for frame, result in zip(data.reshape(len(data), -1).astype("f8"), found, strict=True):
        for b, shares in enumerate(dense.astype("f8")):
            used = (shares > 0) & (frame != dummy) & ~np.isnan(frame)
            result[:, 0, b] = 0.0 if dummy is None else dummy
            if used.any():
                result[:, 0, b] = _bin(frame[used], shares[used], model)[: len(result)]
    return found.astype("f4")


def _bin(pixels: NDArray[np.float64], shares: NDArray[np.float64], model: str) -> tuple[float, float]:
    """Average and standard error of a bin; for `azimuthal` the variance is updated pixel by pixel, as pyFAI has it."""
    weight = shares.sum()
    variances = {"poisson": np.maximum(pixels, 1), "hybrid": np.maximum(pixels, 1)}.get(model, np.zeros_like(pixels))
    variance = (shares**2 * variances).sum()
    if model == "azimuthal":
        total, mean = shares[0], pixels[0]
        for pixel, share in zip(pixels[1:], shares[1:], strict=True):
            last, mean = mean, (mean * total + share * pixel) / (total + share)
            total += share
            variance += share**2 * (last - pixel) * (mean - pixel)
    return (shares * pixels).sum() / weight, math.sqrt(variance) / weight


def densified(
    peaks: dict[int, float], background: Sequence[float], radius: NDArray[Any], centres: Sequence[float], dummy: float
) -> NDArray[Any]:
    """[row, column] peaks by number of their pixel, elsewhere what lies on a line between the centres of the bins."""
    dense = np.empty(radius.shape, "f4")
    for number, place in enumerate(np.ndindex(radius.shape)):
        at = float(radius[place])
        after = next((i for i, centre in enumerate(centres) if centre > at), len(centres) - 1)
        before, after = max(0, after - 1), max(1, after)
        share = min(max((at - centres[before]) / (centres[after] - centres[before]), 0.0), 1.0)
        between = background[before] + share * (background[after] - background[before])
        dense[place] = dummy if math.isnan(at) else peaks.get(number, between)
    return dense
