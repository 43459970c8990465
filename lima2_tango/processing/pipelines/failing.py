"""The pipeline that fails where it is told to: for tests of everything around it."""

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from lima2_tango.core.errors import ProcessingError
from lima2_tango.core.frame import Block
from lima2_tango.core.params import Int, Params
from lima2_tango.processing.pipeline import Pipeline, Setup
from lima2_tango.processing.plugin import PipelinePlugin


class FailingParams(Params):
    class_name: Literal["LimaProcessingFailing"] = "LimaProcessingFailing"
    """The pipeline: fails on request, keeps no frames."""
    failed_on_prepare: bool = False
    """Fail at Prepare."""
    failed_on_activate: bool = False
    """Fail at Start."""
    failed_frame_idx: Annotated[Int, Field(ge=0, le=2**31 - 1)] = 0
    """Fail on the frame with this global number [frame]; 0 never fails."""


class Failing(Pipeline[FailingParams]):
    """Counts frames and forgets them, up to the one it has to fail on."""

    def __init__(self, params: FailingParams, setup: Setup) -> None:
        super().__init__(params, setup)
        self._error: Exception | None = None
        if params.failed_on_prepare:
            raise ProcessingError("the pipeline fails at Prepare, as its parameter failed_on_prepare asks")

    @property
    def fails_activation(self) -> bool:
        return self.params.failed_on_activate

    def put(self, block: Block) -> None:
        try:
            if self._error is None:
                self._count(block)
        finally:
            block.lease.release()
        self.finish()

    def finish(self) -> None:
        if self._error is not None:
            raise self._error

    def abort(self, error: Exception) -> None:
        self._error = self._error or error

    def _count(self, block: Block) -> None:
        """Count the frames before the one to fail on."""
        wanted = self.params.failed_frame_idx
        hit = np.flatnonzero(block.index == wanted)
        if not wanted or not len(hit):
            self.counters.add(nb_frames_source=len(block))
            return
        self.counters.add(nb_frames_source=int(hit[0]))
        self._error = ProcessingError(
            f"frame {wanted} could not be processed, as the parameter failed_frame_idx asks", frame_idx=wanted
        )
        self.on_failure()


PLUGIN = PipelinePlugin(
    class_name="LimaProcessingFailing",
    doc="Not for data: keeps no frames, and fails on purpose where it is told to, for tests of everything around it.",
    params=FailingParams,
    build=Failing,
)
