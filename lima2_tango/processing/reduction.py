"""Rows of the regions of interest: made with the frame, handed out when the frame is counted."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lima2_tango.core.frame import Block, FrameSpec

from .nodes.profiles import RoiProfiles
from .nodes.statistics import RoiStatistics
from .params import Profiles, Statistics
from .rows import RowQueue

KERNELS = {"popRoiStatistics": "statistics", "popRoiProfiles": "profiles"}
"""Kind of kernels that makes the rows of a pop command."""


class Reduction:
    """The row streams that the parameters ask for, none or more."""

    def __init__(
        self, statistics: Statistics, profiles: Profiles, spec: FrameSpec, valid: NDArray[np.bool_] | None
    ) -> None:
        """Raises ParamError for a region that does not fit frames of this spec."""
        self._makers: list[RoiStatistics | RoiProfiles] = []
        self.queues: dict[str, RowQueue] = {}
        """By pop command, in the order of `rows`."""
        if statistics.enabled and (statistics.rect_rois or statistics.arc_rois):
            self._makers.append(RoiStatistics(statistics.rect_rois, statistics.arc_rois, spec, valid))
            self.queues["popRoiStatistics"] = RowQueue("popRoiStatistics")
        if profiles.enabled and (profiles.rois or profiles.directions):
            self._makers.append(RoiProfiles(profiles.rois, profiles.directions, spec, valid))
            self.queues["popRoiProfiles"] = RowQueue("popRoiProfiles")

    def kernels(self) -> list[str]:
        """Kinds of kernels that it needs, keys of `kernels.warm.KINDS`."""
        return [KERNELS[name] for name in self.queues]

    def rows(self, block: Block, rank: int) -> list[NDArray[np.void]]:
        """One array of rows for each stream; safe to call from several threads."""
        return [maker.rows(block, rank) for maker in self._makers]

    def publish(self, rows: Sequence[NDArray[Any]]) -> None:
        """Make rows poppable, after their frames are counted; raises ProcessingError where nobody pops."""
        for queue, new in zip(self.queues.values(), rows, strict=True):
            queue.append(new)
