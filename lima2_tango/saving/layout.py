"""What a data file contains, as plain data: the NeXus tree without a file.

::

    /                              NXroot
      <entry>                      NXentry: start_time, end_time, program_name
        measurement                NXcollection: data -> the images
        plot                       NXdata: data -> the images; what a viewer shows first
        <instrument>               NXinstrument
          <detector>               NXdetector: exposure, pixel sizes, serial number
            data                   the images, one HDF5 chunk per frame and channel; or the vectors, a chunk each
            data_errors            of vectors that have them: the error of each value
            start_time             per row: begin of the exposure, seconds since 1970-01-01 UTC
            frame_idx              per row: global frame number (see `file_tree`)
            valid                  per row: 0 for the placeholder of a lost frame; absent when every frame is real
            missing_modules        per row: bit m is set where module m is missing; absent when none is
            fabrication            NXfabrication: model, serial number
            receiver               NXcollection: which part of the series this file holds
            params                 NXcollection: acquisition and processing parameters, as JSON

What is equal in all files of a series is in `series_tree`, the rest in `file_tree`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from lima2_tango.core.frame import FrameSpec
from lima2_tango.core.storage import NbDimensions, SavingParams

PROGRAM = "lima2_tango"
IN_ENTRY = ("measurement", "plot", "sparsify", "start_time", "end_time", "program_name")
"""Names in the entry that an instrument cannot have."""
MISSING = "missing_modules"
"""Name of the dataset with the mask of missing modules of each row."""
ERRORS = "_errors"
"""NeXus' ending of the name of a dataset with the errors of another."""
IN_INSTRUMENT = ("name",)
"""Names in the instrument that a detector cannot have."""

Value = str | int | float | NDArray[np.generic]


@dataclass(frozen=True, slots=True)
class SeriesMetadata:
    """What is known of a series at Prepare and worth reading years later."""

    plugin: str
    """Camera plugin."""
    model: str
    serial: str
    pixel_size: tuple[float, float]
    """(x, y) [m]"""
    expo_time_us: int
    """Exposure time of one detector frame [us]."""
    latency_time_us: int
    """Dead time between two exposures [us]."""
    acquisition_json: str
    """Acquisition parameters."""
    processing_json: str
    """Processing parameters."""
    rank: int
    """The receiver's place among the receivers, from 0."""
    version: str
    """Of this software."""


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of one file, in order."""

    number: int
    """The file's number in its name."""
    index: NDArray[np.int64]
    """[row] global frame number."""
    time: NDArray[np.float64]
    """[row] begin of the exposure, seconds since the epoch (UTC)."""
    valid: NDArray[np.bool_]
    """[row] False for a placeholder."""
    missing: NDArray[np.uint64]
    """[row] bit m is set where module m is missing, its pixels are zero."""

    def __len__(self) -> int:
        return len(self.index)

    def resized(self, rows: int) -> "Rows":
        """Copy with the first of them, or with room for more."""
        index, time = np.resize(self.index, rows), np.resize(self.time, rows)
        return Rows(self.number, index, time, np.resize(self.valid, rows), np.resize(self.missing, rows))

    @property
    def regular(self) -> bool:
        """True when first, last and count say every row's number."""
        steps = np.diff(self.index)
        return bool(np.all(steps == steps[:1]))


@dataclass(frozen=True, slots=True)
class Field:
    """A dataset that is written once."""

    value: Value
    attrs: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Images:
    """A dataset that frames are written to: a row per frame, a chunk per channel."""

    row_shape: tuple[int, ...]
    """(channel, row, column), (row, column), or (length,) of a vector"""
    dtype: np.dtype
    attrs: Mapping[str, Value] = field(default_factory=dict)

    @property
    def chunks(self) -> tuple[int, ...]:
        """Shape of a chunk: one channel of one frame, or one vector."""
        return (1,) * max(1, len(self.row_shape) - 1) + self.row_shape[-2:]


@dataclass(frozen=True, slots=True)
class Flat:
    """A dataset of values one behind the other, of all rows."""

    dtype: np.dtype
    attrs: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ragged:
    """A dataset of rows of any length: arrays of one type."""

    dtype: np.dtype
    attrs: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Link:
    """Soft link to another place in the file; with a `file`, in that one beside it."""

    target: str
    file: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """A group; one without a class adds to a group that exists."""

    nx_class: str = ""
    children: "Mapping[str, Node]" = field(default_factory=dict)
    attrs: Mapping[str, Value] = field(default_factory=dict)


Node = Group | Field | Images | Flat | Ragged | Link


def data_path(params: SavingParams) -> str:
    """Where the images are."""
    return f"/{params.nx_entry_name}/{params.nx_instrument_name}/{params.nx_detector_name}/data"


def data_paths(params: SavingParams, spec: FrameSpec, vectors: bool) -> list[str]:
    """Where the chunks of a frame go: all into the images, or one into the vectors and one into their errors."""
    path = data_path(params)
    return [path, f"{path}{ERRORS}"][: spec.channels] if vectors else [path]


