"""DevEncoded payloads (contract section 7): arrays in, bytes out, and back."""

import struct

import numpy as np
from numpy.typing import NDArray

from .errors import WireError
from .sparse import INDEX_OFFSET, SparseFrame, payload_size, unpacked

DATA_ARRAY = "DATA_ARRAY"
STRUCTURED_ARRAY = "STRUCTURED_ARRAY"
SMX_SPARSE_FRAME = "SMX_SPARSE_FRAME"

HEADER = struct.Struct("<IHHIIHHHHHHHHIIIIIIQ")
MAGIC = 0x44544159
VERSION = 2
SPECTRUM, IMAGE = 1, 2
TYPE_CODES = {"u1": 0, "u2": 1, "u4": 2, "u8": 3, "i1": 4, "i2": 5, "i4": 6, "i8": 7, "f4": 8, "f8": 9}
_TYPES = {code: np.dtype("<" + name) for name, code in TYPE_CODES.items()}

Answer = tuple[str, bytes]
"""A DevEncoded as PyTango hands it over: format and payload."""


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


def vector(values: NDArray[np.generic], index: int) -> tuple[str, bytearray]:
    """Values [position] with the number of their frame."""
    code = TYPE_CODES[values.dtype.str[1:]]
    sizes = (len(values), 0, 0, 0, 0, 0)
    payload = bytearray(HEADER.pack(MAGIC, VERSION, HEADER.size, SPECTRUM, code, 0, 1, *sizes, *(0,) * 6, index))
    payload += values.tobytes()
    return DATA_ARRAY, payload


def sparse(packed: NDArray[np.generic], index: int) -> tuple[str, bytearray]:
    """A packed sparse frame (`core.sparse`), with more bytes behind it or without, and its number."""
    payload = bytearray(packed.reshape(-1)[: payload_size(packed)].data)
    struct.pack_into("<I", payload, INDEX_OFFSET, index)
    return SMX_SPARSE_FRAME, payload


def rows(packed: bytes) -> tuple[str, bytearray]:
    """Packed rows of reduced data; only the header when there are none."""
    payload = bytearray(HEADER.pack(MAGIC, VERSION, HEADER.size, 0, 0, 0, *(0,) * 7, *(0,) * 6, 0))
    payload += packed
    return STRUCTURED_ARRAY, payload


def frame_of(answer: Answer) -> tuple[int, NDArray[np.generic]]:
    """Number and read-only values of a DATA_ARRAY: [channel, row, column] of an image, [position] of a spectrum.

    Raises WireError for anything else.
    """
    payload = _payload(answer, DATA_ARRAY)
    _, _, _, category, code, endianness, nb_dim, *sizes = HEADER.unpack_from(answer[1])
    wanted = {IMAGE: 3, SPECTRUM: 1}
    if category not in wanted or nb_dim != wanted[category] or code not in _TYPES or endianness:
        raise WireError(
            f"a DATA_ARRAY of category {category}, type {code}, byte order {endianness} and {nb_dim} dimensions is "
            "neither an image nor a spectrum"
        )
    shape, dtype = tuple(reversed(sizes[:nb_dim])), _TYPES[code]
    if len(payload) != int(np.prod(shape)) * dtype.itemsize:
        raise WireError(f"a DATA_ARRAY of shape {shape} and type {dtype} comes with {len(payload)} bytes")
    return sizes[-1], np.frombuffer(payload, dtype).reshape(shape)


def sparse_of(answer: Answer) -> SparseFrame:
    """The parts of an SMX_SPARSE_FRAME, read-only; raises WireError for anything else."""
    name, raw = answer
    if name != SMX_SPARSE_FRAME:
        raise WireError(f"a {SMX_SPARSE_FRAME} was due, {name or 'an answer without a format'} came")
    packed = np.frombuffer(raw, np.uint8)
    if payload_size(packed) != len(packed):
        raise WireError(f"a {SMX_SPARSE_FRAME} of {payload_size(packed)} bytes comes with {len(packed)}")
    return unpacked(packed)


def rows_of(answer: Answer, dtype: np.dtype) -> NDArray[np.void]:
    """Read-only rows of a STRUCTURED_ARRAY, none or more; raises WireError for anything else."""
    payload = _payload(answer, STRUCTURED_ARRAY)
    if len(payload) % dtype.itemsize:
        raise WireError(f"{len(payload)} bytes are no whole number of rows of {dtype.itemsize} bytes")
    found: NDArray[np.void] = np.frombuffer(payload, dtype)
    return found


def _payload(answer: Answer, kind: str) -> memoryview:
    """What comes after the header, once that is found in order."""
    name, raw = answer
    if name != kind:
        raise WireError(f"a {kind} was due, {name or 'an answer without a format'} came")
    if len(raw) < HEADER.size:
        raise WireError(f"a {kind} of {len(raw)} bytes is shorter than its header of {HEADER.size}")
    magic, version, size = struct.unpack_from("<IHH", raw)
    if magic != MAGIC or version < 1 or size != HEADER.size:
        raise WireError(f"this is no {kind}: magic {magic:#x}, version {version}, a header of {size} bytes")
    return memoryview(raw)[HEADER.size :]
