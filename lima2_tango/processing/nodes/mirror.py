"""Images as seen in a mirror."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lima2_tango.core.acquisition import Flip
from lima2_tango.core.frame import Block
from lima2_tango.core.pool import Pool
from lima2_tango.processing.node import Mask, Node

from .derive import derive

_STEPS = {Flip.NONE: (1, 1), Flip.LEFT_RIGHT: (1, -1), Flip.UP_DOWN: (-1, 1), Flip.ROTATE_180: (-1, -1)}
"""Steps along (row, column)."""


@dataclass(frozen=True, slots=True)
class Mirror(Node):
    """Reverses rows, columns or both of every channel, as `numpy.flip` does.

    Left-right: pixel (row i, column j) of w columns goes to (i, w - 1 - j). Up-down: of h rows, to (h - 1 - i, j). Both
    are a turn by 180 degrees.
    """

    flip: Flip

    def output_valid(self, valid: Mask | None) -> Mask | None:
        rows, columns = _STEPS[self.flip]
        return None if valid is None else np.ascontiguousarray(valid[..., ::rows, ::columns])

    def process(self, block: Block, pool: Pool) -> Block:
        rows, columns = _STEPS[self.flip]

        def fill(out: NDArray[Any]) -> None:
            np.copyto(out, block.data[:, :, ::rows, ::columns])  # releases the GIL

        return derive(block, block.spec, pool, fill)
