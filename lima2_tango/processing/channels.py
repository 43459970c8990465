"""One channel of frames that have several, such as a threshold of a detector."""

import numpy as np

from lima2_tango.core.errors import ParamError
from lima2_tango.core.frame import FrameSpec

from .node import Mask

ALL = -1
"""In the place of a channel: all of them together."""


def check_channel(channel: int, json_path: str, spec: FrameSpec) -> None:
    """Raise ParamError, which names `json_path`, where frames of `spec` do not have the channel."""
    if channel >= spec.channels:
        have = "one channel: give 0" if spec.channels == 1 else f"{spec.channels}: give 0 to {spec.channels - 1}"
        raise ParamError(json_path, channel, f"there is no such channel, the frames have {have}")


def valid_in(channel: int, json_path: str, spec: FrameSpec, valid: Mask | None) -> Mask | None:
    """`valid` with all pixels of the other channels masked, as it is for `ALL`; raises as `check_channel`."""
    check_channel(channel, json_path, spec)
    if channel == ALL or spec.channels == 1:
        return valid
    alone = np.zeros(spec.shape, np.bool_)
    alone[channel] = True if valid is None else np.broadcast_to(valid, spec.shape)[channel]
    return alone
