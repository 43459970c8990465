"""Frames made sparse, and dense again."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lima2_tango.core.errors import GraphError
from lima2_tango.core.frame import Block, FrameSpec
from lima2_tango.core.pool import Pool
from lima2_tango.core.sparse import SparseFrame, SparseSpec, nb_picked, unpacked
from lima2_tango.processing.kernels.layout import channel_of
from lima2_tango.processing.node import Mask, Node, RowNode
from lima2_tango.processing.products import PixelTables

from .clipping import Background
from .derive import derive
from .peaks import PeakPicker

PEAKS = np.dtype([("frame_idx", "<i4"), ("recv_idx", "<i4"), ("nb_peaks", "<i4")])
"""How many pixels of a frame were picked (contract section 7.4)."""


class Sparsification(Node):
    """The pixels that stand out of the background, and the background: packed frames (`core.sparse`), as bytes.

    Their frame numbers are left to whoever hands them out. A frame of which more pixels are picked than there is
    room for has the first of them, and says how many there were. Placeholders of lost frames have none, and a
    background of zeros.
    """

    def __init__(
        self, background: Background, picker: PeakPicker, layout: SparseSpec, tables: PixelTables, spec: FrameSpec
    ) -> None:
        """For the channel of frames of `spec` whose background it is."""
        self._background, self._picker, self._layout, self._spec = background, picker, layout, spec
        self.tables = tables
        """What is known of each pixel beforehand."""

    @property
    def sparse(self) -> SparseSpec:
        return self._layout

    @property
    def channel(self) -> int:
        """Of the frames, the one that is made sparse."""
        return self._background.channel

    def output_spec(self, spec: FrameSpec) -> FrameSpec:
        self._background.output_spec(spec)
        return self._layout.packed

    def output_valid(self, valid: Mask | None) -> Mask | None:
        """Masked pixels have no weight, and are never picked."""
        return None

    def ready(self) -> None:
        """Compile what the first frame needs."""
        none = np.empty((0, *self._spec.shape), self._spec.dtype)
        self._pack(none, np.empty((0, self._layout.packed.width), np.uint8))

    def process(self, block: Block, pool: Pool) -> Block:
        spec = self.output_spec(block.spec)

        def fill(out: NDArray[Any]) -> None:
            self._pack(block.data, out[:, 0, 0], block.valid)

        return derive(block, spec, pool, fill)

    def _pack(self, data: NDArray[Any], packed: NDArray[np.uint8], valid: NDArray[np.bool_] | None = None) -> None:
        frames = channel_of(data, self.channel)
        background = self._background.of(frames)
        if valid is not None:
            background[~valid] = 0
        self._picker.pack(frames, background, packed)


class PeakCounts(RowNode):
    """How many pixels of each packed frame were picked, also those for which it had no room."""

    dtype = PEAKS
    length = 1

    def rows(self, block: Block, recv_idx: int) -> NDArray[np.void]:
        rows = np.empty(len(block), PEAKS)
        rows["frame_idx"], rows["recv_idx"], rows["nb_peaks"] = block.index, recv_idx, nb_picked(block.data)
        return rows


class Overfull:
    """Counts the packed frames of which more pixels were picked than there is room for."""

    def __init__(self, layout: SparseSpec) -> None:
        self._capacity = layout.capacity

    def watch(self, block: Block) -> int:
        return int(np.count_nonzero(nb_picked(block.data) > self._capacity))

    def close(self) -> None:
        """It has nothing to end."""


class Densification(Node):
    """Dense frames out of packed sparse ones, by `densify`: float32 of (1, row, column)."""

    def __init__(self, layout: SparseSpec) -> None:
        self._layout = layout

    def output_spec(self, spec: FrameSpec) -> FrameSpec:
        if spec != self._layout.packed:
            raise GraphError(f"it makes packed sparse frames dense, which are {self._layout.packed}, not {spec}")
        return FrameSpec(1, self._layout.height, self._layout.width, np.dtype(np.float32))

    def output_valid(self, valid: Mask | None) -> Mask | None:
        """What was masked is told by the radius, which such a pixel does not have."""
        return np.isfinite(self._layout.radius2d)

    def process(self, block: Block, pool: Pool) -> Block:
        spec = self.output_spec(block.spec)

        def fill(out: NDArray[Any]) -> None:
            for number, packed in enumerate(block.data):
                lost = block.valid is not None and not block.valid[number]
                out[number, 0] = 0 if lost else densify(unpacked(packed), self._layout)

        return derive(block, spec, pool, fill)


def densify(frame: SparseFrame, layout: SparseSpec) -> NDArray[np.float32]:
    """The frame [row, column] without its noise: the background, and the pixels that stand out of it.

    As fabio's densify (sparseimage.py): the background is on the lines between the bins, times the weight of a pixel.
    """
    dense = np.interp(layout.radius2d, layout.radius, frame.average)
    if layout.normalization is not None:
        dense *= layout.normalization
    dense.reshape(-1)[frame.pixels] = frame.intensity
    dense[~np.isfinite(layout.radius2d)] = layout.dummy
    return dense.astype(np.float32)
