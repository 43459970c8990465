"""Products of an integration matrix with frames: what each bin gets of their pixels."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .kernels import integration as kernels
from .matrix import Matrix

Sums = tuple[Any, Any, Any]
"""Signal, variance and weight, of each bin or [frame, bin]; the variance None where there is none."""
Sought = tuple[bool, float, float]
"""Whether to look for a dummy, its value, and how near to it a pixel is one."""


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


class Product(ABC):
    """Safe to call from several threads at once."""

    @abstractmethod
    def sums(self, frames: NDArray[Any]) -> Sums:
        """Of frames as `kernels.layout.flat` gives them."""


@dataclass(frozen=True, slots=True)
class _Places:
    """Where pixels go: as `kernels.integration.add_shared` has it, and whether each goes to one bin as it is."""

    bins: NDArray[np.unsignedinteger[Any]]
    shares: NDArray[np.float32]
    rest: tuple[NDArray[np.int32], NDArray[np.unsignedinteger[Any]], NDArray[np.float32]]
    whole: bool

    @classmethod
    def of(cls, matrix: Matrix, used: NDArray[np.bool_]) -> "_Places":
        """Of the used coefficients of a matrix."""
        number = np.dtype(np.uint16 if matrix.nb_bins <= np.iinfo(np.uint16).max else np.uint32)
        own = np.full(matrix.nb_pixels, matrix.nb_bins, number)
        shares = np.zeros((matrix.nb_pixels, 2), np.float32)
        elsewhere = np.zeros(len(used), np.bool_)
        whole = kernels.place((matrix.coefficients, matrix.pixels, matrix.bounds), used, own, shares, elsewhere)
        (rest,) = np.nonzero(elsewhere)
        bins = np.searchsorted(matrix.bounds, rest, side="right") - 1
        return cls(
            own,
            shares,
            (matrix.pixels[rest].astype(np.int32), bins.astype(number), matrix.coefficients[rest]),
            whole,
        )


def _used(matrix: Matrix, tables: PixelTables) -> NDArray[np.bool_]:
    """Coefficients that count."""
    used: NDArray[np.bool_] = (tables.weight[matrix.pixels] > 0) & (matrix.coefficients > 0)
    return used


def _as_arrays(tables: PixelTables) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """(dark, weight, variance) as kernels take them."""
    none = np.empty(0)
    dark, variance = (none if table is None else table for table in (tables.dark, tables.variance))
    return dark, tables.weight, variance


class Steady(Product):
    """Integers without dummies: the weights of the bins are known beforehand, a frame gives the sum of its pixels.

    Where each pixel goes to one bin as it is, that sum is exact.
    """

    def __init__(self, matrix: Matrix, tables: PixelTables, poisson: bool | None, weight: NDArray[np.float64]) -> None:
        """`poisson`: counts are their own variance; None for no variance at all. `weight` is that of each bin."""
        self._nb_bins, self._weight, self._poisson = matrix.nb_bins, weight, bool(poisson)
        valid = tables.weight > 0
        self._dark = 0.0 if tables.dark is None else matrix.dot(np.where(valid, tables.dark, 0.0))
        own = np.zeros(matrix.nb_pixels) if tables.variance is None else np.where(valid, tables.variance, 0.0)
        self._variance = matrix.dot(own, 2)
        self._has_variance = poisson is not None
        self._places = _Places.of(matrix, _used(matrix, tables))

    def sums(self, frames: NDArray[Any]) -> Sums:
        found = (self._whole(frames) if self._places.whole else self._shared(frames))[:, : self._nb_bins]
        if not self._poisson:
            return found - self._dark, self._variance if self._has_variance else None, self._weight
        return found[..., 0] - self._dark, found[..., 1] + self._variance, self._weight

    def _whole(self, frames: NDArray[Any]) -> NDArray[np.int64]:
        shape = (len(frames), self._nb_bins + 1)
        sums = np.empty((*shape, 2) if self._poisson else shape, np.int64)
        (kernels.add_whole_poisson if self._poisson else kernels.add_whole)(frames, self._places.bins, sums)
        return sums

    def _shared(self, frames: NDArray[Any]) -> NDArray[np.float64]:
        shape = (len(frames), self._nb_bins + 2)
        sums = np.empty((*shape, 2) if self._poisson else shape)
        add = kernels.add_shared_poisson if self._poisson else kernels.add_shared
        add(frames, self._places.bins, self._places.shares, self._places.rest, sums)
        return sums


class Valid(Product):
    """Frames in which pixels may carry no value: the weights of the bins are those of the pixels that do."""

    def __init__(self, matrix: Matrix, tables: PixelTables, poisson: bool | None, sought: Sought) -> None:
        """`poisson` as for `Steady`."""
        places = _Places.of(matrix, _used(matrix, tables))
        self._places = places.bins, places.shares, places.rest
        self._nb_bins, self._tables = matrix.nb_bins, _as_arrays(tables)
        self._poisson, self._sought = poisson, sought

    def sums(self, frames: NDArray[Any]) -> Sums:
        sums = np.empty((len(frames), self._nb_bins + 2, 3))
        kernels.add_valid(frames, self._places, self._tables, bool(self._poisson), self._sought, sums)
        found = sums[:, : self._nb_bins]
        variance = None if self._poisson is None else found[..., kernels.VARIANCE]
        return found[..., kernels.SIGNAL], variance, found[..., kernels.WEIGHT]


class Azimuthal(Product):
    """The variance is that of the pixels of a bin about their mean."""

    def __init__(self, matrix: Matrix, tables: PixelTables, sought: Sought) -> None:
        used = _used(matrix, tables)
        bounds = np.concatenate([[0], np.cumsum(used)])[matrix.bounds]
        self._matrix = matrix.coefficients[used], matrix.pixels[used].astype(np.int32), bounds
        self._tables, self._sought = _as_arrays(tables), sought

    def sums(self, frames: NDArray[Any]) -> Sums:
        sums = np.empty((len(frames), len(self._matrix[2]) - 1, 3))
        kernels.collect_azimuthal(frames, self._matrix, self._tables, self._sought, sums)
        return sums[..., kernels.SIGNAL], sums[..., kernels.VARIANCE], sums[..., kernels.WEIGHT]
