"""The sparse matrix of an azimuthal integration, from the files that pyFAI's users have."""

import math
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lima2_tango.core.errors import ParamError
from lima2_tango.core.frame import FrameSpec

from .images import LARGEST, UNREADABLE, existing_file
from .kernels.integration import product

BINS_MAX = 2**16 - 1
"""A vector that travels to the clients has no more values."""
IMAGE_BINS_MAX = 2**26
"""Bins of an image that is made of a frame, at most: more than any detector has pixels for."""
MOST_TURNS = 2.1
"""Steps along a line of pixels add up to this many times the number of bins at most; 2, with some distortion."""
ROUNDING = 1e-6
"""Coefficients of pixels that are split come out as small as -1e-9: down to this below 0 they count as 0."""
PARTS = ("data", "indices", "indptr")
SAID = ("format", "shape", "image_shape", "bin_shape")
_FORMATS = (
    "it must hold data, indices and indptr of pyFAI's csr engine, as HDF5 (file.h5, or file.h5::/path/of/group) or as "
    "npz of scipy.sparse.save_npz"
)


@dataclass(frozen=True, slots=True)
class Matrix:
    """Row b holds what each pixel gives to bin b (CSR), for frames of `shape`.

    The entries of bin b are those from bounds[b] to bounds[b + 1] - 1, in the order in which they are added up.
    """

    coefficients: NDArray[np.float32]
    pixels: NDArray[np.int64]
    """Place of the pixel in a flat frame, for each coefficient."""
    bounds: NDArray[np.int64]
    shape: tuple[int, int]
    """(row, column) of the frames."""
    bin_shape: tuple[int, int] | None = None
    """(azimuth, radius) of the bins, radius fastest, where they are those of an integration in two dimensions."""

    @property
    def nb_bins(self) -> int:
        return len(self.bounds) - 1

    @property
    def nb_pixels(self) -> int:
        return self.shape[0] * self.shape[1]

    @property
    def bins(self) -> NDArray[np.int64]:
        """The bin of each coefficient."""
        return np.repeat(np.arange(self.nb_bins), np.diff(self.bounds))

    def dot(self, image: NDArray[Any], power: int = 1) -> NDArray[np.float64]:
        """Sum of coefficient**power * pixel of each bin, of a flat image, in double precision."""
        sums = np.empty(self.nb_bins)
        product((self.coefficients, self.pixels, self.bounds), image.astype(np.float64), power, sums)
        return sums


def load_matrix(path: str, json_path: str, spec: FrameSpec, most_bins: int = BINS_MAX) -> Matrix:
    """The matrix of a file, for any one channel of frames.

    Besides data, indices and indptr a file may say its `format` (csr or csc), its `shape` (bins, pixels), the
    `image_shape` (rows, columns) of the detector and the `bin_shape` (azimuth, radius) of an integration in two
    dimensions, as datasets or attributes. Without an image shape the rings must look like rings in frames of this
    width. Raises ParamError, which names `json_path`, for whatever is wrong.
    """
    file = existing_file(path, json_path, "the integration matrix")
    try:
        found = _read(file, path.partition("::")[2])
        parts = [np.asarray(found[name]) for name in PARTS]
        said = {name: found[name] for name in SAID if name in found}
        said |= {name: _whole(said[name]) for name in SAID[1:] if name in said}
        _check_parts(*parts)
        arrays = _as_csr(parts, said, spec.height * spec.width)
    except UNREADABLE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ParamError(json_path, path, f"this file cannot be read as a matrix ({reason}); {_FORMATS}") from error
    bin_shape = said["bin_shape"] if "bin_shape" in said else None
    matrix = Matrix(*arrays, (spec.height, spec.width), bin_shape)
    if reason := _misfit(matrix, said, most_bins):
        raise ParamError(json_path, path, f"{reason}; make the matrix for this detector, with its binning and region")
    return matrix


def _read(file: str, group: str) -> dict[str, Any]:
    if Path(file).suffix.lower() == ".npz":
        with np.load(file, allow_pickle=False) as loaded:
            return {name: loaded[name] for name in loaded.files}
    io: Any = import_module("silx.io")  # late: a quarter of a second, only where a file is given
    with io.open(file) as root:
        node = root[group] if group else _only_group(root)
        values = {name: node[name][()] for name in (*PARTS, *SAID) if name in node}
        return {name: node.attrs[name] for name in SAID if name in node.attrs} | values


def _only_group(root: Any) -> Any:
    """The group that holds a matrix."""
    found = [root] if all(name in root for name in PARTS) else []

    def visit(_: str, node: Any) -> None:
        if hasattr(node, "keys") and all(name in node for name in PARTS):
            found.append(node)

    root.visititems(visit)
    if len(found) != 1:
        have = ", ".join(node.name for node in found) or f"it has {', '.join(root) or 'nothing'}"
        raise ValueError(f"{len(found)} groups hold data, indices and indptr: {have}")
    return found[0]


