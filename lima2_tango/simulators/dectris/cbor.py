"""As much of CBOR (RFC 8949) as stream 2 needs, to bytes; the other way is the plugin's."""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

UINT, NEGATIVE, BYTES, TEXT, ARRAY, MAP, TAG = range(7)
SELF_DESCRIBED = bytes.fromhex("d9d9f7")
"""Tag 55799, with which real messages begin."""
DATE, GRID, COMPRESSED = 0, 40, 56500
TYPED = {"u1": 64, "u2": 69, "u4": 70, "f4": 85}
"""Tags of arrays of little-endian numbers (RFC 8746)."""
FIXED_UINT = 9
"""Bytes of `fixed`."""


def head(major: int, argument: int) -> bytes:
    """The first bytes of an item, as short as they can be."""
    first = major << 5
    if argument < 24:
        return bytes([first | argument])
    for code, layout in ((24, ">BB"), (25, ">BH"), (26, ">BI"), (27, ">BQ")):
        if argument < 1 << 8 * (struct.calcsize(layout) - 1):
            return struct.pack(layout, first | code, argument)
    raise ValueError(f"{argument} needs more than 64 bits")


def fixed(number: int) -> bytes:
    """An unsigned number that is always as long, so that it can be overwritten."""
    return struct.pack(">BQ", UINT << 5 | 27, number)


def item(value: Any) -> bytes:
    """None, bool, numbers, texts, bytes, and lists and maps of them."""
    if isinstance(value, bool):
        return b"\xf5" if value else b"\xf4"
    if value is None:
        return b"\xf6"
    if isinstance(value, int):
        return head(UINT, value) if value >= 0 else head(NEGATIVE, -1 - value)
    if isinstance(value, float):
        return struct.pack(">Bd", 0xFB, value)
    if isinstance(value, str):
        return head(TEXT, len(value.encode())) + value.encode()
    if isinstance(value, bytes):
        return head(BYTES, len(value)) + value
    return _many(value)


def _many(value: Any) -> bytes:
    if isinstance(value, Ready):
        return value.encoded
    if isinstance(value, Mapping):
        return head(MAP, len(value)) + b"".join(item(key) + item(each) for key, each in value.items())
    return head(ARRAY, len(value)) + b"".join(map(item, value))


@dataclass(frozen=True, slots=True)
class Ready:
    """An item whose bytes are made already."""

    encoded: bytes


def tagged(tag: int, encoded: bytes) -> Ready:
    return Ready(head(TAG, tag) + encoded)


def grid_head(shape: Sequence[int], code: str, compression: str, nbytes: int) -> bytes:
    """All of an array of `shape` and type `code` (u1, u2, u4, f4) but its `nbytes` bytes, which come next."""
    grid = head(TAG, GRID) + head(ARRAY, 2) + item(list(shape)) + head(TAG, TYPED[code])
    if compression != "none":
        size = int(code[1]) if compression == "bslz4" else 0
        grid += head(TAG, COMPRESSED) + head(ARRAY, 3) + item(compression) + item(size)
    return grid + head(BYTES, nbytes)


def grid(values: NDArray[Any]) -> Ready:
    """An array as it is."""
    code = values.dtype.str[1:]
    return Ready(grid_head(values.shape, code, "none", values.nbytes) + values.tobytes())
