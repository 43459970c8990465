"""Frames that the detector has compressed: their pixels are made when somebody asks for them, if ever."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .frame import Block, FrameSpec, Lease
from .storage import Compression


class Packing(Protocol):
    """The compressed frames of one block, as long as its lease is held."""

    @property
    def spec(self) -> FrameSpec:
        """Of the pixels."""

    @property
    def compression(self) -> Compression | None:
        """How the chunks are compressed; None for a way that our files do not have."""

    def pixels(self) -> NDArray[np.generic]:
        """[frame, channel, row, column]; made at the first call, which takes its time without the GIL.

        Safe from any thread. Raises DetectorError, which names the frame, where a chunk is damaged.
        """

    def chunks(self) -> Sequence[Sequence[bytes | memoryview]]:
        """[frame][channel] chunks of an HDF5 file; raises DetectorError where they hold something else."""


class PackedBlock(Block):
    """A block whose `data` may still be packed; whoever does not ask for pixels does not pay for them."""

    __slots__ = ("_data", "packing")

    def __init__(
        self,
        data: Packing | NDArray[Any],
        index: NDArray[np.int64],
        local: int,
        time: NDArray[np.float64],
        lease: Lease,
        valid: NDArray[np.bool_] | None = None,
        missing: NDArray[np.uint64] | None = None,
    ) -> None:
        """`data` as the camera has it; pixels where a copy with other pixels is made of a block."""
        self.packing = None if isinstance(data, np.ndarray) else data
        self._data = data if isinstance(data, np.ndarray) else None
        self.index, self.local, self.time, self.lease = index, local, time, lease
        self.valid, self.missing = valid, missing

    @property
    def data(self) -> NDArray[np.generic]:
        if self._data is None:
            assert self.packing is not None
            self._data = self.packing.pixels()
        return self._data

    @data.setter
    def data(self, pixels: NDArray[np.generic]) -> None:
        self._data = pixels

    def __len__(self) -> int:
        return len(self.index)

    @property
    def spec(self) -> FrameSpec:
        return super().spec if self.packing is None else self.packing.spec