def _check_parts(data: NDArray[Any], indices: NDArray[Any], indptr: NDArray[Any]) -> None:
    """Raise ValueError for what is no sparse matrix."""
    if not data.ndim == indices.ndim == indptr.ndim == 1 or len(indptr) < 2:
        raise ValueError("data, indices and indptr must have one dimension, and indptr two values or more")
    if data.dtype.kind not in "fiu" or indices.dtype.kind not in "iu" or indptr.dtype.kind not in "iu":
        raise ValueError(f"data are {data.dtype}, indices {indices.dtype}, indptr {indptr.dtype}: numbers are needed")
    bounds = indptr.astype(np.int64)
    if bounds[0] != 0 or (np.diff(bounds) < 0).any() or not bounds[-1] == len(data) == len(indices):
        raise ValueError(f"indptr must rise from 0 to {len(data)}, the number of data, and indices be as many")
    if not (data <= LARGEST).all() or (data < -ROUNDING).any():
        raise ValueError(f"a coefficient is negative, not finite or beyond {LARGEST:.1e}")
    if len(indices) and not 0 <= int(indices.min()) <= int(indices.max()) <= np.iinfo(np.int64).max:
        raise ValueError("an index is negative or has more than 63 bits")


def _as_csr(parts: list[NDArray[Any]], said: dict[str, Any], nb_pixels: int) -> tuple[Any, Any, Any]:
    data, indices, indptr = parts
    layout = _text(said.get("format", "csc" if len(indptr) - 1 == nb_pixels else "csr"))
    if layout not in {"csr", "csc"}:
        raise ValueError(f"its format is {layout}, csr or csc are known")
    bounds = indptr.astype(np.int64)
    if layout == "csc":
        if len(bounds) - 1 != nb_pixels:
            raise ValueError(f"as csc it is for images of {len(bounds) - 1} pixels, the frames have {nb_pixels}")
        pixels = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
        nb_bins = int(said["shape"][0]) if "shape" in said else int(indices.max(initial=0)) + 1
        order = np.argsort(indices, kind="stable")
        data, indices, bins = data[order], pixels[order], indices[order]
        bounds = np.searchsorted(bins, np.arange(nb_bins + 1)).astype(np.int64)
    return np.maximum(data, 0).astype(np.float32), indices.astype(np.int64), bounds


def _text(value: Any) -> str:
    plain = value.item() if isinstance(value, np.ndarray | np.generic) else value
    return str(plain.decode() if isinstance(plain, bytes) else plain).lower()


def _whole(numbers: Any) -> tuple[int, ...]:
    return tuple(int(number) for number in np.ravel(numbers))


def _misfit(matrix: Matrix, said: dict[str, Any], most_bins: int) -> str:
    """Why the matrix is not for frames of this shape; empty where it is."""
    rows, columns = matrix.shape
    frames = f"the frames have {rows} x {columns} pixels (rows, columns)"
    last = int(matrix.pixels.max(initial=-1))
    if not 1 <= matrix.nb_bins <= most_bins:
        return f"it has {matrix.nb_bins} bins, 1 to {most_bins} are possible"
    if matrix.bin_shape is not None and (
        len(matrix.bin_shape) != 2 or min(matrix.bin_shape) < 1 or math.prod(matrix.bin_shape) != matrix.nb_bins
    ):
        return f"it has {matrix.nb_bins} bins, and says that they are {matrix.bin_shape} (azimuth, radius)"
    if "shape" in said and said["shape"] != (matrix.nb_bins, matrix.nb_pixels):
        return f"its shape is {said['shape']} (bins, pixels), and {frames}, {matrix.nb_pixels} in all"
    if "image_shape" in said and said["image_shape"] != matrix.shape:
        return f"it is for images of {said['image_shape']} (rows, columns), and {frames}"
    if matrix.bin_shape is not None and "image_shape" not in said:
        return f"it is one of two dimensions and does not say for which images: add a dataset image_shape; {frames}"
    if last >= matrix.nb_pixels:
        return f"it is for a larger detector: it uses pixel {last}, and {frames}, {matrix.nb_pixels} in all"
    if "image_shape" not in said and not _has_rings(matrix):
        return (
            f"its rings are no rings in the frames: {frames}; if it is for them, let the file say so in a dataset "
            "image_shape"
        )
    return ""


def _has_rings(matrix: Matrix) -> bool:
    """False where the bins jump about in an image of this shape, as those of an image of another width do.

    Along a line of pixels the radius falls and then rises, so the steps from bin to bin add up to twice their number
    at most. Seen with a wrong width, neighbouring rows are shifted against each other, and the steps are larger.
    """
    of_pixel = np.full(matrix.nb_pixels, -1, np.int32)
    of_pixel[matrix.pixels[::-1]] = matrix.bins[::-1]
    image = of_pixel.reshape(matrix.shape)
    for axis, length in enumerate(matrix.shape):
        lines = matrix.nb_pixels // length
        ahead, behind = np.delete(image, 0, axis), np.delete(image, -1, axis)
        known = (ahead >= 0) & (behind >= 0)
        if np.abs(ahead - behind)[known].sum(dtype=np.int64) > MOST_TURNS * matrix.nb_bins * lines:
            return False
    return True
