"""What the kernels compute, said plainly and slowly."""

import cmath
import math

import numpy as np
from skimage.measure import block_reduce


def binned(data, x, y):
    height, width = data.shape[2] // y * y, data.shape[3] // x * x
    exact = data[:, :, :height, :width].astype("f8" if data.dtype.kind == "f" else "i8")
    sums = block_reduce(exact, (1, 1, y, x), np.sum)
    return saturated(sums, widened(data.dtype) if x * y > 1 else data.dtype)


def widened(dtype):
    return dtype if dtype.kind == "f" else np.dtype(f"{dtype.kind}4")


def saturated(values, dtype):
    if dtype.kind == "f":
        return values.astype(dtype)
    return np.clip(values, np.iinfo(dtype).min, np.iinfo(dtype).max).astype(dtype)


def accumulated(series):
    """The limits hold after each frame: a sum that has reached one counts on from there."""
    total = np.zeros(series.shape[1:], "f8" if series.dtype.kind == "f" else "i8")
    for frame in series:
        total = saturated(total + frame, widened(series.dtype)).astype(total.dtype)
    return total.astype(widened(series.dtype))


def corrected(data, background, flatfield, mask):
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


def described(pixels):
    """(min, max, avg, std, sum) of any pixels, zeros for none."""
    if not pixels.size:
        return (0.0,) * 5
    exact = pixels.astype("f8")
    return exact.min(), exact.max(), exact.mean(), exact.std(), exact.sum()


def in_rectangle(rect, height, width):
    inside = np.zeros((height, width), bool)
    x, y = rect.topleft.x, rect.topleft.y
    inside[y : y + rect.dimensions.y, x : x + rect.dimensions.x] = True
    return inside


def in_arc(arc, height, width):
    inside = np.zeros((height, width), bool)
    for row, column in np.ndindex(height, width):
        radius, angle = cmath.polar(complex(column - arc.center.x, row - arc.center.y))
        turned = (math.degrees(angle) - arc.a1) % 360
        inside[row, column] = arc.r1 <= radius < arc.r2 and (arc.a2 - arc.a1 >= 360 or turned < arc.a2 - arc.a1)
    return inside


def first_offender(data, limits, seconds, ignored, valid):
    """(frame, channel, row, column) of the first pixel above its limit [counts/s]."""
    for place in np.ndindex(data.shape):
        value = data[place]
        if valid[place[1:]] and value != ignored and float(value) > limits[place[1:]] * seconds:
            return place
    return None
