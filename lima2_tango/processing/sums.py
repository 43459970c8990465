"""Sums of a run so far: of its frames, corrected, and of the pixels picked from them."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lima2_tango.core.errors import NotAvailableError
from lima2_tango.core.frame import Block, FrameSpec
from lima2_tango.core.pool import Pool
from lima2_tango.core.sparse import WORD

from .history import History
from .kernels.layout import channel_of
from .kernels.sparse import add_peaks, add_signal
from .nodes.derive import pixels
from .products import PixelTables

Sought = tuple[bool, float, float]


@dataclass(frozen=True, slots=True)
class Pace:
    """How many frames of a receiver go into sums."""

    transfer: int
    """Frames between two transfers."""
    reset: int = 0
    """Frames after which the sums begin anew; 0 for never."""


class RunningSums:
    """Adds frames and their peaks, and hands out both sums as images at every transfer.

    A corrected frame is (x - dark) / weight, 0 where a pixel is masked, carries no value or is a dummy; a frame of
    peaks has the intensities of the picked pixels, and 0 elsewhere. Both are summed in double precision and handed out
    as float32. The sums go on after a transfer, until a reset, which is also a transfer. Placeholders of lost frames
    add nothing. Blocks come in order, from one thread at a time.
    """

    def __init__(self, spec: FrameSpec, tables: PixelTables, sought: Sought, pace: Pace, channel: int = 0) -> None:
        """Of this channel of frames of `spec`."""
        size = spec.height * spec.width
        self.spec = FrameSpec(1, spec.height, spec.width, np.dtype(np.float32))
        self._pace, self._sought, self._channel = pace, sought, channel
        self._dark = np.empty(0) if tables.dark is None else tables.dark
        self._scale = np.divide(1.0, tables.weight, out=np.zeros(size), where=tables.weight > 0)
        self._corrected, self._peaks = np.zeros(size), np.zeros(size)
        self._since_transfer = self._since_reset = self._transfers = 0
        self._last, self._time = -1, 0.0
        self._dtype = spec.dtype

    @property
    def nbytes(self) -> int:
        """Bytes that the sums take as long as they exist."""
        return self._corrected.nbytes + self._peaks.nbytes + self._scale.nbytes

    def ready(self, packed: FrameSpec) -> None:
        """Compile what the first frame needs."""
        frames = channel_of(np.empty((0, *self.spec.shape), self._dtype), 0)
        add_signal(frames, self._dark, self._sought, self._corrected)
        words = np.empty((0, packed.width // WORD), np.int32)
        add_peaks(words, words.view(np.float32), self._peaks)

    def add(self, frames: Block, packed: Block, pool: Pool) -> Iterator[tuple[Block, Block]]:
        """Take all frames of a block; yields (corrected, peaks) at each transfer, with their leases.

        Their `index` is that of the newest frame in them, their `local` counts transfers. To be exhausted.
        """
        first, count = 0, len(frames)
        while first < count:
            last = min(count, first + self._room())
            part = slice(first, last)
            add_signal(channel_of(frames.data[part], self._channel), self._dark, self._sought, self._corrected)
            words = np.ascontiguousarray(packed.data[part, 0, 0]).view(np.int32)
            add_peaks(words, words.view(np.float32), self._peaks)
            self._since_transfer += last - first
            self._since_reset += last - first
            self._last, self._time = int(frames.index[last - 1]), float(frames.time[last - 1])
            first = last
            if self._room() == 0:
                yield self._transferred(pool)

    def rest(self, pool: Pool) -> Iterator[tuple[Block, Block]]:
        """What was added since the last transfer, where there is something."""
        if self._since_transfer:
            yield self._transferred(pool)

    def _room(self) -> int:
        """Frames until the next transfer."""
        room = self._pace.transfer - self._since_transfer
        if self._pace.reset:
            room = min(room, self._pace.reset - self._since_reset)
        return room

    def _transferred(self, pool: Pool) -> tuple[Block, Block]:
        corrected = self._block(self._corrected, self._scale, pool)
        try:
            peaks = self._block(self._peaks, None, pool)
        except BaseException:
            corrected.lease.release()
            raise
        self._since_transfer, self._transfers = 0, self._transfers + 1
        if self._pace.reset and self._since_reset >= self._pace.reset:
            self._corrected[:], self._peaks[:], self._since_reset = 0.0, 0.0, 0
        return corrected, peaks

    def _block(self, total: NDArray[np.float64], scale: NDArray[np.float64] | None, pool: Pool) -> Block:
        lease = pool.take(self.spec.nbytes)
        data = pixels(lease, 1, self.spec)
        np.multiply(total, 1.0 if scale is None else scale, out=data.reshape(-1), casting="same_kind")
        return Block(data, np.array([self._last], np.int64), self._transfers, np.array([self._time]), lease)


class SumHistory(History):
    """Sums by the number of any frame that was new in them: frame i is asked for, the sum that came after it is given.

    The number that is given with it is that of the newest frame in the sum.
    """

    def _find(self, index: int) -> tuple[Block, int]:
        if index == -1 or not self._blocks:
            return super()._find(index)
        for block in self._blocks:
            if int(block.index[0]) >= index:
                return block, 0
        raise NotAvailableError(
            f"no {self.label} sum has frame {index} yet: the newest one held ends with frame {self.last}",
            frame_idx=index,
            newest=self.last,
        )
