"""The radius of bins and of pixels, from the files of pyFAI's users."""

from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lima2_tango.core.errors import ParamError
from lima2_tango.core.frame import FrameSpec

from .images import UNREADABLE, existing_file, load_image
from .matrix import Matrix

FAR = 2.0
"""Pixels lie within so many bins of the centre of their bin, nearly all of them."""
SEEN = 0.9
"""What nearly all are."""
_FORMATS = "it must hold one row of numbers: HDF5 (file.h5, or file.h5::/path/of/dataset), npy or text"


def load_radii(
    path1d: str, path2d: str, spec: FrameSpec, matrix: Matrix
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """[bin] centre of each bin of the matrix, and [row, column] radius of each pixel, NaN where it has none.

    All channels of a frame have the same. Raises ParamError at `$.fai.radius1d_path` or `radius2d_path` for what does
    not fit the frames or the matrix.
    """
    name1d, name2d = "$.fai.radius1d_path", "$.fai.radius2d_path"
    with np.errstate(over="ignore"):  # what single precision does not hold is no radius
        centres = _row(path1d, name1d).astype(np.float32)
        image = load_image(path2d, name2d, replace(spec, channels=1), finite=False).astype(np.float32)
    image[~np.isfinite(image)] = np.nan
    if len(centres) != matrix.nb_bins:
        reason = f"it has {len(centres)} values, the matrix {matrix.nb_bins} bins; use the files of one calibration"
        raise ParamError(name1d, path1d, reason)
    if not np.isfinite(centres).all() or (np.diff(centres) <= 0).any():
        raise ParamError(name1d, path1d, "its values are the centres of the bins: they must be finite and rise")
    if reason := _misfit(centres.astype(np.float64), image.reshape(-1), matrix):
        raise ParamError(name2d, path2d, reason)
    return centres, image


def _row(path: str, json_path: str) -> NDArray[np.float64]:
    file = existing_file(path, json_path, "the centres of the bins")
    try:
        found = np.squeeze(np.asarray(_read(file, path.partition("::")[2]), np.float64))
        if found.ndim > 1:
            raise ValueError(f"its shape is {found.shape}")
    except UNREADABLE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ParamError(json_path, path, f"this file cannot be read as radii ({reason}); {_FORMATS}") from error
    return np.atleast_1d(found)


def _read(file: str, dataset: str) -> Any:
    suffix = Path(file).suffix.lower()
    if suffix == ".npy":
        return np.load(file, allow_pickle=False)
    if suffix in {".txt", ".dat"}:
        return np.loadtxt(file)
    io: Any = import_module("silx.io")  # late: a quarter of a second, only where a file is given
    with io.open(file) as root:
        if dataset:
            return root[dataset][()]
        rows = _rows(root)
        if len(rows) != 1:
            raise ValueError(f"{len(rows)} rows of numbers: add ::/path/of/dataset; have: {', '.join(rows) or 'none'}")
        return root[rows[0]][()]


def _rows(root: Any) -> list[str]:
    found: list[str] = []

    def visit(name: str, node: Any) -> None:
        if getattr(node, "ndim", 0) == 1 and node.dtype.kind in "fiu":
            found.append(f"/{name}")

    root.visititems(visit)
    return found


def _misfit(centres: NDArray[np.float64], radius: NDArray[np.float32], matrix: Matrix) -> str:
    """Why the radius of the pixels is not that of their bins; empty where it is."""
    width = np.gradient(centres) if len(centres) > 1 else np.full(1, np.inf)
    bins, own = matrix.bins, radius[matrix.pixels]
    known = np.isfinite(own)
    if not known.any():
        return "no pixel that the matrix uses has a radius; use the files of one calibration"
    near = np.abs(own[known] - centres[bins[known]]) <= FAR * width[bins[known]]
    if np.count_nonzero(near) < SEEN * np.count_nonzero(known):
        part = np.count_nonzero(near) / np.count_nonzero(known)
        return (
            f"only {part:.0%} of the pixels are near the centre of their bin "
            f"($.fai.radius1d_path, $.fai.csr_path): is it of another detector or in another unit? The radii go from "
            f"{np.nanmin(own):.4g} to {np.nanmax(own):.4g}, the centres from {centres[0]:.4g} to {centres[-1]:.4g}"
        )
    return ""
