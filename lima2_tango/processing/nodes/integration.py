"""Azimuthal integration in one dimension."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lima2_tango.core.errors import GraphError
from lima2_tango.core.frame import Block, FrameSpec
from lima2_tango.core.pool import Pool
from lima2_tango.processing.kernels import integration as kernels
from lima2_tango.processing.kernels.layout import flat
from lima2_tango.processing.matrix import Matrix
from lima2_tango.processing.node import Node

from .derive import derive

AVERAGE, ERROR = 0, 1
"""Channels of what the node makes."""

Sums = tuple[Any, Any, Any]
"""Signal, variance and weight, of each bin or [frame, bin]; the variance None where there is none."""


class ErrorModel(StrEnum):
    """Where the variance of a pixel comes from."""

    NO_VAR = "no_var"
    VARIANCE = "variance"
    POISSON = "poisson"
    AZIMUTHAL = "azimuthal"
    HYBRID = "hybrid"

    @property
    def poissonian(self) -> bool:
        """Counts are their own variance; hybrid differs from poisson only where pixels are clipped, not here."""
        return self in {ErrorModel.POISSON, ErrorModel.HYBRID}


@dataclass(frozen=True, slots=True)
class Dummy:
    """A value that marks pixels of a frame as not valid."""

    value: float
    delta: float = 0.0
    """Values this near to it are dummies, too."""


@dataclass(frozen=True, slots=True)
class PixelTables:
    """What is known of each pixel of a flat frame beforehand."""

    weight: NDArray[np.float64]
    """Product of all normalisations; 0 masks the pixel."""
    dark: NDArray[np.float64] | None = None
    """Subtracted from the pixel."""
    variance: NDArray[np.float64] | None = None
    """Added to the pixel's variance, which it is where the error model is `variance`."""

    @classmethod
    def plain(cls, matrix: Matrix) -> "PixelTables":
        """No correction at all."""
        return cls(np.ones(matrix.nb_pixels))


class Integration(Node):
    """The weighted average of each bin and, but for `no_var`, its standard error: float32 of (1 or 2, 1, bins).

    With c the coefficient of a pixel in a bin, w its weight and x its value less the dark current, the average is
    sum(c x) / sum(c w), the standard error sqrt(sum(c**2 variance)) / sum(c w). Bins without a weight, and only these,
    have the value `empty` in both. Placeholders of lost frames become 0. As pyFAI does it (Kieffer and Karkoulis 2013,
    J. Phys. Conf. Ser. 425 202012; Kieffer et al. 2025, J. Appl. Cryst. 58 138).
    """

    def __init__(
        self,
        matrix: Matrix,
        spec: FrameSpec,
        tables: PixelTables | None = None,
        error_model: ErrorModel = ErrorModel.NO_VAR,
        dummy: Dummy | None = None,
    ) -> None:
        """For frames of `spec`, whose shape is the matrix'."""
        self._matrix, self._spec = matrix, spec
        self._tables = PixelTables.plain(matrix) if tables is None else tables
        self._model = error_model
        self._dummy = dummy
        self.empty = 0.0 if dummy is None else dummy.value
        weight = matrix.dot(self._tables.weight)
        self.nb_filled = int(np.count_nonzero(weight > 0))
        """Bins that get a value from a frame whose pixels are all valid."""
        self._way: _Steady | _Moving
        if dummy is None and error_model is not ErrorModel.AZIMUTHAL and spec.dtype.kind != "f":
            self._way = _Steady(matrix, self._tables, error_model, weight)
        else:
            self._way = _Moving(matrix, self._tables, error_model, dummy)

    def ready(self) -> None:
        """Compile what the first frame needs."""
        none = np.empty((0, *self._spec.shape), self._spec.dtype)
        made = self.output_spec(self._spec)
        self._integrate(flat(none), np.empty((0, made.channels, made.width), made.dtype))

    def output_spec(self, spec: FrameSpec) -> FrameSpec:
        if spec != self._spec:
            raise GraphError(f"the integration is for {self._spec}, not for {spec}")
        channels = 1 if self._model is ErrorModel.NO_VAR else 2
        return FrameSpec(channels, 1, self._matrix.nb_bins, np.dtype(np.float32))

    def process(self, block: Block, pool: Pool) -> Block:
        spec = self.output_spec(block.spec)

        def fill(out: NDArray[Any]) -> None:
            self._integrate(flat(block.data), out[:, :, 0])
            if block.valid is not None:
                out[~block.valid] = 0

        return derive(block, spec, pool, fill)

    def _integrate(self, frames: NDArray[Any], out: NDArray[np.float32]) -> None:
        """Fill `out` [frame, channel, bin]."""
        signal, variance, weight = self._way.sums(frames)
        filled = np.broadcast_to(weight > 0, signal.shape)
        out.fill(self.empty)
        np.divide(signal, weight, out=out[:, AVERAGE], where=filled, casting="same_kind")
        if variance is not None:
            np.divide(np.sqrt(variance), weight, out=out[:, ERROR], where=filled, casting="same_kind")


