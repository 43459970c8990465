"""The legacy stream: messages of several parts, JSON and bytes.

Source: the layouts that the clients of others read (dheader-1.0, dimage-1.0, dimage_d-1.0, dconfig-1.0,
dseries_end-1.0).
It has one image an exposure: that of the first channel.
"""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .frames import Chunk
from .series import BASE, Image, Series

TYPES = {"u1": "uint8", "u2": "uint16", "u4": "uint32"}
BIG = ("pixel_mask", "flatfield")

Parts = list[bytes]


def start(series: Series) -> Parts:
    """The message of arm."""
    detail = series.stream["header_detail"].value
    parts = [_json({"htype": "dheader-1.0", "series": series.number, "header_detail": detail})]
    if detail != "none":
        parts.append(_json({key: entry.value for key, entry in series.config.items() if not key.endswith(BIG)}))
    if detail == "all":
        cutoff = series.value("countrate_correction_count_cutoff")
        table = np.linspace((0, 0), (cutoff, cutoff), 1000, dtype=np.float32)
        parts += _array("dflatfield-1.0", series.value("flatfield"))
        parts += _array("dpixelmask-1.0", series.value("pixel_mask"))
        parts += _array("dcountrate_table-1.0", table)
    return parts + _appendix(series, "header_appendix")


def image(series: Series, one: Image, chunks: Sequence[Chunk]) -> Parts:
    recipe, chunk = series.ring.recipe, chunks[0]
    about = {
        "htype": "dimage_d-1.0",
        "shape": [recipe.shape[1], recipe.shape[0]],
        "type": TYPES[recipe.dtype],
        "encoding": encoding(recipe.dtype, recipe.compression),
        "size": len(chunk.data),
    }
    times = {"start_time": one.start, "stop_time": one.stop, "real_time": one.stop - one.start}
    return [
        _json({"htype": "dimage-1.0", "series": one.series_number, "frame": one.number, "hash": chunk.hash}),
        _json(about),
        chunk.data,
        _json({"htype": "dconfig-1.0", **{key: tick * 10**9 // BASE for key, tick in times.items()}}),
        *_appendix(series, "image_appendix"),
    ]


def end(series: Series) -> Parts:
    return [_json({"htype": "dseries_end-1.0", "series": series.number})]


def encoding(dtype: str, compression: str) -> str:
    """`bs16-lz4<`: bits of a shuffled pixel, the algorithm, and little-endian."""
    return {"bslz4": f"bs{8 * int(dtype[1])}-lz4<", "lz4": "lz4<", "none": "<"}[compression]


def _array(kind: str, values: NDArray[Any]) -> Parts:
    shape = [values.shape[1], values.shape[0]]
    return [_json({"htype": kind, "shape": shape, "type": str(values.dtype)}), values.tobytes()]


def _appendix(series: Series, key: str) -> Parts:
    text = series.stream[key].value
    return [text.encode()] if text else []


def _json(content: dict[str, Any]) -> bytes:
    return json.dumps(content).encode()
