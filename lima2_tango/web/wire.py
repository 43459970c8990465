"""A picture on its way to a browser: a header of JSON, then one byte a pixel."""

import json
import struct
from math import isfinite

from lima2_tango.client.live import LiveFrame

from .picture import Picture
from .regions import Curves, Point

LENGTH = struct.Struct("<I")
"""Bytes of the header, before it."""


def point_text(point: Point) -> list[object]:
    """A point of curves as browsers read it: frame, then min, max, avg, std, sum of each region; null for no number."""
    return [point.frame, *([value if isfinite(value) else None for value in region] for region in point.values)]


def pack(frame: LiveFrame, picture: Picture, curves: Curves, points: list[list[object]], channel: int) -> bytes:
    """Header and pixels; `points` are those of the curves that the browser has not."""
    channels, rows, columns = frame.data.shape
    header = {
        "kind": "picture",
        "uuid": frame.uuid,
        "frame": frame.index,
        "columns": columns,
        "rows": rows,
        "channels": channels,
        "channel": min(channel, channels - 1),
        "type": frame.data.dtype.name,
        "x": picture.x,
        "y": picture.y,
        "width": picture.width,
        "height": picture.height,
        "shape": list(picture.indices.shape),
        "factor": picture.factor,
        "low": picture.low,
        "high": picture.high,
        "generation": curves.generation,
        "points": points,
    }
    text = json.dumps(header, allow_nan=False).encode()
    return b"".join([LENGTH.pack(len(text)), text, picture.indices.tobytes()])
