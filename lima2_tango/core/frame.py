"""What travels: blocks of frames, and the end of the series."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from threading import Lock

import numpy as np
from numpy.typing import NDArray

BLOCK_BYTES = 4 << 20
"""A block is cut when it reaches this size [byte]: a few MiB stay in the caches."""


class PixelType(StrEnum):
    """Names of the pixel types that Lima2's clients know."""

    GRAY8S = "gray8s"
    GRAY8 = "gray8"
    GRAY16S = "gray16s"
    GRAY16 = "gray16"
    GRAY32S = "gray32s"
    GRAY32 = "gray32"
    GRAY32F = "gray32f"
    GRAY64F = "gray64f"

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(_DTYPES[self])

    @classmethod
    def of(cls, dtype: np.dtype) -> "PixelType":
        """Name of a numpy dtype; raises KeyError for one that no client knows."""
        return _NAMES[np.dtype(dtype).newbyteorder("=")]


_DTYPES = {
    PixelType.GRAY8S: "i1",
    PixelType.GRAY8: "u1",
    PixelType.GRAY16S: "i2",
    PixelType.GRAY16: "u2",
    PixelType.GRAY32S: "i4",
    PixelType.GRAY32: "u4",
    PixelType.GRAY32F: "f4",
    PixelType.GRAY64F: "f8",
}
_NAMES = {np.dtype(code): name for name, code in _DTYPES.items()}


@dataclass(frozen=True, slots=True)
class FrameSpec:
    """Promise about every frame of a series, known before the first one arrives."""

    channels: int
    height: int
    """Rows [pixel]."""
    width: int
    """Columns [pixel]."""
    dtype: np.dtype

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channel, row, column)"""
        return (self.channels, self.height, self.width)

    @property
    def nbytes(self) -> int:
        """Bytes of one frame."""
        return self.channels * self.height * self.width * self.dtype.itemsize

    def info(self) -> dict[str, object]:
        """Frame info as the clients read it (contract section 4.1)."""
        return {
            "nb_channels": self.channels,
            "dimensions": {"x": self.width, "y": self.height},
            "pixel_type": str(PixelType.of(self.dtype)),
        }


@dataclass(frozen=True, slots=True)
class VectorSpec:
    """Promise about every vector of a series."""

    length: int
    """Values of a vector."""
    dtype: np.dtype

    def info(self) -> dict[str, object]:
        """Vector info as the clients read it (contract section 4.1)."""
        return {"length": self.length, "pixel_type": str(PixelType.of(self.dtype))}


class Lease:
    """Shared claim on memory: `give_back` runs once, when the last holder has released it.

    A new lease has one holder. `buffer` is the memory claimed, as bytes (None when the camera owns it).
    """

    __slots__ = ("_count", "_give_back", "_lock", "buffer")

    def __init__(self, give_back: Callable[[], None] | None = None, buffer: NDArray[np.uint8] | None = None) -> None:
        self._give_back = give_back
        self._count = 1
        self._lock = Lock()
        self.buffer = buffer

    def retain(self) -> None:
        with self._lock:
            if self._count == 0:
                raise RuntimeError("memory retained after its last release")
            self._count += 1

    def release(self) -> None:
        with self._lock:
            if self._count == 0:
                raise RuntimeError("memory released more often than retained")
            self._count -= 1
            last = self._count == 0
        if last and self._give_back is not None:
            self._give_back()


@dataclass(slots=True)
class Block:
    """Consecutive frames of one receiver on their one-way trip from camera to file.

    Written once by its maker, from then on only read. Whoever keeps it beyond the call it was handed to
    retains `lease`, and releases it when done.
    """

    data: NDArray[np.generic]
    """[frame, channel, row, column]; each frame is C-contiguous."""
    index: NDArray[np.int64]
    """[frame] global frame number (after accumulation: number of the accumulated frame)."""
    local: int
    """Local index of the first frame: its arrival number on this receiver, from 0."""
    time: NDArray[np.float64]
    """[frame] when the exposure began, seconds since the epoch (UTC)."""
    lease: Lease
    valid: NDArray[np.bool_] | None = None
    """[frame] False for a placeholder of a lost frame; None when all frames are real."""
    missing: NDArray[np.uint64] | None = None
    """[frame] bit m is set where module m is missing, its pixels are zero; None when all frames are whole.

    In a sum of frames: where module m of any of them is.
    """

    def __len__(self) -> int:
        return len(self.data)

    @property
    def spec(self) -> FrameSpec:
        _, channels, height, width = self.data.shape
        return FrameSpec(channels, height, width, self.data.dtype)


@dataclass(frozen=True, slots=True)
class EndOfSeries:
    """Last item of every stream; `nb_frames` of this receiver lets each stage check that it lost none."""

    nb_frames: int
