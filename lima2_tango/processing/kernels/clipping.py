"""Background of each ring by sigma clipping, on frames that keep their pixel type.

Ring after ring its pixels are fetched from the frame, once, into a buffer that stays in the processor's cache; all
cycles work there. A cycle narrows the interval in which pixels count, so a pixel that was left out stays out, and a
pixel needs no mark: it is in or out by its value. Few leave, so a cycle compares many pixels at once and takes the few
out of the sums.

A ring is (values, coefficients, weights, variances): of each of its pixels the signal, the coefficient of the matrix,
the product of the normalisations, and the variance; no variances (an empty array) are those of counts.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .jit import kernel, part

COUNTS, AZIMUTHAL, HYBRID = 0, 1, 2
"""Variance of a pixel: known (of counts, or an image); that of the ring; that of the ring until the last cycle."""
STEP = 64
"""Pixels that are compared at once."""
ROUNDING = 2.0**-21
"""Pixels this near to the mean, relative, are not told from it: they are compared in single precision."""
CHAUVENET = math.sqrt(2.0 * math.pi)


@part()
def _limits(mean: float, half: float, low: Any, high: Any) -> Any:
    """The part of [low, high] that is within `half` of the mean."""
    half = max(half, ROUNDING * abs(mean))
    return max(low, np.float32(mean - half)), min(high, np.float32(mean + half))


@part()
def _inside(value: Any, weight: Any, low: Any, high: Any) -> bool:
    real = np.float32(value)
    return bool(real >= low * weight and real <= high * weight)


@part()
def _own_variance(ring: Any, j: int) -> float:
    values, _, _, variances = ring
    return variances[j] if variances.size else max(np.float64(values[j]), 1.0)


@part()
def _share(ring: Any, j: int) -> Any:
    """What pixel j gives to (signal, variance, weight, squared weights, count, pixels)."""
    values, coefficients, weights, _ = ring
    share = np.float64(coefficients[j])
    weight = share * weights[j]
    return share * values[j], share * share * _own_variance(ring, j), weight, weight * weight, share, 1


@part()
def _plus(sums: Any, share: Any, sign: float) -> Any:
    return (
        sums[0] + sign * share[0],
        sums[1] + sign * share[1],
        sums[2] + sign * share[2],
        sums[3] + sign * share[3],
        sums[4] + sign * share[4],
        sums[5] + sign * share[5],
    )


@part()
def _collect(ring: Any, low: Any, high: Any) -> Any:
    """Sums of the pixels in an interval."""
    values, _, weights, _ = ring
    sums = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    for j in range(values.size):
        if _inside(values[j], weights[j], low, high):
            sums = _plus(sums, _share(ring, j), 1.0)
    return sums


@part()
def _collect_azimuthal(ring: Any, low: Any, high: Any) -> Any:
    """As `_collect`, with the variance about the mean, updated pixel by pixel.

    As `kernels.integration.collect_azimuthal` does it, whose order of pixels is the matrix', too.
    """
    values, coefficients, weights, _ = ring
    signal = spread = total = squares = count = pixels = mean = 0.0
    for j in range(values.size):
        if _inside(values[j], weights[j], low, high):
            share, normal = np.float64(coefficients[j]), np.float64(values[j]) / weights[j]
            own, before = share * weights[j], total
            signal += share * values[j]
            total += own
            squares += own * own
            count += share
            pixels += 1.0
            last, mean = mean, signal / total
            if before > 0.0:
                spread += own * own * (last - normal) * (mean - normal)
    return signal, spread, total, squares, count, pixels


@part()
def _without(ring: Any, sums: Any, old: Any, new: Any) -> Any:
    """The sums less those of pixels that are in the old interval and not in the new one."""
    values, _, weights, _ = ring
    low, high = new
    for first in range(0, values.size, STEP):
        last = min(first + STEP, values.size)
        out = 0
        for j in range(first, last):
            real, weight = np.float32(values[j]), weights[j]
            out += (real < low * weight) + (real > high * weight)
        if out:
            for j in range(first, last):
                if not _inside(values[j], weights[j], low, high) and _inside(values[j], weights[j], old[0], old[1]):
                    sums = _plus(sums, _share(ring, j), -1.0)
    return sums


@part()
def _clip(ring: Any, sums: Any, model: int, cutoff: float, cycles: int) -> Any:
    """(mean, deviation) of a ring after clipping; NaN for one without a pixel, 0 for one that has none left.

    `sums` are those of all its pixels. As pyFAI's csr_sigma_clip4 (ocl_azim_CSR.cl; Kieffer et al. 2025,
    J. Appl. Cryst. 58 138), except that a deviation of 0 takes out no pixel.
    """
    if sums[2] <= 0.0:
        return np.nan, np.nan
    low, high = np.float32(-np.inf), np.float32(np.inf)
    moving = model == AZIMUTHAL or (model == HYBRID and cycles > 0)
    if moving:
        sums = _collect_azimuthal(ring, low, high)
    for _ in range(cycles):
        if sums[2] <= 0.0 or sums[1] <= 0.0:
            break
        mean, deviation = sums[0] / sums[2], math.sqrt(sums[1] / sums[3])
        least = math.sqrt(2.0 * math.log(max(sums[4], 3.0) / CHAUVENET))
        old = low, high
        new = _limits(mean, max(cutoff, least) * deviation, low, high)
        left = _collect_azimuthal(ring, new[0], new[1]) if moving else _without(ring, sums, old, new)
        if left[5] == sums[5]:
            break
        if left[5] < 0.5:
            return 0.0, 0.0
        sums, (low, high) = left, new
    if model == HYBRID and moving:
        sums = _collect(ring, low, high)
    return sums[0] / sums[2], math.sqrt(max(sums[1], 0.0) / sums[3])


@kernel()
def clip_counts(
    frames: NDArray[Any],
    matrix: Any,
    totals: NDArray[Any],
    settings: tuple[int, float, int],
    made: NDArray[Any],
) -> None:
    """Mean and deviation of each ring into `made` [frame, 2, ring], of frames of integers without dummies.

    `matrix` is (coefficients, pixels, weights, bounds), `totals` [ring, 3] are the sums of its weights, of their
    squares and of its coefficients; `settings` are (model, cutoff, cycles).
    """
    (coefficients, pixels, weights, bounds), (model, cutoff, cycles) = matrix, settings
    longest = 0
    for b in range(bounds.size - 1):
        longest = max(longest, bounds[b + 1] - bounds[b])
    buffer, none = np.empty(longest, frames.dtype), np.empty(0, np.float64)
    for k in range(len(frames)):
        frame = frames[k]
        for b in range(bounds.size - 1):
            first, last = bounds[b], bounds[b + 1]
            values = buffer[: last - first]
            signal = variance = 0.0
            for j in range(first, last):
                value = frame[pixels[j]]
                values[j - first] = value
                real, share = np.float64(value), np.float64(coefficients[j])
                signal += share * real
                variance += share * share * max(real, 1.0)
            ring = values, coefficients[first:last], weights[first:last], none
            sums = signal, variance, totals[b, 0], totals[b, 1], totals[b, 2], np.float64(last - first)
            made[k, 0, b], made[k, 1, b] = _clip(ring, sums, model, cutoff, cycles)


@part()
def _real(value: float, dummy: tuple[bool, float, float]) -> bool:
    """Whether a pixel carries a value: it is finite and no dummy (checked, value, delta)."""
    checked, sought, delta = dummy
    if value - value != 0.0:
        return False
    return not checked or (value != sought if delta == 0.0 else abs(value - sought) > delta)


@kernel()
def clip_valid(
    frames: NDArray[Any],
    matrix: Any,
    tables: Any,
    dummy: tuple[bool, float, float],
    settings: tuple[int, float, int],
    made: NDArray[Any],
) -> None:
    """As `clip_counts`, of the pixels that carry a value.

    `tables` are (dark, variance) of each pixel of the matrix, in its order, and whether counts add to that variance.
    """
    (coefficients, pixels, weights, bounds), (dark, variance, poisson) = matrix, tables
    model, cutoff, cycles = settings
    longest = 0
    for b in range(bounds.size - 1):
        longest = max(longest, bounds[b + 1] - bounds[b])
    values, variances = np.empty(longest, np.float64), np.empty(longest, np.float64)
    shares, norms = np.empty(longest, np.float32), np.empty(longest, np.float32)
    for k in range(len(frames)):
        frame = frames[k]
        for b in range(bounds.size - 1):
            n = 0
            for j in range(bounds[b], bounds[b + 1]):
                value = np.float64(frame[pixels[j]])
                if _real(value, dummy):
                    values[n] = value - (dark[j] if dark.size else 0.0)
                    variances[n] = (variance[j] if variance.size else 0.0) + (max(value, 1.0) if poisson else 0.0)
                    shares[n], norms[n] = coefficients[j], weights[j]
                    n += 1
            ring = values[:n], shares[:n], norms[:n], variances[:n]
            sums = _collect(ring, np.float32(-np.inf), np.float32(np.inf))
            made[k, 0, b], made[k, 1, b] = _clip(ring, sums, model, cutoff, cycles)
