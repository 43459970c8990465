"""What an HDF5 file says of its frames: where they are, which of the series each is, and when it was taken."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401 - registers the filters of compressed datasets
import numpy as np
from numpy.typing import NDArray

from lima2_tango.core.errors import ParamError

ANSWER = "$.files"
"""Where refusals point to: the files that were named."""
LATEST = 2.5e11
"""Seconds since the epoch of the last times that have a date, in the year 9892."""
STEPS = 8
"""Groups that the default plot of a NeXus file may be deep."""


@dataclass(frozen=True, slots=True)
class Record:
    """The frames of one file."""

    path: Path
    dataset: str
    """Path of the images in an HDF5 file, empty in others."""
    index: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    """[row] number of each frame in its series; empty where the file does not say."""
    time: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    """[row] when its exposure began, seconds since the epoch (UTC); empty where the file does not say."""
    valid: NDArray[np.bool_] = field(default_factory=lambda: np.empty(0, np.bool_))
    """[row] False for the placeholder of a lost frame; empty where all are real."""
    acquisition: str = ""
    """Acquisition parameters of the run, JSON; empty where the file has none."""
    model: str = ""
    """Of the detector."""
    serial: str = ""
    pixel_size: tuple[float, float] = (0.0, 0.0)
    """(x, y) [m]; 0 where the file does not say."""


def look_into(path: Path, dataset: str) -> list[Record]:
    """Of an HDF5 file; for a master file over data files of ours, these. `dataset` empty is the default plot.

    Raises ParamError for what cannot be read, has no images, or shows files that are gone.
    """
    try:
        with h5py.File(path, "r", locking="best-effort") as file:
            images = file[dataset] if dataset else _images(file)
            if isinstance(images, h5py.Group):
                images = images[images.attrs.get("signal", "data")]
            record = _record(images)
            sources = _sources(record.path, images) if images.is_virtual else []
    except (OSError, KeyError, RuntimeError, AttributeError, TypeError, ValueError) as error:
        what = " ".join(str(error).split())
        raise ParamError(ANSWER, str(path), f"no images can be read ({what}); is it complete? Say --dataset") from error
    behind = [_row_by_row(source, name) for source, name in sources]
    return [one for one in behind if one is not None] if behind and None not in behind else [record]


def _images(file: Any) -> Any:
    """The default plot of a NeXus file, else its only image dataset; raises KeyError."""
    node = file
    for _ in range(STEPS):
        if "signal" in node.attrs:
            return node[node.attrs["signal"]]
        if "default" not in node.attrs:
            break
        node = node[node.attrs["default"]]
    found: dict[Any, Any] = {}

    def visit(_: str, one: Any) -> None:
        if getattr(one, "ndim", 0) in {3, 4}:
            found[one.id] = one

    file.visititems(visit)
    if len(found) != 1:
        names = ", ".join(one.name for one in found.values()) or "none"
        raise KeyError(f"it has no default plot, and these images: {names}")
    return next(iter(found.values()))


def _record(images: Any) -> Record:
    """Of the file in which the images are, which another may have a link to."""
    detector, rows = _home(images), len(images) if images.ndim > 2 else 1
    return Record(
        Path(images.file.filename),
        images.name,
        _numbers(detector, rows, images.is_virtual),
        _times(detector, rows),
        _column(detector, "valid", rows, np.dtype(np.bool_)),
        _acquisition(detector),
        _text(detector, "fabrication/model"),
        _text(detector, "serial_number"),
        (_size(detector, "x_pixel_size"), _size(detector, "y_pixel_size")),
    )


def _home(images: Any) -> Any:
    """The group in which the images really are: beside them is what else is known."""
    link = images.parent.get(images.name.rpartition("/")[2], getlink=True)
    return images.file[link.path].parent if isinstance(link, h5py.SoftLink) else images.parent


def _numbers(detector: Any, rows: int, master: bool) -> NDArray[np.int64]:
    """Of a data file of ours, or of a master file."""
    found = detector.get("frame_idx")
    if isinstance(found, h5py.Dataset) and found.shape == (rows,) and found.dtype.kind in "iu":
        return np.asarray(found[...], np.int64)
    receiver = detector.get("receiver")
    ends: list[Any] = []
    if isinstance(receiver, h5py.Group):
        ends = [receiver.get(name) for name in ("first_frame", "last_frame")]
    if ends and all(isinstance(end, h5py.Dataset) and end.shape == () and end.dtype.kind in "iu" for end in ends):
        first, last = (int(end[()]) for end in ends)
        return np.linspace(first, last, rows).round().astype(np.int64)
    return np.arange(rows, dtype=np.int64) if master else np.empty(0, np.int64)


def _times(detector: Any, rows: int) -> NDArray[np.float64]:
    """0 where the file has something that is no time."""
    found = _column(detector, "start_time", rows, np.dtype(np.float64))
    return np.where((found >= 0) & (found < LATEST), found, 0.0)


def _column(detector: Any, name: str, rows: int, dtype: np.dtype) -> NDArray[Any]:
    node = detector.get(name)
    if not isinstance(node, h5py.Dataset) or node.shape != (rows,) or node.dtype.kind not in "iuf":
        return np.empty(0, dtype)
    found: NDArray[Any] = node[...].astype(dtype)
    return found


def _acquisition(detector: Any) -> str:
    """Of a data file, or of a master file; JSON of an object, empty where there is none."""
    text = _text(detector, "params/acquisition") or _text(detector, "params/acquisition_json")
    return text if text.startswith("{") else ""


def _text(detector: Any, name: str) -> str:
    node = detector.get(name)
    if not isinstance(node, h5py.Dataset) or node.shape != () or h5py.check_string_dtype(node.dtype) is None:
        return ""
    return str(node.asstr()[()])


def _size(detector: Any, name: str) -> float:
    node = detector.get(name)
    return float(node[()]) if isinstance(node, h5py.Dataset) and node.shape == () and node.dtype.kind == "f" else 0.0


def _sources(path: Path, images: Any) -> list[tuple[Path, str]]:
    """Files behind a virtual dataset, each once; raises ParamError for one that is gone."""
    found = {(path.parent / source.file_name, source.dset_name): None for source in images.virtual_sources()}
    for file, _ in found:
        if file.name != "." and "%" not in file.name and not file.exists():
            raise ParamError(ANSWER, str(path), f"it shows frames of {file}, which is gone: put it back")
    return list(found)


def _row_by_row(path: Path, dataset: str) -> Record | None:
    """A data file of ours behind a master file; None for another, whose frames only the master knows."""
    if not path.is_file():
        return None
    with h5py.File(path, "r", locking="best-effort") as file:
        record = _record(file[dataset])
    return record if len(record.index) else None
