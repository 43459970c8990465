"""What a Dectris detector streams, whichever of its two stream formats it uses: start, images, end.

A decoder takes the bytes of one ZeroMQ message and gives one of these; images keep views of these bytes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from lima2_tango.core.errors import WireError

Buffer = bytes | bytearray | memoryview

LARGEST_SIDE = 65535
"""Rows or columns of an image at most: Lima2's clients know no larger ones."""
MOST_CHANNELS = 8
"""Thresholds and differences of one exposure at most; EIGER2 has three."""
PIXEL_TYPES = {"uint8": "<u1", "uint16": "<u2", "uint32": "<u4", "int8": "<i1", "int16": "<i2", "int32": "<i4"}
"""Names of pixel types in both formats."""


class Codec(StrEnum):
    """How the pixels of a chunk are packed."""

    NONE = "none"
    LZ4 = "lz4"
    """With the header of HDF5's filter 32004."""
    LZ4_BLOCK = "lz4 block"
    """One LZ4 block, without a header: the legacy stream's `lz4<`."""
    BSLZ4 = "bslz4"
    """With the header of HDF5's filter 32008."""
    BSLZ4_BARE = "bslz4 without header"
    """The blocks alone, of the default size."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """The image of one channel (threshold), packed."""

    channel: str
    """`threshold_1`; the legacy stream has one channel and calls it so too."""
    data: memoryview
    """Of the message's memory."""
    codec: Codec
    shape: tuple[int, int]
    """(rows, columns) [pixel]"""
    dtype: np.dtype

    @property
    def nbytes(self) -> int:
        """Bytes of the pixels."""
        return self.shape[0] * self.shape[1] * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class SeriesStart:
    """The detector was armed."""

    series: int
    unique_id: str
    """Empty in the legacy format."""
    channels: tuple[str, ...]
    """In the order of the chunks; none where the message does not say."""
    nb_images: int
    """Of all triggers; 0 where the message does not say."""
    shape: tuple[int, int] | None
    """(rows, columns), where the message says."""
    dtype: np.dtype | None
    """Of the pixels, where the message says."""
    fields: Mapping[str, object]
    """Everything the message says, by the detector's names."""


@dataclass(frozen=True, slots=True)
class Image:
    """One exposure."""

    series: int
    unique_id: str
    """Empty in the legacy format."""
    number: int
    """In the series, from 0."""
    chunks: tuple[Chunk, ...]
    """One for each channel."""
    start_time: float
    """When the exposure began, after the series did [s]."""
    real_time: float
    """How long it took [s]."""
    appendix: object = None
    """What a user asked the detector to add."""


@dataclass(frozen=True, slots=True)
class SeriesEnd:
    """No more images of this series."""

    series: int
    unique_id: str


Message = SeriesStart | Image | SeriesEnd


def pixel_type(name: object, where: str) -> np.dtype:
    """The dtype of a pixel type's name; raises WireError, which begins with `where`."""
    if not isinstance(name, str) or name not in PIXEL_TYPES:
        raise WireError(f"{where}: pixels of type {shown(name)} are not known; have: {', '.join(PIXEL_TYPES)}")
    return np.dtype(PIXEL_TYPES[name])


def check_shape(rows: object, columns: object, where: str) -> tuple[int, int]:
    """(rows, columns) of an image; raises WireError for what no image has."""
    if not (is_count(rows) and is_count(columns)):
        raise WireError(f"{where}: an image of {shown(rows)} x {shown(columns)} pixels is none")
    assert isinstance(rows, int)
    assert isinstance(columns, int)
    if not (1 <= rows <= LARGEST_SIDE and 1 <= columns <= LARGEST_SIDE):
        raise WireError(f"{where}: {rows} x {columns} pixels are not between 1 x 1 and {LARGEST_SIDE} x {LARGEST_SIDE}")
    return rows, columns


def is_count(value: object) -> bool:
    """A whole number from 0 on that fits 63 bits (True and False are none)."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def shown(value: object) -> str:
    """A foreign value in a sentence: not longer than the sentence can bear."""
    text = f"{len(value)} bytes" if isinstance(value, bytes | bytearray | memoryview) else ascii(value)
    return text if len(text) <= 60 else text[:57] + "..."
