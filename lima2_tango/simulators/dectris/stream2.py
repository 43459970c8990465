"""Stream 2: each message is one map of CBOR.

Source: https://github.com/dectris/documentation (stream_v2, cbor).
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from .cbor import (
    DATE,
    FIXED_UINT,
    MAP,
    SELF_DESCRIBED,
    TEXT,
    Ready,
    fixed,
    grid,
    grid_head,
    head,
    item,
    tagged,
)
from .frames import Chunk
from .series import BASE, Image, Series, date_text

AXES = ("chi", "kappa", "omega", "phi", "two_theta")
PLAIN = {
    "beam_center_x": "beam_center_x",
    "beam_center_y": "beam_center_y",
    "count_time": "count_time",
    "countrate_correction_enabled": "countrate_correction_applied",
    "detector_description": "description",
    "detector_serial_number": "detector_number",
    "flatfield_enabled": "flatfield_correction_applied",
    "frame_time": "frame_time",
    "image_size_x": "x_pixels_in_detector",
    "image_size_y": "y_pixels_in_detector",
    "incident_energy": "photon_energy",
    "incident_wavelength": "wavelength",
    "pixel_mask_enabled": "pixel_mask_applied",
    "pixel_size_x": "x_pixel_size",
    "pixel_size_y": "y_pixel_size",
    "saturation_value": "countrate_correction_count_cutoff",
    "sensor_material": "sensor_material",
    "sensor_thickness": "sensor_thickness",
    "virtual_pixel_interpolation_enabled": "virtual_pixel_correction_applied",
}
"""Fields of the start message, and the parameters that they are."""


def start(series: Series) -> bytes:
    """The message of arm."""
    message: dict[str, Any] = {
        "type": "start",
        "arm_date": _date(series.armed),
        "channels": list(series.channels),
        "detector_translation": [0.0, 0.0, -series.value("detector_distance")],
        "goniometer": {axis: _axis(series, axis) for axis in AXES},
        "number_of_images": series.nb_images,
        "series_id": series.number,
        "series_unique_id": series.unique_id,
        "threshold_energy": _energies(series),
        "user_data": series.stream["header_appendix"].value,
    }
    message |= {field: series.value(key) for field, key in PLAIN.items()}
    if series.stream["header_detail"].value == "all":
        message |= _arrays(series)
    return SELF_DESCRIBED + item(message)


def end(series: Series) -> bytes:
    return SELF_DESCRIBED + item({"type": "end", "series_id": series.number, "series_unique_id": series.unique_id})


def _date(moment: datetime) -> Ready:
    return tagged(DATE, item(date_text(moment)))


def _axis(series: Series, axis: str) -> dict[str, float]:
    return {"increment": series.value(f"{axis}_increment"), "start": series.value(f"{axis}_start")}


def _energies(series: Series) -> dict[str, float]:
    keys = [key for key in series.config if key.startswith("threshold/") and key.endswith("/energy")]
    return {f"threshold_{key.split('/')[1]}": series.value(key) for key in keys}


def _arrays(series: Series) -> dict[str, Any]:
    def each(key: str) -> dict[str, Ready]:
        return {name: grid(_of_channel(series.config, name, key)) for name in series.channels}

    table = np.linspace(0.0, float(series.value("countrate_correction_count_cutoff")), 1000, dtype=np.float32)
    lookup = tagged(85, item(table.tobytes()))
    arrays: dict[str, Any] = {key: each(key) for key in ("flatfield", "pixel_mask")}
    return {"countrate_correction_lookup_table": lookup, **arrays}


def _of_channel(config: Mapping[str, Any], channel: str, key: str) -> Any:
    number = channel.removeprefix("threshold_")
    entry: Any = config.get(f"threshold/{number}/{key}", config[key])
    return entry.value


@dataclass(slots=True)
class Slot:
    """The message of one image, made but for what changes from image to image, which has a place of its own."""

    message: bytearray
    places: Mapping[str, int]
    """Where the numbers and texts begin [byte]."""

    def fill(self, series: Series, image: Image) -> None:
        """Make it the message of `image`; nobody may be sending it."""
        texts = {"series_unique_id": series.unique_id, "series_date": date_text(series.begun or series.armed)}
        for key, text in texts.items():
            place = self.places[key]
            self.message[place : place + len(text)] = text.encode()
        numbers = {
            "image_id": image.number,
            "series_id": image.series_number,
            "start_time": image.start,
            "stop_time": image.stop,
            "real_time": image.stop - image.start,
        }
        for key, number in numbers.items():
            struct.pack_into(">Q", self.message, self.places[key], number)


def slot(series: Series, chunks: Sequence[Chunk]) -> Slot:
    """Room for the message of an image with these chunks, one for each channel."""
    out, places = bytearray(SELF_DESCRIBED + head(MAP, 10)), {}
    for key, encoded, skip in _fields(series):
        out += item(key)
        places[key] = len(out) + skip
        out += encoded
    out += item("user_data") + item(series.stream["image_appendix"].value)
    out += item("data") + head(MAP, len(chunks))
    recipe = series.ring.recipe
    for name, chunk in zip(series.channels, chunks, strict=True):
        out += item(name) + grid_head(recipe.shape, recipe.dtype, recipe.compression, len(chunk.data))
        out += chunk.data
    return Slot(out, places)


def _fields(series: Series) -> list[tuple[str, bytes, int]]:
    """Key, bytes, and where in them lies what changes."""
    rational = head(4, 2) + fixed(0) + item(BASE)
    date = tagged(DATE, item(date_text(series.armed))).encoded
    into_number = FIXED_UINT - 8
    return [
        ("type", item("image"), 0),
        ("image_id", fixed(0), into_number),
        ("series_id", fixed(0), into_number),
        ("series_unique_id", item(series.unique_id), len(head(TEXT, len(series.unique_id)))),
        ("series_date", date, len(date) - len(date_text(series.armed))),
        ("real_time", rational, 1 + into_number),
        ("start_time", rational, 1 + into_number),
        ("stop_time", rational, 1 + into_number),
    ]
