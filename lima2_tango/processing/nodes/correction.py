"""Background, flat field and mask."""

from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lima2_tango.core.frame import Block, FrameSpec
from lima2_tango.core.pool import Pool
from lima2_tango.processing.kernels.correction import flatten, keep_valid, subtract
from lima2_tango.processing.kernels.layout import flat
from lima2_tango.processing.node import Mask, Node

from .derive import derive, lines

Tables = tuple[NDArray[Any] | None, NDArray[Any] | None]
"""Background and flat field, flat and of the type of the result, with the masked pixels marked in one of them."""


class Correction(Node):
    """(raw - background) / flatfield, and 0 where a pixel is masked, in one pass.

    A mask alone keeps the pixel type. Background and flat field make float32 of float32 and of integers of up to
    16 bits, float64 of the rest; nothing is clipped, negative values stay. Pixels whose flat field is not above 0
    count as masked. Placeholders of lost frames become 0.

    The usual flat-field correction (Seibert, Boone and Lindfors 1998, Proc. SPIE 3336 348) with a flat field that is
    normalised beforehand, less its own background.
    """

    def __init__(
        self,
        background: NDArray[Any] | None = None,
        flatfield: NDArray[Any] | None = None,
        mask: NDArray[np.bool_] | None = None,
    ) -> None:
        """Images are (row, column) for all channels or (channel, row, column); `mask` is True for valid pixels."""
        self._background, self._flatfield = background, flatfield
        self.valid = _valid(flatfield, mask)
        """Pixels that carry a value, None where all do."""
        self._lock = Lock()
        self._tables: dict[np.dtype, Tables] = {}

    def output_spec(self, spec: FrameSpec) -> FrameSpec:
        if self._background is None and self._flatfield is None:
            return spec
        small = spec.dtype.itemsize <= 2 or spec.dtype == np.float32
        dtype = np.dtype("f4" if small else "f8")
        self._tables_of(dtype)  # made at Prepare, not with the first frame
        return FrameSpec(*spec.shape, dtype)

    def output_valid(self, valid: Mask | None) -> Mask | None:
        return self.valid if valid is None else valid if self.valid is None else self.valid & valid

    def process(self, block: Block, pool: Pool) -> Block:
        spec = self.output_spec(block.spec)

        def fill(out: NDArray[Any]) -> None:
            self._correct(flat(block.data), lines(out))
            if block.valid is not None:
                out[~block.valid] = 0

        return derive(block, spec, pool, fill)

    def _correct(self, frames: NDArray[Any], out: NDArray[Any]) -> None:
        background, flatfield = self._tables_of(out.dtype)
        if flatfield is not None:
            none = np.empty(0, out.dtype)
            flatten(frames, none if background is None else background, flatfield, out)
        elif background is not None:
            subtract(frames, background, out)
        elif self.valid is not None:
            keep_valid(frames, self.valid.reshape(-1), out)
        else:
            np.copyto(out, frames[:, : out.shape[1]])

    def _tables_of(self, dtype: np.dtype) -> Tables:
        with self._lock:
            if dtype not in self._tables:
                self._tables[dtype] = _tables(self._background, self._flatfield, self.valid, dtype)
            return self._tables[dtype]


def _valid(flatfield: NDArray[Any] | None, mask: NDArray[np.bool_] | None) -> NDArray[np.bool_] | None:
    if flatfield is None:
        return None if mask is None else np.ascontiguousarray(mask)
    lit = flatfield > 0
    if mask is not None:
        return np.ascontiguousarray(lit & mask)
    return None if lit.all() else lit


def _tables(
    background: NDArray[Any] | None, flatfield: NDArray[Any] | None, valid: NDArray[np.bool_] | None, dtype: np.dtype
) -> Tables:
    """All images given are brought to one shape: that of a channel, or that of a frame where one of them needs it."""
    shape = np.broadcast_shapes(*(image.shape for image in (background, flatfield, valid) if image is not None))
    good = np.True_ if valid is None else valid

    def table(image: NDArray[Any] | None, mark: float) -> NDArray[Any] | None:
        if image is None:
            return None
        marked = np.where(good, image, mark) if not np.isnan(mark) or valid is not None else image
        return np.ascontiguousarray(np.broadcast_to(marked, shape), dtype).reshape(-1)

    return table(background, 0.0 if flatfield is not None else np.nan), table(flatfield, 0.0)
