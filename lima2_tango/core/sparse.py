"""Sparse frames: the pixels that stand out, and the background of the rest, packed as the clients read them.

A packed frame is the payload of an SMX_SPARSE_FRAME (contract section 7.3), little-endian: width and height (uint16),
number of bins, number of pixels, frame number (uint32); the flat numbers of the pixels (int32), their intensities
(float32), mean and standard deviation of the background in each bin (float32). In memory it lies in a longer place,
whose last word is the number of pixels that were picked: more than the packed ones where there was no room for all.
"""

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import WireError
from .frame import FrameSpec

HEADER = struct.Struct("<HHIII")
INDEX_OFFSET = 12
"""Where the frame number is; 0 in a frame that has not been handed out."""
WORD = 4
"""Bytes of all values but the width and the height."""
FULL = 8
"""A packed frame has room for one pixel in this many."""
LEAST = 64
"""Pixels for which there is room in a frame that has as many."""


@dataclass(frozen=True, slots=True, eq=False)
class SparseSpec:
    """Promise about every sparse frame of a series, and what makes it dense again."""

    height: int
    width: int
    radius: NDArray[np.float32]
    """[bin] centre, in the unit of `radius2d`."""
    radius2d: NDArray[np.float32]
    """[row, column] radius of each pixel, NaN where it is masked."""
    normalization: NDArray[np.float32] | None = None
    """[row, column] weight of each pixel: the background of a frame is that of a pixel at weight 1 times this."""
    dummy: float = float("nan")
    """Value of masked pixels of a frame that is made dense again."""
    cutoff: float = 4.0
    """Deviations above the background from which on a pixel was picked."""

    @property
    def nb_bins(self) -> int:
        return len(self.radius)

    @property
    def capacity(self) -> int:
        """Most pixels of a packed frame."""
        size = self.height * self.width
        return max(size // FULL, min(size, LEAST))

    @property
    def packed(self) -> FrameSpec:
        """Packed frames as frames of bytes."""
        size = HEADER.size + WORD * (2 * self.capacity + 2 * self.nb_bins + 1)
        return FrameSpec(1, 1, size, np.dtype(np.uint8))


@dataclass(frozen=True, slots=True)
class SparseFrame:
    """What is packed in one."""

    index: int
    """Global frame number, where it is told."""
    shape: tuple[int, int]
    """(row, column) of the frame that it was."""
    pixels: NDArray[np.int32]
    """Flat numbers of the pixels that stand out, rising."""
    intensity: NDArray[np.float32]
    """Their values, less the dark current."""
    average: NDArray[np.float32]
    """[bin] mean of the background at weight 1."""
    deviation: NDArray[np.float32]
    """[bin] standard deviation of a pixel of the background at weight 1."""


def payload_size(packed: NDArray[Any]) -> int:
    """Bytes of the payload in the memory of a packed frame; raises WireError where they are more than there are."""
    flat = packed.reshape(-1)
    if flat.size < HEADER.size:
        raise WireError(f"a sparse frame of {flat.size} bytes is shorter than its header of {HEADER.size}")
    _, _, nb_bins, nb_pixels, _ = HEADER.unpack_from(flat.data)
    size = HEADER.size + 2 * WORD * (int(nb_bins) + int(nb_pixels))
    if size > flat.size:
        raise WireError(f"a sparse frame of {nb_pixels} pixels and {nb_bins} bins takes {size} bytes, not {flat.size}")
    return size


def unpacked(packed: NDArray[Any]) -> SparseFrame:
    """Views of the parts of a packed frame, of which more bytes may be given; raises WireError where they are fewer."""
    flat = packed.reshape(-1)[: payload_size(packed)]
    width, height, nb_bins, nb_pixels, index = HEADER.unpack_from(flat.data)
    ends = HEADER.size + WORD * np.cumsum([0, nb_pixels, nb_pixels, nb_bins, nb_bins])
    pixels, *others = (flat[begin:end] for begin, end in zip(ends, ends[1:], strict=False))
    intensity, average, deviation = (part.view("<f4") for part in others)
    return SparseFrame(index, (height, width), pixels.view("<i4"), intensity, average, deviation)


def nb_picked(packed: NDArray[Any]) -> NDArray[np.int32]:
    """[frame] pixels that were picked of each packed frame [frame, channel, row, byte], with those left out."""
    words: NDArray[np.int32] = np.ascontiguousarray(packed[:, 0, 0, -WORD:]).view("<i4")[:, 0]
    return words
