"""Protection of the detector against count rates that it does not stand."""

import numpy as np
from numpy.typing import NDArray

from lima2_tango.core.errors import ProcessingError
from lima2_tango.core.frame import Block, FrameSpec

from .command import OneShotCommand, allowed_command
from .nodes.derive import part
from .nodes.protection import CountRateProtection
from .params import CountRateLimit
from .pipeline import Setup

COMMAND_PATH = "$.max_countrate_protection.command"


class Guard:
    """Watches frames, runs the command once, and stops the run or counts the frames, as the parameters ask."""

    def __init__(self, params: CountRateLimit, setup: Setup, spec: FrameSpec, valid: NDArray[np.bool_] | None) -> None:
        """Raises ParamError for a rectangle that leaves the image and for a command that is not allowed here."""
        argv, allowed = [params.command, *params.args], setup.allowed_commands
        self._command: OneShotCommand | None = allowed_command(COMMAND_PATH, argv, allowed) if params.command else None
        self._aborts = params.abort_on_protection
        overrides = [(region, region.max_countrate) for region in params.pixel_capacity_override]
        expo_time_us = setup.acquisition.acq.expo_time
        self._protection = CountRateProtection(
            params.max_countrate, expo_time_us, overrides, params.ignore_max_value, spec, valid
        )

    def watch(self, block: Block) -> int:
        """Frames with a pixel over its limit; raises ProcessingError on the first one where that stops the run."""
        count = 0
        while len(block) and (found := self._protection.check(block)) is not None:
            frame, channel, row, column, rate = found
            if self._command is not None:
                self._command.trigger()
            if self._aborts:
                raise ProcessingError(
                    f"frame {frame}, pixel ({column}, {row}) (x, y) of channel {channel} counts {rate:.6g} /s, "
                    "over the limit of max_countrate_protection: attenuate the beam, or raise the limit",
                    frame_idx=frame,
                )
            count += 1
            block = _after(block, frame)
        return count

    def close(self) -> None:
        """Wait for the command, where it was started; raises ProcessingError where it failed."""
        if self._command is not None:
            self._command.check()


def _after(block: Block, frame: int) -> Block:
    """The frames after the one with this global index; a view without a claim of its own."""
    return part(block, slice(int(np.searchsorted(block.index, frame)) + 1, None))
