"""Defective pixels, interpolated."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lima2_tango.core.errors import GraphError
from lima2_tango.core.frame import Block, FrameSpec
from lima2_tango.core.pool import Pool
from lima2_tango.processing.kernels.defects import replace_by_means
from lima2_tango.processing.kernels.layout import flat
from lima2_tango.processing.node import Mask, Node

from .derive import derive, lines

REACH = 3
"""A good pixel must be this near, in rows and in columns [pixel]: what is larger is a gap, and is masked."""


class Defects(Node):
    """A defective pixel becomes the mean of the good ones in the smallest square about it that holds any.

    That is the 3 x 3 neighbourhood for a single pixel, as flat-panel practice has it (ASTM E2597 calls a pixel
    correctable by its good neighbours). Integers are rounded to the nearest, halves to even; the pixel type stays.
    """

    def __init__(self, defective: Mask, spec: FrameSpec) -> None:
        """`defective` is True where a pixel is bad. Raises GraphError where one has no good pixel within `REACH`."""
        bad = np.broadcast_to(defective, spec.shape)
        self._spec = spec
        self._places = np.flatnonzero(bad)
        found = [_good_neighbours(bad, int(place), spec) for place in self._places]
        alone = [int(place) for place, others in zip(self._places, found, strict=True) if not others.size]
        if alone:
            channel, row, column = np.unravel_index(alone[0], spec.shape)
            raise GraphError(
                f"{len(alone)} defective pixels, the first at ({column}, {row}) (x, y) of channel {channel}, have no "
                f"good pixel within {REACH}: mask them instead"
            )
        self._others = np.concatenate([np.empty(0, np.int64), *found])
        self._bounds = np.cumsum([0, *(len(others) for others in found)])

    def output_spec(self, spec: FrameSpec) -> FrameSpec:
        if spec.shape != self._spec.shape:
            raise GraphError(f"the defective pixels are those of frames {self._spec.shape}, not {spec.shape}")
        return spec

    def output_valid(self, valid: Mask | None) -> Mask | None:
        """An interpolated pixel is valid where all are that it is made of."""
        if valid is None:
            return None
        full = np.broadcast_to(valid, self._spec.shape).reshape(-1)
        made = full.copy()
        for j, place in enumerate(self._places):
            made[place] = full[self._others[self._bounds[j] : self._bounds[j + 1]]].all()
        return made.reshape(self._spec.shape)

    def process(self, block: Block, pool: Pool) -> Block:
        def fill(out: NDArray[Any]) -> None:
            replace_by_means(flat(block.data), self._places, self._bounds, self._others, lines(out))

        return derive(block, block.spec, pool, fill)


def _good_neighbours(bad: NDArray[np.bool_], place: int, spec: FrameSpec) -> NDArray[np.int64]:
    """Places of the good pixels in the smallest square about a pixel that holds any; empty beyond `REACH`."""
    channel, row, column = (int(i) for i in np.unravel_index(place, spec.shape))
    for reach in range(1, REACH + 1):
        top, left = max(0, row - reach), max(0, column - reach)
        square = ~bad[channel, top : row + reach + 1, left : column + reach + 1]
        if square.any():
            rows, columns = np.nonzero(square)
            return np.asarray((channel * spec.height + top + rows) * spec.width + left + columns, np.int64)
    return np.empty(0, np.int64)
