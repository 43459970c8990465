"""Packed images: their pixels, and what goes into an HDF5 file as it is.

HDF5's filters: 32008 (bitshuffle and LZ4, `core.bitshuffle`) and 32004 (LZ4: bytes of all pixels, 8 bytes big-endian;
bytes of a block, 4; then each block: its packed bytes, 4, and its data, which is not packed where it is as long as its
pixels; https://github.com/HDFGroup/hdf5_plugins/blob/master/LZ4/LZ4_HDF5_format.md).
"""

import struct
from collections.abc import Callable, Iterator, Sequence
from ctypes import c_void_p
from functools import partial

import numpy as np
from numpy.typing import NDArray

from lima2_tango.core import bitshuffle
from lima2_tango.core.bitplanes import BLOCK_BYTES
from lima2_tango.core.errors import WireError

from ._messages import Chunk, Codec

HEADER = struct.Struct(">QI")
LENGTH = struct.Struct(">I")
LZ4_FILTER = 32004
FILTERS: dict[str, int] = {"bslz4": bitshuffle.FILTER, "lz4": LZ4_FILTER}
"""HDF5's filter, by the detector's name of a compression."""

Bytes = NDArray[np.uint8]


def pixels(chunk: Chunk) -> NDArray[np.generic]:
    """[row, column] in new memory; raises WireError."""
    out = np.empty(chunk.shape, chunk.dtype)
    unpack(chunk, out)
    return out


def unpack(chunk: Chunk, out: NDArray[np.generic]) -> None:
    """The pixels into C-contiguous `out` [row, column]; one thread, without the GIL. Raises WireError."""
    for task in tasks(chunk, out, 1):
        task()


def tasks(chunk: Chunk, out: NDArray[np.generic], at_most: int) -> Sequence[Callable[[], None]]:
    """What fills `out` when all of it was called, in any order and number of threads: 1 to `at_most` parts.

    The call itself is cheap. Both raise WireError where the chunk is damaged.
    """
    if out.shape != chunk.shape or out.dtype != chunk.dtype:
        raise WireError(f"an image of {chunk.shape} {chunk.dtype} came where {out.shape} {out.dtype} was due")
    raw = np.frombuffer(chunk.data, np.uint8)
    match chunk.codec:
        case Codec.NONE:
            return [lambda: np.copyto(out, raw.view(chunk.dtype).reshape(out.shape))]
        case Codec.BSLZ4 | Codec.BSLZ4_BARE:
            return _bitshuffled(chunk, raw, out, at_most)
        case _:
            return [lambda: _unpack_lz4(chunk, raw, out.reshape(-1).view(np.uint8))]


def as_hdf5(chunk: Chunk) -> memoryview | bytes:
    """What a file takes as the chunk: the message's own memory, or with the header that it lacks in new memory.

    Only the header is looked at; raises WireError where that tells of other pixels.
    """
    match chunk.codec:
        case Codec.NONE:
            return chunk.data
        case Codec.BSLZ4 | Codec.LZ4:
            if len(chunk.data) < HEADER.size or HEADER.unpack_from(chunk.data)[0] != chunk.nbytes:
                raise WireError(f"{chunk.channel}: its packed bytes do not tell of {chunk.nbytes} bytes of pixels")
            return chunk.data
        case Codec.BSLZ4_BARE:
            return HEADER.pack(chunk.nbytes, BLOCK_BYTES) + chunk.data
        case Codec.LZ4_BLOCK:
            # A block as long as its pixels would be taken for one that is not packed.
            packed = pixels(chunk).tobytes() if len(chunk.data) == chunk.nbytes else chunk.data
            return HEADER.pack(chunk.nbytes, chunk.nbytes) + LENGTH.pack(len(packed)) + packed


def _bitshuffled(chunk: Chunk, raw: Bytes, out: NDArray[np.generic], at_most: int) -> Sequence[Callable[[], None]]:
    if chunk.codec is Codec.BSLZ4_BARE:
        head = np.frombuffer(HEADER.pack(chunk.nbytes, BLOCK_BYTES), np.uint8)
        raw = np.concatenate([head, raw])
    try:
        parts = bitshuffle.split(raw, chunk.nbytes, chunk.dtype.itemsize, at_most)
    except ValueError as error:
        raise WireError(f"{chunk.channel}: {error}") from error

    def task(part: bitshuffle.Part) -> None:
        try:
            bitshuffle.decompress(raw, part, out)
        except ValueError as error:
            raise WireError(f"{chunk.channel}: {error}") from error

    return [partial(task, part) for part in parts]


def _unpack_lz4(chunk: Chunk, raw: Bytes, out: Bytes) -> None:
    if chunk.codec is Codec.LZ4_BLOCK:
        _unpack_block(chunk, raw, out)
        return
    position = 0
    for start, size, packed in _lz4_blocks(chunk, raw):
        target = out[start : start + size]
        if len(packed) == size:
            target[:] = packed
        else:
            _unpack_block(chunk, packed, target)
        position = start + size
    if position != len(out):
        raise WireError(f"{chunk.channel}: its blocks hold {position} bytes of pixels, not {len(out)}")


def _lz4_blocks(chunk: Chunk, raw: Bytes) -> Iterator[tuple[int, int, Bytes]]:
    """Where a block's pixels begin, their bytes, and the packed ones."""
    if len(raw) < HEADER.size or HEADER.unpack_from(raw.data)[0] != chunk.nbytes:
        raise WireError(f"{chunk.channel}: its {len(raw)} packed bytes do not tell of {chunk.nbytes} bytes of pixels")
    block = HEADER.unpack_from(raw.data)[1]
    if block == 0:
        raise WireError(f"{chunk.channel}: it is packed in blocks of no bytes")
    position = HEADER.size
    for start in range(0, chunk.nbytes, block):
        if position + LENGTH.size > len(raw):
            raise WireError(f"{chunk.channel}: cut short, {len(raw)} bytes are not all of its blocks")
        length = LENGTH.unpack_from(raw.data, position)[0]
        position += LENGTH.size
        if position + length > len(raw):
            raise WireError(f"{chunk.channel}: cut short, a block of {length} bytes is due at byte {position}")
        yield start, min(block, chunk.nbytes - start), raw[position : position + length]
        position += length


def _unpack_block(chunk: Chunk, packed: Bytes, out: Bytes) -> None:
    """One LZ4 block; the library writes no further than `out`."""
    source, target = c_void_p(packed.ctypes.data), c_void_p(out.ctypes.data)
    used = bitshuffle.load().LZ4_decompress_safe(source, target, len(packed), len(out))
    if used != len(out):
        got = f"{used} bytes of pixels" if used >= 0 else "damaged"
        raise WireError(f"{chunk.channel}: an LZ4 block of {len(packed)} bytes is {got}, {len(out)} were due")
