"""A node maps a block of frames to a block, or to rows, and says so about shapes before any frame exists."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lima2_tango.core.frame import Block, FrameSpec
from lima2_tango.core.pool import Pool
from lima2_tango.core.sparse import SparseSpec

Mask = NDArray[np.bool_]
"""Valid pixels, (row, column) for all channels or (channel, row, column)."""


class Node(ABC):
    """A pure function of its block; safe to call from several threads at once.

    Frame i of what it makes is made of frame i alone, and a placeholder (zeros, not valid) becomes zeros.
    """

    def output_spec(self, spec: FrameSpec) -> FrameSpec:
        """Spec of what leaves, given what enters; raises GraphError or ParamError if it does not fit."""
        return spec

    @property
    def sparse(self) -> SparseSpec | None:
        """What its frames hold where they are packed sparse ones."""
        return None

    def output_valid(self, valid: Mask | None) -> Mask | None:
        """Which pixels that leave carry a value, given which of those that enter do; None for all.

        What leaves as valid must not depend on pixels that are not. Here: pixels stay where they are.
        """
        return valid

    @abstractmethod
    def process(self, block: Block, pool: Pool) -> Block:
        """A new block out of `block`, in memory of `pool`, with a lease of its own; `block` stays the caller's."""


class JoinNode(ABC):
    """A pure function of the blocks of several streams, of which frame i is of the same frame; else as a `Node` is."""

    @abstractmethod
    def output_spec(self, *specs: FrameSpec) -> FrameSpec:
        """Spec of what leaves, given what enters; raises GraphError or ParamError if it does not fit."""

    @abstractmethod
    def output_valid(self, *valids: Mask | None) -> Mask | None:
        """Which pixels that leave carry a value, given those of each stream that do; None for all."""

    @abstractmethod
    def process(self, blocks: Sequence[Block], pool: Pool) -> Block:
        """A new block out of one of each stream, in memory of `pool`, with a lease of its own."""


class RowNode(ABC):
    """Rows out of the frames of a block, as many for each frame; pure and safe as a `Node` is."""

    dtype: np.dtype[Any]
    """Packed fields of a row, `frame_idx` and `recv_idx` first; rows of placeholders have zeros in the others."""
    length: int
    """Rows of a frame."""

    @abstractmethod
    def rows(self, block: Block, recv_idx: int) -> NDArray[np.void]:
        """(n * length,) rows of `dtype`, frame by frame, as this receiver's."""
