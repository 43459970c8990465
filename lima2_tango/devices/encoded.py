"""DevEncoded payloads (contract section 7): arrays in, bytes out."""

import struct

import numpy as np
from numpy.typing import NDArray

DATA_ARRAY = "DATA_ARRAY"
STRUCTURED_ARRAY = "STRUCTURED_ARRAY"

HEADER = struct.Struct("<IHHIIHHHHHHHHIIIIIIQ")
MAGIC = 0x44544159
VERSION = 2
IMAGE = 2
TYPE_CODES = {"u1": 0, "u2": 1, "u4": 2, "u8": 3, "i1": 4, "i2": 5, "i4": 6, "i8": 7, "f4": 8, "f8": 9}


def image(frame: NDArray[np.generic], index: int) -> tuple[str, bytearray]:
    """A frame [channel, row, column] with its number; a bytearray, which PyTango hands on without a copy more."""
    channels, height, width = frame.shape
    code = TYPE_CODES[frame.dtype.str[1:]]
    steps = (0,) * 6
    payload = bytearray(HEADER.size + frame.nbytes)
    HEADER.pack_into(
        payload, 0, MAGIC, VERSION, HEADER.size, IMAGE, code, 0, 3, width, height, channels, 0, 0, 0, *steps, index
    )
    np.frombuffer(payload, frame.dtype, offset=HEADER.size).reshape(frame.shape)[...] = frame
    return DATA_ARRAY, payload


def rows(packed: bytes) -> tuple[str, bytearray]:
    """Packed rows of reduced data; only the header when there are none."""
    payload = bytearray(HEADER.pack(MAGIC, VERSION, HEADER.size, 0, 0, 0, *(0,) * 7, *(0,) * 6, 0))
    payload += packed
    return STRUCTURED_ARRAY, payload
