"""What a file of a run holds."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from lima2_tango.client.files import MASTER, SavedRun, open_run
from lima2_tango.core.errors import NotAvailableError, ParamError
from lima2_tango.core.units import bytes_text, microseconds_text

from .readable import check_readable, is_sparse

Box = tuple[int, int, int, int]
"""x, y, width, height [pixel]"""


@dataclass(frozen=True, slots=True)
class Column:
    """A motor, or a monitor: a value for each frame."""

    name: str
    unit: str
    values: list[float]


@dataclass(frozen=True, slots=True)
class Curve:
    """A region of interest over the frames; what was lost is None."""

    roi: Box
    sum: list[float | None]
    """[frame] of its pixels [count]."""
    mean: list[float | None]
    """[frame] of its pixels [count]."""


@dataclass(frozen=True, slots=True)
class Shown:
    """The frame that is shown."""

    index: int
    min: float
    max: float
    mean: float
    std: float
    sum: float


@dataclass(slots=True)
class Summary:
    """One look at a file."""

    file: str
    kind: str
    """master, or data."""
    frames: int
    first: int
    last: int
    shape: tuple[int, ...]
    """Of a frame: (row, column), with channels before where there are several."""
    dtype: str
    lost: list[int]
    """Frames that are placeholders."""
    files: int
    """Files that hold the frames."""
    stored: int
    """Their bytes on disk; of a data file those of its frames alone."""
    raw: int
    """Bytes of all frames without compression."""
    detector: str
    exposure: float | None
    """[s]"""
    written: str
    """When, ISO 8601."""
    pipeline: str
    shown: Shown
    columns: list[Column] = field(default_factory=list)
    rois: list[Curve] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """For programs; keys as in the class."""
        return asdict(self)

    def lines(self) -> list[tuple[str, str]]:
        """For people: what, and how it is."""
        numbers = f"{self.frames} frames, {self.first} to {self.last}"
        lost = f"{len(self.lost)}, the first is {self.lost[0]}" if self.lost else "none"
        ratio = f" ({self.raw / self.stored:.1f} times less than raw)" if 0 < self.stored < self.raw else ""
        where = f"{bytes_text(self.stored)} in {self.files} file{'s' * (self.files != 1)}{ratio}"
        shown = self.shown
        values = f"min {shown.min:g}, max {shown.max:g}, mean {shown.mean:.6g}, std {shown.std:.6g}, sum {shown.sum:g}"
        told = [
            ("file", f"{self.file} ({self.kind} file)"),
            ("frames", f"{numbers}; {' x '.join(map(str, self.shape))} {self.dtype}"),
            ("lost", lost),
            ("stored", where),
            ("detector", self.detector),
            ("exposure", "" if self.exposure is None else microseconds_text(round(self.exposure * 1e6))),
            ("pipeline", self.pipeline),
            ("written", self.written),
            *((each.name, _range_of(each)) for each in self.columns),
            (f"frame {shown.index}", values),
        ]
        return [line for line in told if line[1]]


def look(path: Path, frame: int | None, boxes: Sequence[Box]) -> tuple[Summary, NDArray[Any]]:
    """What is in a file, and the frame that was asked for, or its first: [channel, row, column], or [channel, value].

    Raises NotAvailableError with a sentence for what cannot be read, ParamError for a region beyond the frames.
    """
    check_readable(path)
    with _opened(path) as run:
        if not len(run):
            raise NotAvailableError(f"{path} holds no frame: the run was stopped before the first")
        chosen = run.frame(int(run.index[0]) if frame is None else frame)
        _check_boxes(run, boxes)
        summary = _summary(path, run, chosen.index, chosen.data)
        summary.rois = _curves(run, boxes)
        return summary, chosen.data


def _opened(path: Path) -> SavedRun:
    try:
        return open_run(path)
    except NotAvailableError as error:
        if is_sparse(path):
            raise NotAvailableError(
                f"{path} holds sparse frames, and here dense ones are shown: fabio.open of the receivers' data files "
                "gives them as images"
            ) from error
        raise


def _summary(path: Path, run: SavedRun, index: int, data: NDArray[Any]) -> Summary:
    detector, root = run.detector, run.detector.file
    raw = len(run) * int(np.prod(run.shape)) * run.dtype.itemsize
    files, stored = _stored(path, run.images[0])
    values = data.astype(np.float64)
    return Summary(
        file=str(path),
        kind="master" if path.name.endswith(MASTER) or run.images[0].is_virtual else "data",
        frames=len(run),
        first=int(run.index[0]),
        last=int(run.index[-1]),
        shape=run.shape,
        dtype=str(run.dtype),
        lost=run.index[~run.valid].tolist(),
        files=files,
        stored=stored,
        raw=raw,
        detector=_text(detector.get("description")),
        exposure=float(detector["count_time"][()]) if "count_time" in detector else None,
        written=_text(root.attrs.get("file_time", "")),
        pipeline=str(run.parameters().get("processing", {}).get("class_name", "")),
        shown=Shown(
            index,
            float(data.min()),
            float(data.max()),
            *(float(one) for one in (values.mean(), values.std(), values.sum())),
        ),
        columns=_columns(run),
    )


def _stored(path: Path, images: h5py.Dataset) -> tuple[int, int]:
    """Files with the frames, and their bytes."""
    if not images.is_virtual:
        return 1, int(images.id.get_storage_size())
    names = {source.file_name.replace("%%", "%") for source in images.virtual_sources()} - {"."}
    return len(names), sum((path.parent / name).stat().st_size for name in names)


def _columns(run: SavedRun) -> list[Column]:
    found = run.positions()
    places = {name: run.detector.parent[f"{name}/value"] for name in found}
    made = [Column(name, _text(places[name].attrs.get("units", "")), found[name].tolist()) for name in found]
    entry = run.detector.parent.parent
    for name, node in entry.items():
        if isinstance(node, h5py.Group) and _text(node.attrs.get("NX_class", "")) == "NXmonitor" and "data" in node:
            made.append(Column(name, _text(node["data"].attrs.get("units", "")), node["data"][...].tolist()))
    return made


def _curves(run: SavedRun, boxes: Sequence[Box]) -> list[Curve]:
    curves = [Curve(box, [], []) for box in boxes]
    if not boxes:
        return curves
    for frame, valid in zip(run, run.valid, strict=True):
        for curve in curves:
            x, y, width, height = curve.roi
            part = frame.data[..., y : y + height, x : x + width]
            curve.sum.append(float(part.sum(dtype=np.float64)) if valid else None)
            curve.mean.append(float(part.mean(dtype=np.float64)) if valid else None)
    return curves


def _check_boxes(run: SavedRun, boxes: Sequence[Box]) -> None:
    if boxes and len(run.shape) < 2:
        raise ParamError("--roi", list(boxes[0]), "the file holds curves, not images: leave the regions out")
    rows, columns = run.shape[-2:] if boxes else (0, 0)
    for x, y, width, height in boxes:
        if x < 0 or y < 0 or width < 1 or height < 1 or x + width > columns or y + height > rows:
            raise ParamError("--roi", [x, y, width, height], f"it leaves the frames of {columns} x {rows} pixels")


def _range_of(column: Column) -> str:
    unit = f" {column.unit}" if column.unit else ""
    return f"{min(column.values):g} to {max(column.values):g}{unit}, a value for each frame"


def _text(found: Any) -> str:
    if isinstance(found, h5py.Dataset):
        found = found[()]
    return found.decode(errors="replace") if isinstance(found, bytes) else str(found or "")