def series_tree(params: SavingParams, spec: FrameSpec, metadata: SeriesMetadata, vectors: bool = False) -> Group:
    """What every file of the series contains; `vectors` as of `core.sink.OpenSink`."""
    paths = data_paths(params, spec, vectors)
    shape, kind = ((spec.width,), "spectrum") if vectors else (row_shape(params, spec), "image")
    frames = {path.rpartition("/")[2]: Images(shape, spec.dtype, {"interpretation": kind}) for path in paths}
    layout = "linear" if vectors else "area"
    detector = Group("NXdetector", {**frames, **about_series(params, metadata), "layout": Field(layout)})
    instrument = Group("NXinstrument", {"name": Field(params.nx_instrument_name), params.nx_detector_name: detector})
    links = {name: Link(path) for name, path in zip(frames, paths, strict=True)}
    entry: dict[str, Node] = {
        "program_name": Field(PROGRAM, {"version": metadata.version}),
        params.nx_instrument_name: instrument,
        "measurement": Group("NXcollection", links),
        "plot": Group("NXdata", links, {"signal": "data"}),
    }
    return Group(
        "NXroot",
        {params.nx_entry_name: Group("NXentry", entry, {"default": "plot"})},
        {"default": params.nx_entry_name, "creator": PROGRAM, "creator_version": metadata.version},
    )


def file_tree(params: SavingParams, metadata: SeriesMetadata, rows: Rows, name: str, now: datetime) -> Group:
    """What differs from file to file; `rows` has one row or more, `now` is the time of writing.

    `frame_idx` is there when `include_frame_idx` asks for it, and always when the numbers are not evenly spaced:
    else `receiver/first_frame`, `last_frame` and `nb_frames` say the same.
    """
    first, last = int(rows.index[0]), int(rows.index[-1])
    receiver = {"file_number": rows.number, "nb_frames": len(rows), "first_frame": first, "last_frame": last}
    detector: dict[str, Node] = {
        "receiver": Group("", {name: Field(value) for name, value in receiver.items()}),
        "start_time": Field(rows.time, {"units": "s", "start": _iso(0.0)}),
        "frame_start_number": Field(first),
    }
    if params.include_frame_idx or not rows.regular:
        detector["frame_idx"] = Field(rows.index.astype(np.uint64))
    if not rows.valid.all():
        detector["valid"] = Field(rows.valid.astype(np.uint8))
    if rows.missing.any():
        detector[MISSING] = missing_field(rows.missing)
    entry: dict[str, Node] = {
        "start_time": Field(_iso(float(rows.time[0]))),
        "end_time": Field(_iso(float(rows.time[-1]) + metadata.expo_time_us * 1e-6)),
        params.nx_instrument_name: Group("", {params.nx_detector_name: Group("", detector)}),
    }
    attrs = {"file_name": name, "file_time": now.isoformat()}
    return Group("", {params.nx_entry_name: Group("", entry)}, attrs)


def about_detector(params: SavingParams, metadata: SeriesMetadata) -> dict[str, Node]:
    """What is known of the detector itself, the same for all receivers."""
    return {
        "description": Field(f"{metadata.plugin} {metadata.model}".strip()),
        "local_name": Field(params.nx_detector_name),
        "serial_number": Field(metadata.serial),
        "fabrication": Group("NXfabrication", {"model": Field(metadata.model)}),
        "x_pixel_size": Field(metadata.pixel_size[0], {"units": "m"}),
        "y_pixel_size": Field(metadata.pixel_size[1], {"units": "m"}),
        "count_time": Field(metadata.expo_time_us * 1e-6, {"units": "s"}),
        "latency_time": Field(metadata.latency_time_us * 1e-6, {"units": "s"}),
        "frame_time": Field((metadata.expo_time_us + metadata.latency_time_us) * 1e-6, {"units": "s"}),
    }


def about_series(params: SavingParams, metadata: SeriesMetadata) -> dict[str, Node]:
    """What the detector's group says of the series and of this receiver's part."""
    json_text = {"type": "application/json"}
    return {
        **about_detector(params, metadata),
        "receiver": Group("NXcollection", {"rank": Field(metadata.rank)}),
        "params": Group(
            "NXcollection",
            {
                "acquisition": Field(metadata.acquisition_json, json_text),
                "processing": Field(metadata.processing_json, json_text),
            },
        ),
    }


def missing_field(missing: NDArray[np.uint64]) -> Field:
    """The masks of missing modules, one a frame."""
    return Field(missing, {"long_name": "bit m is set where module m is missing: its pixels are zero"})


def row_shape(params: SavingParams, spec: FrameSpec) -> tuple[int, ...]:
    """(channel, row, column), or (row, column)."""
    flat = params.nb_dimensions is NbDimensions.DIM_3D_OR_4D and spec.channels == 1
    return spec.shape[1:] if flat else spec.shape


def _iso(time: float) -> str:
    """ISO 8601 in UTC, from seconds since the epoch."""
    return datetime.fromtimestamp(time, UTC).isoformat()
