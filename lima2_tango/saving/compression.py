"""One compressor for each `Compression`: a frame's pixels in, the bytes of one HDF5 chunk out."""

import ctypes
import os
import struct
import zlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cache
from threading import Lock

import hdf5plugin
import numpy as np
from numpy.typing import NDArray

from lima2_tango.core.errors import SavingError
from lima2_tango.core.storage import Compression

Chunk = NDArray[np.generic] | bytes
"""C-contiguous memory that goes into the file as it is."""

BSHUF_FILTER = 32008
BSHUF_BLOCK_BYTES = 8192
"""Bitshuffle's own choice: a block and its transpose stay in the first-level cache."""
BSHUF_LZ4 = 2
"""The filter's code for LZ4 behind bitshuffle."""
DEFLATE_LEVEL = 4
"""Above it detector images shrink by less than 2 % more, for twice the time."""


class Compressor(ABC):
    """Stateless: `compress` may run in any number of threads at once, and lets go of the GIL while it works."""

    dataset_options: Mapping[str, object] = {}
    """What h5py needs to declare the filter of a dataset."""
    keeps_pixels: bool = False
    """True where a chunk is the frame's own memory, which must then live until it is written."""

    def bound(self, nbytes: int, itemsize: int) -> int:
        """Bytes of `out` that a chunk of `nbytes` pixel bytes may need; 0 where `out` is not used."""
        return 0

    @abstractmethod
    def compress(self, pixels: NDArray[np.generic], out: NDArray[np.uint8]) -> Chunk:
        """The chunk of C-contiguous `pixels`: part of `out`, new bytes, or `pixels` themselves.

        `out` has `bound` bytes or more. The chunk is valid as long as `pixels` and `out` are left alone.
        """


class Uncompressed(Compressor):
    keeps_pixels = True

    def compress(self, pixels: NDArray[np.generic], out: NDArray[np.uint8]) -> Chunk:
        return pixels


class Deflate(Compressor):
    """zlib brings its own output; allocating that is nothing beside the time deflate takes."""

    dataset_options = {"compression": "gzip", "compression_opts": DEFLATE_LEVEL}

    def compress(self, pixels: NDArray[np.generic], out: NDArray[np.uint8]) -> Chunk:
        return zlib.compress(pixels.data, DEFLATE_LEVEL)


class BitshuffleLz4(Compressor):
    """Bitshuffle and LZ4 through the C function of hdf5plugin's library: one thread a call, into memory of ours.

    A chunk is: pixel bytes (8 bytes, big-endian), block bytes (4, big-endian), bitshuffle's stream.
    """

    dataset_options = {"compression": BSHUF_FILTER, "compression_opts": (0, BSHUF_LZ4)}
    _header = struct.Struct(">QI")

    def __init__(self) -> None:
        self._library = _bitshuffle()

    def bound(self, nbytes: int, itemsize: int) -> int:
        bound: int = self._library.bshuf_compress_lz4_bound(nbytes // itemsize, itemsize, _block(itemsize))
        return self._header.size + bound

    def compress(self, pixels: NDArray[np.generic], out: NDArray[np.uint8]) -> Chunk:
        itemsize = pixels.itemsize
        start = self._header.size
        self._header.pack_into(out.data, 0, pixels.nbytes, _block(itemsize) * itemsize)
        used = self._library.bshuf_compress_lz4(
            pixels.ctypes.data, out.ctypes.data + start, pixels.size, itemsize, _block(itemsize)
        )
        if used < 0:
            raise SavingError(f"bitshuffle could not compress {pixels.nbytes} bytes: its error {used}")
        return out[: start + used]


def compressor(compression: Compression) -> Compressor:
    """The compressor of a parameter's value."""
    return _COMPRESSORS[compression]()


_COMPRESSORS: Mapping[Compression, type[Compressor]] = {
    Compression.NONE: Uncompressed,
    Compression.ZIP: Deflate,
    Compression.BSHUF_LZ4: BitshuffleLz4,
}


def _block(itemsize: int) -> int:
    """Elements of a bitshuffle block."""
    return BSHUF_BLOCK_BYTES // itemsize


@cache
def _bitshuffle() -> ctypes.CDLL:
    """hdf5plugin's filter library; ctypes lets go of the GIL during its calls."""
    path = os.path.join(hdf5plugin.PLUGIN_PATH, "libh5bshuf.so")
    try:
        library = ctypes.CDLL(path)
    except OSError as error:
        raise SavingError(
            f"the bitshuffle library {path} cannot be loaded ({error}): install the hdf5plugin wheel again"
        ) from error
    size = ctypes.c_size_t
    library.bshuf_compress_lz4_bound.argtypes = (size, size, size)
    library.bshuf_compress_lz4_bound.restype = size
    library.bshuf_compress_lz4.argtypes = (ctypes.c_void_p, ctypes.c_void_p, size, size, size)
    library.bshuf_compress_lz4.restype = ctypes.c_int64
    return library


class Buffers:
    """Output memory, used over and over: as many buffers as were ever in use at once."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._free: list[NDArray[np.uint8]] = []

    def take(self, nbytes: int) -> NDArray[np.uint8]:
        """A buffer of `nbytes` or more, with the last user's content; the one used last comes first (caches)."""
        with self._lock:
            while self._free:
                buffer = self._free.pop()
                if buffer.nbytes >= nbytes:
                    return buffer
        return np.empty(nbytes, np.uint8)

    def give_back(self, buffer: NDArray[np.uint8]) -> None:
        with self._lock:
            self._free.append(buffer)

    def clear(self) -> None:
        with self._lock:
            self._free.clear()
