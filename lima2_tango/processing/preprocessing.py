"""What is done to every camera frame first: image operations, count-rate protection, detector correction."""

from collections.abc import Iterator

import numpy as np

from lima2_tango.core.frame import Block

from . import chain
from .guard import Guard
from .node import Node, check, specs
from .nodes.correction import Correction
from .params import CountRateLimit
from .pipeline import Setup

Kernels = tuple[str, np.dtype]
"""A kind of kernels (a key of `kernels.warm.KINDS`) and the pixel type they are needed for."""


class Preprocessing:
    """Camera frames to frames that a pipeline works on; safe to call from several threads at once."""

    def __init__(self, setup: Setup, correction: Correction | None, limit: CountRateLimit) -> None:
        """Raises GraphError or ParamError for what does not fit the camera's frames.

        `correction` is for frames of `chain.framed(setup)`.
        """
        self._pool = setup.pool
        self._image = chain.image_nodes(setup.acquisition.img)
        self._corrections: list[Node] = [] if correction is None else [correction]
        self._framed = check(self._image, setup.spec)
        self._camera = setup.spec
        self.valid = None if correction is None else correction.valid
        """Pixels that carry a value, None where all do."""
        self._guard = Guard(limit, setup, self._framed, self.valid) if limit.enabled else None
        self.made = specs([*self._image, *self._corrections], setup.spec)
        """Frames that a camera frame becomes on its way, the last of them what `run` returns; empty for none."""
        self.spec = [setup.spec, *self.made][-1]

    def run(self, block: Block) -> tuple[Block, int]:
        """The block made, with a claim of its own, and how many of its frames were over the count-rate limit.

        Placeholders of lost frames become zeros. Raises ProcessingError where protection stops the run.
        """
        lost = chain.placeholders(block)
        begin = block if lost is None else chain.zeroed(block, lost, self._pool)
        try:
            framed = chain.run(self._image, begin, self._pool)
        finally:
            if begin is not block:
                begin.lease.release()
        try:
            over_limit = 0 if self._guard is None else self._guard.watch(framed)
            made = chain.run(self._corrections, framed, self._pool)
        finally:
            framed.lease.release()
        if lost is not None:
            made.data[lost] = 0
        return made, over_limit

    def kernels(self) -> Iterator[Kernels]:
        """What must be compiled before the first frame."""
        if self._image:
            yield "binning", self._camera.dtype
        if self._guard is not None:
            yield "protection", self._framed.dtype
        if self._corrections:
            yield "correction", self._framed.dtype

    def close(self) -> None:
        """Wait for the protection's command, where it was started; raises ProcessingError where it failed."""
        if self._guard is not None:
            self._guard.close()
