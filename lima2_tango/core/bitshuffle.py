"""Bitshuffle and LZ4: chunks of HDF5's filter 32008, in memory of ours. LZ4 and decompression are hdf5plugin's.

A chunk is: pixel bytes (8 bytes, big-endian), block bytes (4, big-endian), the blocks, and the last pixels, up to 7,
as they are. A block is: the bytes that follow (4, big-endian), its LZ4 data. The last block may be a shorter one.
"""

import ctypes
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import hdf5plugin
import numpy as np
from numba import njit
from numpy.typing import NDArray

from .bitplanes import BLOCK_BYTES, LZ4_STATE_BYTES, compress_blocks
from .errors import Lima2Error, SavingError

Bytes = NDArray[np.uint8]

FILTER = 32008
"""HDF5's number of the filter."""
LZ4 = 2
"""The filter's code for LZ4 behind bitshuffle."""
UNIT = 8
"""Pixels are shuffled by so many."""
HEADER = struct.Struct(">QI")


@dataclass(frozen=True, slots=True)
class Part:
    """Blocks of a chunk that can be decompressed apart from the others."""

    start: int
    """Where they begin in the chunk [byte]."""
    first: int
    """Their first pixel."""
    end: int
    """The pixel behind their last."""
    block: int
    """Pixels of a block."""


def compress_bound(nbytes: int, itemsize: int) -> int:
    """Bytes that the chunk of `nbytes` pixel bytes has at most."""
    bound: int = load().bshuf_compress_lz4_bound(nbytes // itemsize, itemsize, BLOCK_BYTES // itemsize)
    return HEADER.size + bound


def compress(pixels: NDArray[np.generic], out: Bytes) -> int:
    """Make the chunk of C-contiguous `pixels` in `out`, of `compress_bound` bytes or more; returns its bytes.

    One thread, without the GIL. Raises SavingError.
    """
    itemsize, block = pixels.itemsize, BLOCK_BYTES // pixels.itemsize
    HEADER.pack_into(out.data, 0, pixels.nbytes, block * itemsize)
    source, target = pixels.ctypes.data, out.ctypes.data + HEADER.size
    blocks, rest = divmod(pixels.size, block)
    used: int = compress_blocks(_lz4_address(), source, target, blocks, itemsize)
    if rest and used >= 0:
        more = compress_stream(source + blocks * BLOCK_BYTES, target + used, rest, itemsize)
        used = used + more if more >= 0 else more
    if used < 0:
        raise SavingError(f"bitshuffle could not compress {pixels.nbytes} bytes")
    return HEADER.size + used


def compress_stream(source: int, target: int, pixels: int, itemsize: int) -> int:
    """The library's own blocks of a chunk, from one address to another; returns their bytes, an error below 0."""
    used: int = load().bshuf_compress_lz4(source, target, pixels, itemsize, BLOCK_BYTES // itemsize)
    return used


def split(chunk: Bytes, nbytes: int, itemsize: int, at_most: int) -> Sequence[Part]:
    """The chunk of `nbytes` pixel bytes as 1 to `at_most` parts of about equal length.

    Raises ValueError where the chunk holds something else, or tells of more bytes than it has.
    """
    if len(chunk) < HEADER.size:
        raise ValueError(f"a chunk of {len(chunk)} bytes has no header")
    declared, block_bytes = HEADER.unpack_from(chunk.data)
    if declared != nbytes:
        raise ValueError(f"its chunk declares {declared} bytes of pixels, not {nbytes}")
    pixels, block = nbytes // itemsize, (block_bytes or BLOCK_BYTES) // itemsize
    if block == 0 or block % UNIT:
        raise ValueError(f"its chunk declares blocks of {block_bytes} bytes, which bitshuffle does not have")
    loose = pixels % block % UNIT
    blocks = pixels // block + (pixels % block >= UNIT)
    each = max(1, -(-blocks // at_most))
    starts = np.full(max(1, -(-blocks // each)), HEADER.size, np.int64)
    end = _find_starts(chunk, HEADER.size, blocks, each, starts)
    if end < 0 or end + loose * itemsize > len(chunk):
        raise ValueError(f"its chunk of {len(chunk)} bytes is damaged: the blocks do not fit in")
    firsts = range(0, len(starts) * each * block, each * block)
    ends = [*firsts[1:], pixels]
    return [Part(*where, block) for where in zip(starts.tolist(), firsts, ends, strict=True)]


def decompress(chunk: Bytes, part: Part, out: NDArray[np.generic]) -> None:
    """Make the pixels of `part`, which `split` gave, in `out`: the whole frame's memory, C-contiguous.

    One thread, without the GIL. Raises ValueError where the chunk is damaged; some of `out` is overwritten then.
    """
    source, target = chunk.ctypes.data + part.start, out.ctypes.data + part.first * out.itemsize
    used = load().bshuf_decompress_lz4(source, target, part.end - part.first, out.itemsize, part.block)
    if used < 0:
        raise ValueError(f"its chunk of {len(chunk)} bytes is damaged: bitshuffle's error {used}")


@njit(nogil=True, cache=True)
def _find_starts(chunk: Bytes, position: int, blocks: int, each: int, starts: NDArray[np.int64]) -> int:
    """Where every `each`th block starts, into `starts`; returns where the last one ends, -1 for beyond the chunk."""
    for number in range(blocks):
        if position + 4 > len(chunk):
            return -1
        if number % each == 0:
            starts[number // each] = position
        length = np.int64(0)
        for byte in range(4):
            length = (length << 8) | np.int64(chunk[position + byte])
        position += 4 + int(length)
    return position if position <= len(chunk) else -1


@cache
def ready() -> None:
    """Load the library and have the kernel compiled; free after the first time. Raises Lima2Error."""
    pixels = np.zeros(BLOCK_BYTES, np.uint8)
    compress(pixels, np.empty(compress_bound(pixels.nbytes, pixels.itemsize), np.uint8))


@cache
def _lz4_address() -> int:
    address = ctypes.cast(load().LZ4_compress_fast_extState, ctypes.c_void_p).value
    assert address is not None  # ctypes has found the function
    return address


@cache
def load() -> ctypes.CDLL:
    """hdf5plugin's filter library; ctypes lets go of the GIL during its calls. Raises Lima2Error."""
    path = os.path.join(hdf5plugin.PLUGIN_PATH, "libh5bshuf.so")
    try:
        library = ctypes.CDLL(path)
    except OSError as error:
        raise Lima2Error(
            f"the bitshuffle library {path} cannot be loaded ({error}): install the hdf5plugin wheel again"
        ) from error
    if library.LZ4_sizeofState() > LZ4_STATE_BYTES:
        raise Lima2Error(f"LZ4 {library.LZ4_versionNumber()} of {path} needs more memory than known here: use another")
    size = ctypes.c_size_t
    library.bshuf_compress_lz4_bound.argtypes = (size, size, size)
    library.bshuf_compress_lz4_bound.restype = size
    for function in (library.bshuf_compress_lz4, library.bshuf_decompress_lz4):
        function.argtypes = (ctypes.c_void_p, ctypes.c_void_p, size, size, size)
        function.restype = ctypes.c_int64
    return library
