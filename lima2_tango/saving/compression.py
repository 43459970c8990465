"""One compressor for each `Compression`: a frame's pixels in, the bytes of one HDF5 chunk out."""

import zlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from lima2_tango.core import bitshuffle
from lima2_tango.core.storage import Compression

Chunk = NDArray[np.generic] | bytes | memoryview
"""C-contiguous memory that goes into the file as it is."""

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
    """Bitshuffle and LZ4, one thread a call."""

    dataset_options = {"compression": bitshuffle.FILTER, "compression_opts": (0, bitshuffle.LZ4)}

    def __init__(self) -> None:
        bitshuffle.ready()

    def bound(self, nbytes: int, itemsize: int) -> int:
        return bitshuffle.compress_bound(nbytes, itemsize)

    def compress(self, pixels: NDArray[np.generic], out: NDArray[np.uint8]) -> Chunk:
        return out[: bitshuffle.compress(pixels, out)]


def compressor(compression: Compression) -> Compressor:
    """The compressor of a parameter's value."""
    return _COMPRESSORS[compression]()


_COMPRESSORS: Mapping[Compression, type[Compressor]] = {
    Compression.NONE: Uncompressed,
    Compression.ZIP: Deflate,
    Compression.BSHUF_LZ4: BitshuffleLz4,
}


def nbytes(chunk: Chunk) -> int:
    return len(chunk) if isinstance(chunk, bytes) else chunk.nbytes


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
