"""Messages of a Dectris detector, encoded with cbor2 and json: what its decoders are checked with."""

import json
import struct
from collections.abc import Sequence
from typing import Any

import cbor2
import numpy as np
from numpy.typing import NDArray

from lima2_tango.core import bitshuffle

TYPED = {"|u1": 64, "<u2": 69, "<u4": 70, "<f4": 85}
UNIQUE = "01HBV3JPF9T4ZDPADX6EMK6XMZ"


def bslz4(pixels: NDArray[np.generic]) -> bytes:
    out = np.empty(bitshuffle.compress_bound(pixels.nbytes, pixels.itemsize), np.uint8)
    return out[: bitshuffle.compress(pixels, out)].tobytes()


def lz4_block(data: bytes) -> bytes:
    """One LZ4 block of literals only, which every decoder of LZ4 takes."""
    more = len(data) - 15
    tail = b"".join([b"\xff" * (more // 255), bytes([more % 255])]) if more >= 0 else b""
    return bytes([min(len(data), 15) << 4]) + tail + data


def lz4(pixels: NDArray[np.generic], block: int = 1 << 12) -> bytes:
    """With the header of HDF5's filter; every second block is left unpacked, as the format allows."""
    data = pixels.tobytes()
    block = min(block, len(data))
    out = struct.pack(">QI", len(data), block)
    for number, start in enumerate(range(0, len(data), block)):
        plain = data[start : start + block]
        packed = plain if number % 2 else lz4_block(plain)
        out += struct.pack(">I", len(packed)) + packed
    return out


def array(pixels: NDArray[np.generic], compression: str = "bslz4") -> cbor2.CBORTag:
    content: Any = pixels.tobytes()
    if compression != "none":
        packed = {"bslz4": bslz4, "lz4": lz4}[compression](pixels)
        content = cbor2.CBORTag(56500, [compression, pixels.itemsize if compression == "bslz4" else 0, packed])
    typed = cbor2.CBORTag(TYPED[pixels.dtype.str], content)
    return cbor2.CBORTag(40, [list(pixels.shape), typed])


def message(fields: dict[str, Any]) -> bytes:
    return cbor2.dumps(cbor2.CBORTag(55799, fields))


def start2(
    series: int = 7, shape: tuple[int, int] = (5, 6), channels: Sequence[str] = ("threshold_1",), **more: Any
) -> bytes:
    fields = {
        "type": "start",
        "series_id": series,
        "series_unique_id": UNIQUE,
        "channels": list(channels),
        "image_dtype": "uint16",
        "image_size_x": shape[1],
        "image_size_y": shape[0],
        "number_of_images": 3,
    }
    return message(fields | more)


def image_fields(
    images: dict[str, NDArray[np.generic]], number: int = 0, series: int = 7, compression: str = "bslz4"
) -> dict[str, Any]:
    return {
        "type": "image",
        "series_id": series,
        "series_unique_id": UNIQUE,
        "image_id": number,
        "real_time": [215873, 50_000_000],
        "series_date": cbor2.CBORTag(0, "2023-10-03T17:47:49.434+02:00"),
        "start_time": [number * 500_000, 50_000_000],
        "stop_time": [number * 500_000 + 215873, 50_000_000],
        "data": {name: array(pixels, compression) for name, pixels in images.items()},
    }


def image2(
    images: dict[str, NDArray[np.generic]], number: int = 0, series: int = 7, compression: str = "bslz4"
) -> bytes:
    return message(image_fields(images, number, series, compression))


def end2(series: int = 7) -> bytes:
    return message({"type": "end", "series_id": series, "series_unique_id": UNIQUE})


def header(
    series: int = 7, detail: str = "basic", config: dict[str, Any] | None = None, appendix: bytes = b""
) -> list[bytes]:
    parts = [as_json({"htype": "dheader-1.0", "series": series, "header_detail": detail})]
    if detail != "none":
        parts.append(as_json(config or {"nimages": 3, "ntrigger": 2}))
    if detail == "all":
        for kind, dtype in (("dflatfield-1.0", "float32"), ("dpixelmask-1.0", "uint32")):
            parts += [as_json({"htype": kind, "shape": [6, 5], "type": dtype}), np.ones((5, 6), dtype).tobytes()]
        parts.append(as_json({"htype": "dcountrate_table-1.0", "shape": [2, 1000], "type": "float32"}))
        parts.append(np.zeros((1000, 2), np.float32).tobytes())
    return parts + ([appendix] if appendix else [])


def image1(
    pixels: NDArray[np.generic], number: int = 0, series: int = 7, encoding: str = "bslz4", appendix: bytes = b""
) -> list[bytes]:
    """`encoding`: bslz4, bare (bslz4 without header), lz4 or none."""
    bits = 8 * pixels.itemsize
    data, name = {
        "bslz4": lambda: (bslz4(pixels), f"bs{bits}-lz4<"),
        "bare": lambda: (bslz4(pixels)[12:], f"bs{bits}-lz4<"),
        "lz4": lambda: (lz4_block(pixels.tobytes()), "lz4<"),
        "none": lambda: (pixels.tobytes(), "<"),
    }[encoding]()
    shape = list(reversed(pixels.shape))
    about = {"htype": "dimage_d-1.0", "shape": shape, "type": str(pixels.dtype), "encoding": name, "size": len(data)}
    times = {"htype": "dconfig-1.0", "start_time": number * 10_000_000, "stop_time": 1, "real_time": 4_317_460}
    parts = [as_json({"htype": "dimage-1.0", "series": series, "frame": number, "hash": "0"}), as_json(about), data]
    return [*parts, as_json(times), *([appendix] if appendix else [])]


def end1(series: int = 7) -> list[bytes]:
    return [as_json({"htype": "dseries_end-1.0", "series": series})]


def as_json(content: dict[str, Any]) -> bytes:
    return json.dumps(content).encode()