class _Steady:
    """Integers without dummies: the weights of the bins are known beforehand, a frame gives the sum of its pixels."""

    def __init__(self, matrix: Matrix, tables: PixelTables, model: ErrorModel, weight: NDArray[np.float64]) -> None:
        self._nb_bins, self._weight, self._poisson = matrix.nb_bins, weight, model.poissonian
        valid = tables.weight > 0
        self._dark = 0.0 if tables.dark is None else matrix.dot(np.where(valid, tables.dark, 0.0))
        own = np.zeros(matrix.nb_pixels) if tables.variance is None else np.where(valid, tables.variance, 0.0)
        self._variance = None if model is ErrorModel.NO_VAR else matrix.dot(own, 2)
        used = valid[matrix.pixels] & (matrix.coefficients > 0)
        self._product = _product(matrix, used, self._poisson)

    def sums(self, frames: NDArray[Any]) -> Sums:
        found = self._product(frames)[:, : self._nb_bins]
        if not self._poisson:
            return found - self._dark, self._variance, self._weight
        return found[..., 0] - self._dark, found[..., 1] + self._variance, self._weight


class _Moving:
    """Any frames: each bin collects its pixels that carry a value, with their weights."""

    def __init__(self, matrix: Matrix, tables: PixelTables, model: ErrorModel, dummy: Dummy | None) -> None:
        used = (tables.weight[matrix.pixels] > 0) & (matrix.coefficients > 0)
        bounds = np.concatenate([[0], np.cumsum(used)])[matrix.bounds]
        self._matrix = matrix.coefficients[used], matrix.pixels[used].astype(np.int32), bounds
        none = np.empty(0)
        dark, variance = (none if table is None else table for table in (tables.dark, tables.variance))
        self._tables = dark, tables.weight, variance
        self._model, self._dummy = model, dummy

    def sums(self, frames: NDArray[Any]) -> Sums:
        sums = np.empty((len(frames), len(self._matrix[2]) - 1, 3))
        dummy = self._sought(frames.dtype)
        if self._model is ErrorModel.AZIMUTHAL:
            kernels.collect_azimuthal(frames, self._matrix, self._tables, dummy, sums)
        else:
            kernels.collect(frames, self._matrix, self._tables, self._model.poissonian, dummy, sums)
        variance = None if self._model is ErrorModel.NO_VAR else sums[..., kernels.VARIANCE]
        return sums[..., kernels.SIGNAL], variance, sums[..., kernels.WEIGHT]

    def _sought(self, dtype: np.dtype) -> tuple[bool, float, float]:
        if self._dummy is None:
            return False, 0.0, 0.0
        value = float(dtype.type(self._dummy.value)) if dtype.kind == "f" else self._dummy.value
        return True, value, self._dummy.delta


def _product(matrix: Matrix, used: NDArray[np.bool_], poisson: bool) -> Any:
    """The product of the used part of a matrix with integer frames [frame, pixel], as a function of these."""
    pixels, bins, coefficients = matrix.pixels[used], matrix.bins[used], matrix.coefficients[used]
    order = np.lexsort((bins, pixels))
    pixels, bins, coefficients = pixels[order], bins[order], coefficients[order]
    leads = np.diff(pixels, prepend=-1) != 0
    own = np.full(matrix.nb_pixels, matrix.nb_bins, np.uint16)
    own[pixels[leads]] = bins[leads]
    if leads.all() and (coefficients == 1).all():
        return _Whole(own, matrix.nb_bins, poisson)
    step = bins - own[pixels]
    again = ~leads & (np.diff(bins, prepend=-1) == 0)
    shared = ((step == 0) | (step == 1)) & ~again
    shares = np.zeros((matrix.nb_pixels, 2), np.float32)
    shares[pixels[shared], step[shared]] = coefficients[shared]
    rest = pixels[~shared].astype(np.int32), bins[~shared].astype(np.uint16), coefficients[~shared]
    return _Shared(own, shares, rest, matrix.nb_bins, poisson)


@dataclass(frozen=True, slots=True)
class _Whole:
    """Pixels that belong to one bin with all they have: sums are exact."""

    bins: NDArray[np.uint16]
    nb_bins: int
    poisson: bool

    def __call__(self, frames: NDArray[Any]) -> NDArray[np.int64]:
        shape = (len(frames), self.nb_bins + 1)
        sums = np.empty((*shape, 2) if self.poisson else shape, np.int64)
        (kernels.add_whole_poisson if self.poisson else kernels.add_whole)(frames, self.bins, sums)
        return sums


@dataclass(frozen=True, slots=True)
class _Shared:
    """Pixels that are split among bins, mostly among two neighbours."""

    bins: NDArray[np.uint16]
    shares: NDArray[np.float32]
    rest: tuple[NDArray[np.int32], NDArray[np.uint16], NDArray[np.float32]]
    nb_bins: int
    poisson: bool

    def __call__(self, frames: NDArray[Any]) -> NDArray[np.float64]:
        shape = (len(frames), self.nb_bins + 2)
        sums = np.empty((*shape, 2) if self.poisson else shape)
        add = kernels.add_shared_poisson if self.poisson else kernels.add_shared
        add(frames, self.bins, self.shares, self.rest, sums)
        return sums
