"""What becomes of frames that nobody takes in time: a detector cannot wait, and what it remembers is little."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from .errors import DataLossError
from .frame import BLOCK_BYTES, Block, FrameSpec, Lease
from .series import Series


class Overload(StrEnum):
    """What happens when frames come faster than they can be processed or saved."""

    WAIT = "wait"
    ABORT = "abort"
    COUNT = "count"


@dataclass(frozen=True, slots=True)
class Losses:
    """A camera that keeps its newest frames only, and what it does about the others."""

    overload: Overload
    nb_buffered_frames: int
    """Frames of one receiver that the camera keeps while nobody takes them."""
    spec: FrameSpec

    def gone(self, series: Series, indices: NDArray[np.int64], times: NDArray[np.float64], patience: float) -> int:
        """How many of these frames are lost: the first ones, if any. A taker may always be `patience` seconds late.

        Raises DataLossError, which names the first lost frame, where the run is to be aborted.
        """
        if self.overload is Overload.WAIT:
            return 0
        kept = patience + self.nb_buffered_frames * series.topology.receivers * series.period
        ages = series.ages(times)
        count = int(np.count_nonzero(ages > kept))
        if count and self.overload is Overload.ABORT:
            raise DataLossError(
                f"frame {indices[0]} is lost: it was taken {ages[0]:.3g} s after its exposure, and a receiver's camera "
                f"buffer of {self.nb_buffered_frames} frames lasts {kept:.3g} s; acquire slower, reduce what is "
                "processed or saved, or allow losses: $.det.overload count",
                frame_idx=int(indices[0]),
            )
        return count


def placeholders(
    spec: FrameSpec, local: int, indices: NDArray[np.int64], times: NDArray[np.float64]
) -> Iterator[Block]:
    """Frames of zeros, marked invalid, in blocks of the usual size: lost frames stay in the series."""
    step = max(1, BLOCK_BYTES // max(spec.nbytes, 1))
    for start in range(0, len(indices), step):
        part = slice(start, start + step)
        count = len(indices[part])
        data = np.zeros((count, *spec.shape), spec.dtype)
        yield Block(data, indices[part], local + start, times[part], Lease(), valid=np.zeros(count, np.bool_))
