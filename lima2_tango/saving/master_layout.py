"""What a master file contains beside the frames, as plain data: the tree of a conductor's master file, and what we add.

::

    /                              NXroot
      <entry>                      NXentry: program_name
        measurement                NXcollection: data -> the frames
        <instrument>               NXinstrument
          <detector>               NXdetector: exposure, pixel sizes, serial number
            data                   the frames in global order; of sparse ones a group (index, intensity, frame_ptr)
            valid                  per frame: 0 where no file has it or it is a placeholder; absent when all are real
            missing_modules        per frame: bit m is set where module m is missing; absent when none is
            frame_idx              per frame: its number, when `include_frame_idx` asks for it
            plot                   NXdata: data -> the frames; what a viewer shows first; not of sparse ones
            fabrication            NXfabrication: model, serial number
            params                 NXcollection: acquisition and processing parameters, value by value and as JSON
            detector_information   NXcollection: plugin, model, serial number, pixel size
"""

import json
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from lima2_tango.core.storage import SavingParams

from .layout import MISSING, PROGRAM, Field, Group, Link, Node, SeriesMetadata, about_detector, data_path, missing_field
from .sources import Kind

NEXUS_RELEASE = "2025.11"


@dataclass(frozen=True, slots=True)
class Marks:
    """What is wrong with the frames, in global order."""

    valid: NDArray[np.bool_]
    """[frame] False where no file has it, or it is a placeholder."""
    missing: NDArray[np.uint64]
    """[frame] bit m is set where module m is missing."""


def master_tree(
    params: SavingParams, kind: Kind, metadata: SeriesMetadata, marks: Marks, name: str, now: datetime
) -> Group:
    """`now` is the time of writing."""
    plot = kind != "sparse"
    link = Link(data_path(params))
    detector = _detector(params, metadata, marks)
    if plot:
        detector["plot"] = Group("NXdata", {"data": link}, {"signal": "data"})
    path = (params.nx_instrument_name, params.nx_detector_name, "plot")
    instrument: dict[str, Node] = {
        params.nx_detector_name: Group("NXdetector", detector, {"default": "plot"} if plot else {})
    }
    entry: dict[str, Node] = {
        "program_name": Field(PROGRAM, {"version": metadata.version}),
        params.nx_instrument_name: Group("NXinstrument", instrument, {"default": "/".join(path[1:])} if plot else {}),
        "measurement": Group("NXcollection", {"data": link}),
    }
    attrs = {
        "default": params.nx_entry_name,
        "file_name": name,
        "NeXus_release": NEXUS_RELEASE,
        "creator": PROGRAM,
        "creator_version": metadata.version,
        "file_time": now.isoformat(),
    }
    root = {params.nx_entry_name: Group("NXentry", entry, {"default": "/".join(path)} if plot else {})}
    return Group("NXroot", root, attrs)


def _detector(params: SavingParams, metadata: SeriesMetadata, marks: Marks) -> dict[str, Node]:
    detector = about_detector(params, metadata)
    if params.include_frame_idx:
        detector["frame_idx"] = Field(np.arange(len(marks.valid), dtype=np.uint64))
    if not marks.valid.all():
        detector["valid"] = Field(marks.valid.astype(np.uint8))
    if marks.missing.any():
        detector[MISSING] = missing_field(marks.missing)
    texts = {"acquisition": metadata.acquisition_json, "processing": metadata.processing_json}
    parameters = {name: _values(json.loads(text)) for name, text in texts.items()}
    as_json = {f"{name}_json": Field(text, {"type": "application/json"}) for name, text in texts.items()}
    detector["params"] = Group("NXcollection", parameters | as_json)
    x, y = metadata.pixel_size
    about = {
        "plugin": metadata.plugin,
        "model": metadata.model,
        "sn": metadata.serial,
        "pixel_size": {"x": x, "y": y},
    }
    detector["detector_information"] = _values(about)
    return detector


def _values(value: object) -> Node:
    """Parsed JSON as groups and datasets; what is null is left out, HDF5 has no such thing."""
    if isinstance(value, list):
        value = {str(number): one for number, one in enumerate(value)}
    if isinstance(value, dict):
        items = {_name(key): one for key, one in value.items() if one is not None}
        return Group("NXcollection", {key: _values(one) for key, one in items.items()})
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        value = str(value)
    assert isinstance(value, str | int | float), value  # json.loads makes nothing else
    return Field(value.replace("\0", "") if isinstance(value, str) else value)


def _name(key: str) -> str:
    """The key where HDF5 takes it as a name."""
    return key.replace("/", "_").replace("\0", "_") if key not in {"", ".", ".."} else "_"
