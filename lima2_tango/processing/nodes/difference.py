"""What is left of a frame when another is taken from it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lima2_tango.core.errors import GraphError
from lima2_tango.core.frame import Block, FrameSpec
from lima2_tango.core.pool import Pool
from lima2_tango.processing.node import JoinNode, Mask

from .derive import derive


class Difference(JoinNode):
    """The first frame less the second, float32, or float64 where one has 32-bit integers or doubles."""

    def output_spec(self, *specs: FrameSpec) -> FrameSpec:
        first, second = specs
        if first.shape != second.shape:
            raise GraphError(f"frames of {first} and of {second} have no difference: give both one shape")
        exact = all(spec.dtype == np.float32 or spec.dtype.itemsize <= 2 for spec in specs)
        return FrameSpec(*first.shape, np.dtype(np.float32 if exact else np.float64))

    def output_valid(self, *valids: Mask | None) -> Mask | None:
        """Pixels that both have."""
        known = [valid for valid in valids if valid is not None]
        return None if not known else np.logical_and(known[0], known[-1])

    def process(self, blocks: Sequence[Block], pool: Pool) -> Block:
        first, second = blocks
        spec = self.output_spec(first.spec, second.spec)

        def fill(out: NDArray[Any]) -> None:
            np.subtract(first.data, second.data, out=out, dtype=spec.dtype, casting="unsafe")

        return derive(first, spec, pool, fill)
