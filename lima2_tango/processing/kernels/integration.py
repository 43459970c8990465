"""Azimuthal integration: products of a sparse matrix with frames that keep their pixel type.

Pixels are walked as they lie in memory and added to the bins they belong to, which reads each byte once. Where the
weights of a bin are the same for every frame they are left to the caller; where pixels may carry no value (dummies,
NaN) they are added up, too. Only where the order of the pixels of a bin matters, each bin collects its own.

`bins` has the bin of each pixel, for a pixel that belongs to none the number of bins: results have a place more for
these, which is not read. A frame is walked at four places at once: neighbours mostly belong to the same bin, and a sum
in memory is the next addition's delay.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .jit import kernel, part

LANES = 4
SIGNAL, VARIANCE, WEIGHT = 0, 1, 2
"""Columns of sums that have all three."""


@kernel()
def product(matrix: Any, image: NDArray[Any], power: int, sums: NDArray[Any]) -> None:
    """Sum of coefficient**power * pixel of each bin; `matrix` is (coefficients, pixels, bounds)."""
    coefficients, pixels, bounds = matrix
    for b in range(sums.size):
        total = 0.0
        for j in range(bounds[b], bounds[b + 1]):
            total += np.float64(coefficients[j]) ** power * image[pixels[j]]
        sums[b] = total


@kernel()
def place(matrix: Any, used: NDArray[Any], own: NDArray[Any], shares: NDArray[Any], elsewhere: NDArray[Any]) -> bool:
    """Find for each pixel its first bin and what it gives to that and to the next one, of the used coefficients.

    `own` and `shares` are as `bins` and `shares` of `add_shared`, and come as those of pixels that belong to no bin.
    `elsewhere` marks the coefficients that find no place there. Returns True where each pixel goes whole to one bin.
    """
    coefficients, pixels, bounds = matrix
    nb_bins = bounds.size - 1
    whole = True
    for b in range(nb_bins):
        for j in range(bounds[b], bounds[b + 1]):
            if used[j]:
                i = pixels[j]
                if own[i] == nb_bins:
                    own[i], shares[i, 0] = b, coefficients[j]
                    whole &= coefficients[j] == 1.0
                else:
                    whole = False
                    if b == own[i] + 1 and shares[i, 1] == 0.0:
                        shares[i, 1] = coefficients[j]
                    else:
                        elsewhere[j] = True
    return whole


@part()
def _quarters(values: NDArray[Any], size: int) -> Any:
    quarter = size // LANES
    return (
        values[:quarter],
        values[quarter : 2 * quarter],
        values[2 * quarter : 3 * quarter],
        values[3 * quarter : 4 * quarter],
    )


@kernel()
def add_whole(frames: NDArray[Any], bins: NDArray[Any], sums: NDArray[Any]) -> None:
    """Sum of the pixels of each bin into `sums` [frame, bin + 1] (int64), for pixels that belong to one bin at most."""
    size = bins.size
    b0, b1, b2, b3 = _quarters(bins, size)
    lanes = np.empty((LANES, sums.shape[1]), np.int64)
    s0, s1, s2, s3 = lanes[0], lanes[1], lanes[2], lanes[3]
    for k in range(len(frames)):
        x0, x1, x2, x3 = _quarters(frames[k], size)
        lanes[:] = 0
        for i in range(b0.size):
            s0[b0[i]] += x0[i]
            s1[b1[i]] += x1[i]
            s2[b2[i]] += x2[i]
            s3[b3[i]] += x3[i]
        for i in range(LANES * b0.size, size):
            s0[bins[i]] += frames[k, i]
        for b in range(sums.shape[1]):
            sums[k, b] = s0[b] + s1[b] + s2[b] + s3[b]


@part()
def _count(sums: NDArray[Any], value: Any) -> None:
    sums[0] += value
    sums[1] += max(np.int64(value), np.int64(1))


@kernel()
def add_whole_poisson(frames: NDArray[Any], bins: NDArray[Any], sums: NDArray[Any]) -> None:
    """As `add_whole`, and the sum of max(pixel, 1) beside it: `sums` is [frame, bin + 1, 2]."""
    size = bins.size
    b0, b1, b2, b3 = _quarters(bins, size)
    lanes = np.empty((LANES, sums.shape[1], 2), np.int64)
    s0, s1, s2, s3 = lanes[0], lanes[1], lanes[2], lanes[3]
    for k in range(len(frames)):
        x0, x1, x2, x3 = _quarters(frames[k], size)
        lanes[:] = 0
        for i in range(b0.size):
            _count(s0[b0[i]], x0[i])
            _count(s1[b1[i]], x1[i])
            _count(s2[b2[i]], x2[i])
            _count(s3[b3[i]], x3[i])
        for i in range(LANES * b0.size, size):
            _count(s0[bins[i]], frames[k, i])
        for b in range(sums.shape[1]):
            for j in range(2):
                sums[k, b, j] = s0[b, j] + s1[b, j] + s2[b, j] + s3[b, j]


@part()
def _share(sums: NDArray[Any], b: Any, shares: NDArray[Any], value: Any) -> None:
    real = np.float64(value)
    sums[b] += shares[0] * real
    sums[b + 1] += shares[1] * real


@kernel()
def add_shared(frames: NDArray[Any], bins: NDArray[Any], shares: NDArray[Any], rest: Any, sums: NDArray[Any]) -> None:
    """Sum of coefficient * pixel of each bin into `sums` [frame, bin + 2] (float64).

    `shares` [pixel, 2] are the coefficients of a pixel's bin and of the next one; `rest` are (pixels, bins,
    coefficients) of what belongs elsewhere.
    """
    size = bins.size
    b0, b1, b2, b3 = _quarters(bins, size)
    c0, c1, c2, c3 = _quarters(shares, size)
    lanes = np.empty((LANES, sums.shape[1]))
    s0, s1, s2, s3 = lanes[0], lanes[1], lanes[2], lanes[3]
    for k in range(len(frames)):
        frame = frames[k]
        x0, x1, x2, x3 = _quarters(frame, size)
        lanes[:] = 0
        for i in range(b0.size):
            _share(s0, b0[i], c0[i], x0[i])
            _share(s1, b1[i], c1[i], x1[i])
            _share(s2, b2[i], c2[i], x2[i])
            _share(s3, b3[i], c3[i], x3[i])
        for i in range(LANES * b0.size, size):
            _share(s0, bins[i], shares[i], frame[i])
        for j in range(rest[0].size):
            s0[rest[1][j]] += rest[2][j] * np.float64(frame[rest[0][j]])
        for b in range(sums.shape[1]):
            sums[k, b] = s0[b] + s1[b] + s2[b] + s3[b]


@part()
def _share_poisson(sums: NDArray[Any], b: Any, shares: NDArray[Any], value: Any) -> None:
    real = np.float64(value)
    variance = max(real, 1.0)
    low, high = np.float64(shares[0]), np.float64(shares[1])
    sums[b, 0] += low * real
    sums[b, 1] += low * low * variance
    sums[b + 1, 0] += high * real
    sums[b + 1, 1] += high * high * variance


@kernel()
def add_shared_poisson(
    frames: NDArray[Any], bins: NDArray[Any], shares: NDArray[Any], rest: Any, sums: NDArray[Any]
) -> None:
    """As `add_shared`, and the sum of coefficient**2 * max(pixel, 1) beside it: `sums` is [frame, bin + 2, 2]."""
    size = bins.size
    b0, b1, b2, b3 = _quarters(bins, size)
    c0, c1, c2, c3 = _quarters(shares, size)
    lanes = np.empty((LANES, sums.shape[1], 2))
    s0, s1, s2, s3 = lanes[0], lanes[1], lanes[2], lanes[3]
    for k in range(len(frames)):
        frame = frames[k]
        x0, x1, x2, x3 = _quarters(frame, size)
        lanes[:] = 0
        for i in range(b0.size):
            _share_poisson(s0, b0[i], c0[i], x0[i])
            _share_poisson(s1, b1[i], c1[i], x1[i])
            _share_poisson(s2, b2[i], c2[i], x2[i])
            _share_poisson(s3, b3[i], c3[i], x3[i])
        for i in range(LANES * b0.size, size):
            _share_poisson(s0, bins[i], shares[i], frame[i])
        for j in range(rest[0].size):
            real, share = np.float64(frame[rest[0][j]]), np.float64(rest[2][j])
            s0[rest[1][j], 0] += share * real
            s0[rest[1][j], 1] += share * share * max(real, 1.0)
        for b in range(sums.shape[1]):
            for j in range(2):
                sums[k, b, j] = s0[b, j] + s1[b, j] + s2[b, j] + s3[b, j]


@part()
def _real(value: float, dummy: tuple[bool, float, float]) -> bool:
    """Whether a pixel carries a value: it is finite and no dummy (checked, value, delta)."""
    checked, sought, delta = dummy
    if value - value != 0.0:
        return False
    return not checked or (value != sought if delta == 0.0 else abs(value - sought) > delta)


@part()
def _weigh(sums: NDArray[Any], b: Any, share: float, signal: float, variance: float, weight: float) -> None:
    sums[b, SIGNAL] += share * signal
    sums[b, VARIANCE] += share * share * variance
    sums[b, WEIGHT] += share * weight


@part()
def _variance(value: float, known: float, poisson: bool) -> float:
    return known + max(value, 1.0) if poisson else known


@part()
def _add_rest(
    frame: NDArray[Any], rest: Any, tables: Any, poisson: bool, dummy: tuple[bool, float, float], sums: NDArray[Any]
) -> None:
    (pixels, bins, coefficients), (dark, weight, variance) = rest, tables
    for i in range(pixels.size):
        j = pixels[i]
        value = np.float64(frame[j])
        if _real(value, dummy):
            signal = value - (dark[j] if dark.size else 0.0)
            spread = _variance(value, variance[j] if variance.size else 0.0, poisson)
            _weigh(sums, bins[i], np.float64(coefficients[i]), signal, spread, weight[j])


@kernel()
def add_valid(
    frames: NDArray[Any],
    places: Any,
    tables: Any,
    poisson: bool,
    dummy: tuple[bool, float, float],
    sums: NDArray[Any],
) -> None:
    """Signal, variance and weight of each bin, over its pixels that carry a value, into `sums` [frame, bin + 2, 3].

    `places` are (bins, shares, rest) as of `add_shared`, `tables` are (dark, weight, variance) of each pixel, empty for
    none but the weight.
    """
    bins, shares, rest = places  # an array that is taken out of a tuple inside the loop costs a reference count
    dark, weight, variance = tables
    size, quarter = bins.size, bins.size // LANES
    lanes = np.empty((LANES, sums.shape[1], 3))
    for k in range(len(frames)):
        frame = frames[k]
        lanes[:] = 0
        for i in range(quarter + size % LANES):
            for lane in range(LANES):
                j = lane * quarter + i
                if i < quarter or lane == LANES - 1:  # what is left over follows the last quarter
                    value = np.float64(frame[j])
                    if _real(value, dummy):
                        b, own = bins[j], lanes[lane]
                        signal = value - (dark[j] if dark.size else 0.0)
                        spread = _variance(value, variance[j] if variance.size else 0.0, poisson)
                        _weigh(own, b, np.float64(shares[j, 0]), signal, spread, weight[j])
                        _weigh(own, b + 1, np.float64(shares[j, 1]), signal, spread, weight[j])
        _add_rest(frame, rest, tables, poisson, dummy, lanes[0])
        sums[k] = lanes[0] + lanes[1] + lanes[2] + lanes[3]


@kernel()
def collect_azimuthal(
    frames: NDArray[Any], matrix: Any, tables: Any, dummy: tuple[bool, float, float], sums: NDArray[Any]
) -> None:
    """As `add_valid`, with the variance of the pixels of a bin about their mean; `sums` is [frame, bin, 3].

    `matrix` is (coefficients, pixels, bounds). The variance is updated pixel by pixel as pyFAI's csr engine does
    (CSR_common.pxi; after Schubert and Gertz, SSDBM 2018): with unequal weights that depends on the order of a bin's
    pixels, which is the matrix'.
    """
    (coefficients, pixels, bounds), (dark, weight, _) = matrix, tables
    for k in range(len(frames)):
        for b in range(bounds.size - 1):
            signal = spread = total = mean = 0.0
            for j in range(bounds[b], bounds[b + 1]):
                i = pixels[j]
                value = np.float64(frames[k, i])
                own = np.float64(coefficients[j]) * weight[i]
                if _real(value, dummy) and own > 0.0:
                    corrected = value - dark[i] if dark.size else value
                    before = total
                    normal = corrected / weight[i]
                    signal += coefficients[j] * corrected
                    total += own
                    last, mean = mean, signal / total
                    if before > 0.0:
                        spread += own * own * (last - normal) * (mean - normal)
            sums[k, b, SIGNAL], sums[k, b, VARIANCE], sums[k, b, WEIGHT] = signal, spread, total
