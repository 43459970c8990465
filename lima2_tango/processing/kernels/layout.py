"""The one memory layout that kernels are compiled for."""

import math
from typing import Any

from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray


def flat(data: NDArray[Any]) -> NDArray[Any]:
    """Frames [n, channel, row, column] as a read-only, C-contiguous view [n, pixel].

    Frames that lie apart in memory give rows that are longer than a frame: only the first
    channel * row * column pixels of a row may be read. No copy, but where frames overlap, run backwards or lie at
    odd addresses.
    """
    size = math.prod(data.shape[1:])
    if not data.flags.c_contiguous:
        pitch, rest = divmod(data.strides[0], data.itemsize)
        if not rest and pitch >= size and data[0].flags.c_contiguous and data.flags.aligned:
            return as_strided(data, (len(data), pitch), (data.strides[0], data.itemsize), writeable=False)
    if not (data.flags.c_contiguous and data.flags.aligned):
        data = data.copy()
    frames = data.reshape(len(data), size)
    frames.flags.writeable = False
    return frames


def channel_of(data: NDArray[Any], channel: int) -> NDArray[Any]:
    """One channel of frames, as `flat` gives them: rows [n, pixel] of which row * column pixels may be read."""
    return flat(data[:, channel : channel + 1])
