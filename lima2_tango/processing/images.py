"""Calibration images from the files that beamlines have: EDF, CBF, TIFF, NumPy, HDF5."""

import zlib
from importlib import import_module
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from lima2_tango.core.errors import ParamError
from lima2_tango.core.frame import FrameSpec
from lima2_tango.core.imagefiles import undamaged

_NUMPY = {".npy", ".npz"}
_HDF5 = {".h5", ".hdf5", ".hdf", ".nxs", ".nx", ".cxi"}
UNREADABLE = (MemoryError, 
    OSError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError, RuntimeError, EOFError, zlib.error,
    BadZipFile,
)  # fmt: skip
"""What the readers raise for files that are not what their names say; fabio has no error class of its own."""
LARGEST = float(np.finfo(np.float32).max)
"""What is delivered has single precision: a larger number would make infinities."""
_FORMATS = "use EDF, CBF, TIFF, npy, npz or HDF5 (file.h5, or file.h5::/path/of/dataset)"


def load_image(path: str, json_path: str, spec: FrameSpec, finite: bool = True) -> NDArray[Any]:
    """A calibration image for frames of `spec`: (row, column) for all channels, or (channel, row, column).

    Several images in a file are the channels. HDF5 files are asked for `file.h5::/path/of/dataset`, else for their
    default NXdata, else for their only image. Raises ParamError, which names `json_path`, for whatever is wrong, also
    for pixels that are not `finite`, where they must be.
    """
    if not path:
        raise ParamError(json_path, path, "a file is needed; give its path, or disable this correction")
    file = existing_file(path, json_path, "the image")
    try:
        image = np.asarray(_read(file, path.partition("::")[2]))
    except UNREADABLE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ParamError(json_path, path, f"this file cannot be read as an image ({reason}); {_FORMATS}") from error
    if image.dtype.kind not in "biuf":
        raise ParamError(json_path, path, f"an image of numbers is needed, this has {image.dtype}; {_FORMATS}")
    image = _fitted(image, path, json_path, spec)
    if finite:
        _check_finite(image, path, json_path)
    return np.ascontiguousarray(image, image.dtype.newbyteorder("="))


def existing_file(path: str, json_path: str, what: str) -> str:
    """The file of a path that may end with ::/place/in/it; raises ParamError where it is none."""
    file = path.partition("::")[0]
    if not path:
        raise ParamError(json_path, path, f"a file with {what} is needed; give its path")
    if Path(file).is_dir():
        raise ParamError(json_path, path, "this is a folder; give the file in it")
    if not Path(file).is_file():
        raise ParamError(json_path, path, "there is no such file on this host; correct the path or copy the file here")
    return file


def load_mask(path: str, json_path: str, spec: FrameSpec) -> NDArray[np.bool_]:
    """Like `load_image`; non-zero is True is a valid pixel, as Lima has it (pyFAI's masks are the other way round)."""
    mask: NDArray[np.bool_] = load_image(path, json_path, spec) != 0
    return mask


def _read(file: str, dataset: str) -> Any:
    suffix = Path(file).suffix.lower()
    if dataset or suffix in _HDF5:
        return _read_hdf5(file, dataset)
    if suffix in _NUMPY:
        return _read_numpy(file)
    import fabio  # late: a quarter of a second, only where a file is given

    with undamaged(), fabio.open(file) as image:
        frames = [image.get_frame(i).data for i in range(image.nframes)]
    return frames[0] if len(frames) == 1 else np.stack(frames)


def _read_numpy(file: str) -> Any:
    loaded = np.load(file, allow_pickle=False)
    if not isinstance(loaded, np.lib.npyio.NpzFile):
        return loaded
    with loaded:
        if len(loaded.files) != 1:
            raise ValueError(f"one array is needed, it holds {len(loaded.files)}: {', '.join(loaded.files)}")
        return loaded[loaded.files[0]]


def _read_hdf5(file: str, dataset: str) -> Any:
    io: Any = import_module("silx.io")  # late, as above; only parts of it are typed
    nxdata: Any = import_module("silx.io.nxdata")
    with io.open(file) as root:
        if dataset:
            node = root[dataset]
            if io.is_dataset(node):
                return node[()]
            raise ValueError(f"{dataset} is a group; have: {', '.join(_images(root)) or 'no image'}")
        default = nxdata.get_default(root)
        if default is not None:
            return default.signal[()]
        found = _images(root)
        if len(found) != 1:
            raise ValueError(f"no default and {len(found)} images: add ::/path/of/dataset; have: {', '.join(found)}")
        return root[found[0]][()]


def _images(root: Any) -> list[str]:
    """Paths of all datasets of two or three dimensions."""
    found: list[str] = []

    def visit(name: str, node: Any) -> None:
        if getattr(node, "ndim", 0) in {2, 3}:
            found.append(f"/{name}")

    root.visititems(visit)
    return found


def _fitted(image: NDArray[Any], path: str, json_path: str, spec: FrameSpec) -> NDArray[Any]:
    """The image as (row, column) or (channel, row, column)."""
    fitted = image[0] if image.ndim == 3 and len(image) == 1 else image
    if fitted.shape in {spec.shape, spec.shape[1:]}:
        return fitted
    raise ParamError(
        json_path,
        path,
        f"its shape is {image.shape}, the frames are {spec.shape} (channel, row, column); use an image made with the "
        "same detector, binning and region",
    )


def _check_finite(image: NDArray[Any], path: str, json_path: str) -> None:
    bad = ~(np.abs(image) <= LARGEST) if image.dtype.kind == "f" else np.zeros(0, np.bool_)
    if bad.any():
        beyond = f" or beyond {LARGEST:.1e}" if np.isfinite(image[bad]).any() else ""
        first = tuple(int(i) for i in np.unravel_index(int(np.argmax(bad)), image.shape))
        raise ParamError(
            json_path,
            path,
            f"{int(bad.sum())} pixels are not finite{beyond}, the first at {first} "
            f"({'channel, ' * (image.ndim - 2)}row, column); replace them by numbers and mask these pixels",
        )
