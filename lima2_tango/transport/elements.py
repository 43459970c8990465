"""Elements of a stream as bytes: a header of fixed size, a column for each thing known of a frame, the pixels.

What arrives is checked as a stranger's: sizes before they are used, types by a list, never by what the bytes say.
"""

import struct
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lima2_tango.core.errors import WireError
from lima2_tango.core.frame import Block, Lease

FIELDS = (
    ("magic", "u4"),
    ("flags", "u4"),
    ("identity", "u8"),
    ("sequence", "u8"),
    ("payload", "u8"),
    ("local", "i8"),
    ("frames", "u4"),
    ("part", "u4"),
    ("channels", "u4"),
    ("rows", "u4"),
    ("columns", "u4"),
    ("pixel", "u4"),
)
"""The header: names and types, little-endian; the type of the pixels is four letters.

MPI's datatype of it is made from this table (`transport/mpi.py`).
"""
HEADER = struct.Struct("<IIQQQqIIIII4s")
HEADER_BYTES = HEADER.size
MAGIC = 0x4532534C
ALIGNMENT = 64
"""Pixels begin at a multiple of this in an element: a line of the caches [byte]."""
WHOLE = 0xFFFF
"""Number of the part where an element holds whole frames."""
END, FAILED, MARKED = 1, 2, 4
"""Flags: the end, with the count of elements in place of the sequence; an end before its time, with the reason as
payload; a column says which frames are valid."""
PIXELS = frozenset({b"|i1\0", b"|u1\0", b"<i2\0", b"<u2\0", b"<i4\0", b"<u4\0", b"<i8\0", b"<u8\0", b"<f4\0", b"<f8\0"})
"""Types of pixels that travel; anything else is a record of the stream's own type."""
RECORD = b"rec."
_DTYPES = {code: np.dtype(code[:3].decode()) for code in PIXELS}
_PIXEL_BYTES = {RECORD: 0} | {code: dtype.itemsize for code, dtype in _DTYPES.items()}


class Header(NamedTuple):
    """What is known of an element before its pixels; fields as in `FIELDS`. A tuple: one is made for each element."""

    identity: int
    sequence: int
    flags: int = 0
    payload: int = 0
    """Bytes of the pixels."""
    local: int = 0
    frames: int = 0
    part: int = WHOLE
    channels: int = 1
    rows: int = 1
    columns: int = 1
    pixel: bytes = b"|u1\0"

    @property
    def marked(self) -> bool:
        return bool(self.flags & MARKED)

    @property
    def ended(self) -> bool:
        return bool(self.flags & END)

    @property
    def failed(self) -> bool:
        return bool(self.flags & FAILED)

    @property
    def head_bytes(self) -> int:
        """Bytes of header and columns, to where the pixels begin."""
        return head_bytes(self.frames, self.marked)

    def encode(self) -> bytes:
        identity, sequence, flags, *rest = self
        return HEADER.pack(MAGIC, flags, identity, sequence, *rest)


@dataclass(slots=True, eq=False)
class Element:
    """One element as it arrived: frames in place, only to be read, until `lease` is released for the last time.

    The lease gives the slot and the credit back; any thread may release it, in any order.
    """

    source: int
    """MPI rank that sent it."""
    sequence: int
    """Number of the element between these two ranks, from 0."""
    part: int
    """Which part of each frame it is; WHOLE for whole frames."""
    data: NDArray[Any]
    """[frame, channel, row, column]; [record] in a stream of records."""
    index: NDArray[np.int64]
    """[frame] global frame number."""
    local: int
    time: NDArray[np.float64]
    """[frame] when the exposure began, seconds since the epoch (UTC)."""
    lease: Lease
    valid: NDArray[np.bool_] | None = field(default=None)
    """[frame] False for a placeholder of a lost frame; None when all frames are real."""

    def __len__(self) -> int:
        return len(self.index)

    def block(self) -> Block:
        """The element as a block, in the same place and under the same lease."""
        return Block(self.data, self.index, self.local, self.time, self.lease, self.valid)


def head_bytes(frames: int, marked: bool) -> int:
    """Bytes of header and columns of an element of so many frames, to where its pixels begin."""
    return aligned(HEADER_BYTES + frames * (16 + marked))


