"""Compression as the detector's computer does it."""

import struct
from ctypes import c_void_p

import numpy as np
from numpy.typing import NDArray

from lima2_tango.core import bitshuffle
from lima2_tango.core.errors import Lima2Error

LZ4_BLOCK = 1 << 30
"""An LZ4 chunk of HDF5 is cut into blocks of so many bytes."""


def packed(pixels: NDArray[np.generic], compression: str, framed: bool = True) -> bytes:
    """The bytes of C-contiguous `pixels` with `compression` bslz4, lz4 or none.

    bslz4 is a chunk of HDF5's filter 32008. lz4 is one of filter 32004 where `framed`, as stream 2 has it, and a bare
    LZ4 block otherwise, as the legacy stream has it. One thread, without the GIL.
    """
    if compression == "none":
        return pixels.tobytes()
    if compression == "lz4":
        return _lz4_chunk(pixels) if framed else _lz4_block(pixels.reshape(-1).view(np.uint8))
    out = np.empty(bitshuffle.compress_bound(pixels.nbytes, pixels.itemsize), np.uint8)
    return out[: bitshuffle.compress(pixels, out)].tobytes()


def _lz4_chunk(pixels: NDArray[np.generic]) -> bytes:
    """Bytes in all (8, big-endian), bytes of a block (4), then for each block its compressed bytes (4) and they."""
    raw = pixels.reshape(-1).view(np.uint8)
    size = min(LZ4_BLOCK, max(1, raw.nbytes))
    parts = [struct.pack(">QI", raw.nbytes, size)]
    for start in range(0, raw.nbytes, size):
        block = _lz4_block(raw[start : start + size])
        parts += [struct.pack(">I", len(block)), block]
    return b"".join(parts)


def _lz4_block(raw: NDArray[np.uint8]) -> bytes:
    library = bitshuffle.load()
    out = np.empty(library.LZ4_compressBound(raw.nbytes), np.uint8)
    # ctypes' default types are C's int, as LZ4's are; addresses need their own.
    used = library.LZ4_compress_default(c_void_p(raw.ctypes.data), c_void_p(out.ctypes.data), raw.nbytes, out.nbytes)
    if used <= 0:
        raise Lima2Error(f"LZ4 could not compress {raw.nbytes} bytes")
    return out[:used].tobytes()
