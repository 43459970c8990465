"""Integration matrices of simple geometries, and their files, made without pyFAI."""

from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from lima2_tango.processing.matrix import Matrix


def ring_matrix(shape: tuple[int, int], nb_bins: int, split: bool = False) -> Matrix:
    """Rings about a point near the middle of images of `shape`; `split` shares each pixel among two or three bins."""
    rows, columns = np.indices(shape)
    radius = np.hypot(rows - 0.47 * shape[0], columns - 0.52 * shape[1]).reshape(-1)
    scaled = radius / radius.max() * nb_bins
    parts = (-0.6, 0.0, 0.6) if split else (0.0,)
    shares = (0.25, 0.45, 0.3) if split else (1.0,)
    dense = np.zeros((nb_bins, radius.size), np.float32)
    for part, share in zip(parts, shares, strict=True):
        dense[np.clip(scaled + part, 0, nb_bins - 1).astype(int), np.arange(radius.size)] += share
    return matrix_of(dense, shape)


def ring_radii(shape: tuple[int, int], nb_bins: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """[bin] centres of the rings of `ring_matrix`, and [row, column] radius of each pixel."""
    rows, columns = np.indices(shape)
    radius = np.hypot(rows - 0.47 * shape[0], columns - 0.52 * shape[1])
    return (np.arange(nb_bins) + 0.5) * radius.max() / nb_bins, radius


def write_rings(folder: Path, shape: tuple[int, int], nb_bins: int) -> dict[str, str]:
    """Files of a matrix, of the centres of its bins and of the radius of the pixels: parameters `fai`."""
    centres, radius = ring_radii(shape, nb_bins)
    np.save(folder / "centres.npy", centres)
    np.save(folder / "radius.npy", radius)
    return {
        "csr_path": write_matrix(folder / "csr.h5", ring_matrix(shape, nb_bins)),
        "radius1d_path": str(folder / "centres.npy"),
        "radius2d_path": str(folder / "radius.npy"),
    }


def matrix_of(dense: NDArray[np.float32], shape: tuple[int, int]) -> Matrix:
    """The matrix with these coefficients [bin, pixel]."""
    bins, pixels = np.nonzero(dense)
    bounds = np.searchsorted(bins, np.arange(len(dense) + 1)).astype(np.int64)
    return Matrix(dense[bins, pixels], pixels, bounds, shape)


def write_matrix(path: Path, matrix: Matrix, group: str = "/", image_shape: bool = True) -> str:
    """An HDF5 file as the how-to page makes it; returns its path."""
    with h5py.File(path, "a") as file:
        node = file.require_group(group)
        node["data"], node["indices"], node["indptr"] = matrix.coefficients, matrix.pixels, matrix.bounds
        if image_shape:
            node["image_shape"] = matrix.shape
    return str(path)
