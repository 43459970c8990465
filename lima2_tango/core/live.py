"""The newest frame for people to look at: made small, and in the encoding of LImA's live display."""

import struct
import sys
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .errors import WireError

VIDEO_IMAGE = "VIDEO_IMAGE"
"""Format of a DevEncoded attribute `video_last_image`, as LImA's device server and Taurus's codec name it."""

HEADER = struct.Struct("!IHHqiiHHHH")
"""Magic, version, mode, number of the frame, width, height, byte order of the pixels, size of this, padding."""
MAGIC = 0x5644454F
VERSION = 1
MODES = {"u1": 0, "u2": 1, "u4": 2, "u8": 3}
"""Y8, Y16, Y32, Y64 of LImA's VideoMode; it has none for signed pixels or for floats."""
MARKING = (np.dtype(np.uint16), np.dtype(np.uint32))
"""Detectors mark pixels that count nothing with the highest value of these types."""

Image = NDArray[np.generic]
"""[row, column]"""


@dataclass(frozen=True, slots=True)
class Look:
    """A frame as it is shown."""

    uuid: str
    """Of its run."""
    number: int
    """Global number of the frame."""
    image: Image
    """A copy, of the type of the frame."""
    factor: int
    """Columns, and rows, of the frame in one pixel of the image; those at the end may have fewer."""


def shrinking(shape: tuple[int, ...], limit: int) -> int:
    """The least factor that brings both sides [pixel] within `limit`."""
    return max(1, *(-(-side // limit) for side in shape))


def shrunk(image: Image, factor: int) -> Image:
    """The largest value of each `factor` x `factor` pixels, so that a peak of one pixel stays; always a copy.

    Pixels that are marked by the highest value, and those that are no numbers, count only where there are no others.
    """
    if factor == 1:
        return image.copy()
    one = image.dtype.type(1)
    marking = image.dtype in MARKING
    found = np.add(image, one, dtype=image.dtype) if marking else image  # the mark wraps to 0, the least
    for axis in (0, 1):
        found = np.fmax.reduceat(found, np.arange(0, found.shape[axis], factor), axis=axis)
    return np.subtract(found, one, dtype=image.dtype) if marking else found


def video(image: Image, number: int) -> tuple[str, bytes]:
    """VIDEO_IMAGE of an image; what its modes lack is rounded, and 0 where it is negative or no number.

    Signed pixels keep their width; floats become 32 bits wide, and those beyond that its highest value.
    """
    pixels = _unsigned(image)
    height, width = pixels.shape
    swapped = int(sys.byteorder == "big")
    mode = MODES[pixels.dtype.str[1:]]
    header = HEADER.pack(MAGIC, VERSION, mode, number, width, height, swapped, HEADER.size, 0, 0)
    return VIDEO_IMAGE, header + pixels.tobytes()


def video_of(answer: tuple[str, bytes]) -> tuple[int, Image]:
    """Number and read-only pixels of a VIDEO_IMAGE in a grey mode; raises WireError for anything else."""
    name, payload = answer
    if name != VIDEO_IMAGE or len(payload) < HEADER.size:
        raise WireError(f"a {VIDEO_IMAGE} was due, {len(payload)} bytes of {name or 'no format'} came")
    magic, _, mode, number, width, height, swapped, size, _, _ = HEADER.unpack_from(payload)
    types = {code: np.dtype((">" if swapped else "<") + kind) for kind, code in MODES.items()}
    if magic != MAGIC or mode not in types or len(payload) != size + width * height * types[mode].itemsize:
        raise WireError(f"no {VIDEO_IMAGE} in grey: magic {magic:#x}, mode {mode}, {width} x {height} pixels")
    return number, np.frombuffer(payload, types[mode], offset=size).reshape(height, width)


def _unsigned(image: Image) -> Image:
    kind, width = image.dtype.kind, image.dtype.itemsize
    if kind == "u":
        return image
    if kind == "b":
        return image.astype(np.uint8)
    if kind == "i":
        return np.maximum(image, 0).astype(f"u{width}")
    numbers = np.nan_to_num(image.astype(np.float64), nan=0.0, posinf=np.inf)
    return np.rint(np.clip(numbers, 0, np.iinfo(np.uint32).max)).astype(np.uint32)