def aligned(size: int) -> int:
    """The next multiple of `ALIGNMENT`."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def write_head(
    header: Header, index: NDArray[np.int64], time: NDArray[np.float64], valid: NDArray[np.bool_] | None
) -> bytes:
    """Header and columns as bytes; the pixels come behind them."""
    head = header.encode() + index.astype("<i8", copy=False).tobytes() + time.astype("<f8", copy=False).tobytes()
    if valid is not None:
        head += valid.astype(np.bool_, copy=False).tobytes()
    return head + bytes(-len(head) % ALIGNMENT)


@lru_cache(maxsize=256)
def head_dtype(frames: int, marked: bool, more: int) -> np.dtype:
    """Header, columns and `more` bytes behind them as one record: what MPI's datatype of a head is made from."""
    columns = [
        ("index", "<i8", (frames,)),
        ("time", "<f8", (frames,)),
        *([("valid", "?", (frames,))] if marked else []),
    ]
    rest = head_bytes(frames, marked) + more - HEADER_BYTES - frames * (16 + marked)
    header = np.dtype([(name, f"<{code}") for name, code in FIELDS])
    parts: list[Any] = [("header", header), *(columns if frames else []), ("rest", "u1", (rest,))]
    return np.dtype(parts if rest else parts[:-1])


def pixel_code(dtype: np.dtype) -> bytes:
    """How a header names a type of pixels."""
    code = dtype.str.encode().ljust(4, b"\0")
    return code if code in PIXELS else RECORD


def pixel_dtype(code: bytes) -> np.dtype:
    """The type of pixels that a header names; bytes for records."""
    return _DTYPES.get(code, np.dtype(np.uint8))


def read_header(data: NDArray[np.uint8], where: str) -> Header:
    """The header at the beginning of `data`.

    Raises WireError, which says `where`, for what no stream of ours has sent: each size is checked against the others,
    so that whoever believes them stays within head_bytes + payload.
    """
    if len(data) < HEADER_BYTES:
        raise WireError(f"{where}: an element of {len(data)} bytes, but its header alone has {HEADER_BYTES}")
    magic, flags, identity, sequence, payload, local, frames, part, *rest = HEADER.unpack_from(data.data)
    header = Header(identity, sequence, flags, payload, local, frames, part, *rest)
    if magic != MAGIC or flags & ~(END | FAILED | MARKED) or part > WHOLE:
        raise WireError(f"{where}: what came is not an element of a stream (begins with {bytes(data[:8])!r})")
    if not flags & END:
        _check_sizes(header, where)
    return header


def _check_sizes(header: Header, where: str) -> None:
    if header.flags & FAILED or header.pixel not in _PIXEL_BYTES:
        raise WireError(f"{where}: element {header.sequence} has flags {header.flags} and pixels {header.pixel!r}")
    if header.pixel != RECORD:
        pixels = header.frames * header.channels * header.rows * header.columns
        if not pixels or pixels * _PIXEL_BYTES[header.pixel] != header.payload:
            raise WireError(
                f"{where}: element {header.sequence} has {header.payload} bytes, which are not {header.frames} "
                f"frames of {header.channels} x {header.rows} x {header.columns} pixels {header.pixel[:3].decode()}"
            )


def read_columns(
    header: Header, head: NDArray[np.uint8], where: str
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.bool_] | None]:
    """Index, time and validity of each frame, copied; raises WireError where `head` is too short for them."""
    if len(head) < header.head_bytes:
        raise WireError(f"{where}: element {header.sequence} is cut short, its columns need {header.head_bytes} bytes")
    count, begin = header.frames, HEADER_BYTES
    times, marks = begin + 8 * count, begin + 16 * count
    index = head[begin:times].view(np.int64).copy()
    time = head[times:marks].view(np.float64).copy()
    # any byte but 0 is true: a bool of numpy's holds nothing else than 0 and 1
    valid = head[marks : marks + count] != 0 if header.marked else None
    return index, time, valid


def read_pixels(header: Header, payload: NDArray[np.uint8], records: np.dtype, where: str) -> NDArray[Any]:
    """The pixels in place, as [frame, channel, row, column] only to be read; as [record] for records of type `records`.

    Raises WireError where the bytes are fewer than the header says, or not a number of records.
    """
    if len(payload) < header.payload:
        raise WireError(
            f"{where}: element {header.sequence} is cut short, {len(payload)} of {header.payload} bytes came"
        )
    payload = payload[: header.payload]
    if header.pixel == RECORD:
        if header.payload % records.itemsize:
            raise WireError(
                f"{where}: element {header.sequence} of {header.payload} bytes is not a number of records of "
                f"{records.itemsize} bytes"
            )
        data: NDArray[Any] = payload.view(records)
    else:
        shape = (header.frames, header.channels, header.rows, header.columns)
        data = payload.view(_DTYPES[header.pixel]).reshape(shape)
    data.flags.writeable = False
    return data
