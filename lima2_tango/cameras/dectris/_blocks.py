"""Images of the stream as blocks: checked against what was promised, packed until somebody wants pixels."""

import time as clock
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Lock
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from lima2_tango.core.errors import DetectorError, MemoryBudgetError, WireError
from lima2_tango.core.frame import FrameSpec, Lease
from lima2_tango.core.packed import PackedBlock
from lima2_tango.core.pool import Pool
from lima2_tango.core.storage import Compression

from . import _chunks
from ._messages import Chunk, Codec, Image

_COMPRESSIONS = {
    Codec.NONE: Compression.NONE,
    Codec.BSLZ4: Compression.BSHUF_LZ4,
    Codec.BSLZ4_BARE: Compression.BSHUF_LZ4,
}

PARTS = 16
"""A chunk is unpacked by so many at once, at most."""

PATIENCE, RETRY = 30.0, 0.01
"""Memory for what arrives is waited for so long, and looked for so often [s]."""

T = TypeVar("T")
Chunks = tuple[Chunk, ...]
"""Of one frame, by channel."""


def in_order(image: Image, names: Sequence[str], spec: FrameSpec) -> Chunks:
    """The chunks of an image in the order of the channels; raises DetectorError for what was not promised."""
    by_name = {chunk.channel: chunk for chunk in image.chunks}
    if set(by_name) != set(names):
        raise DetectorError(
            f"image {image.number} of series {image.series} has the channels {', '.join(by_name)}; "
            f"{', '.join(names)} were set: somebody else has changed the detector, prepare again",
            frame_idx=image.number,
        )
    for chunk in image.chunks:
        if chunk.shape != (spec.height, spec.width) or chunk.dtype != spec.dtype:
            raise DetectorError(
                f"image {image.number} of series {image.series} has {chunk.shape[1]} x {chunk.shape[0]} pixels of "
                f"{chunk.dtype}; {spec.width} x {spec.height} of {spec.dtype} were promised: somebody else has changed "
                "the detector, prepare again",
                frame_idx=image.number,
            )
    return tuple(by_name[name] for name in names)


class Packed:
    """The chunks of consecutive frames, and their pixels once those were made."""

    def __init__(
        self, frames: Sequence[Chunks], first: int, spec: FrameSpec, pool: Pool, threads: ThreadPoolExecutor | None
    ) -> None:
        """`first` is the number of the first, for sentences; `threads` help to unpack, where they are given."""
        self.spec = spec
        self._frames: Sequence[Chunks] = frames
        self._first, self._count, self._pool, self._threads = first, len(frames), pool, threads
        self._lock = Lock()
        self._pixels: NDArray[np.generic] | None = None
        self._slab: Lease | None = None

    @property
    def compression(self) -> Compression | None:
        codecs = {chunk.codec for frame in self._frames for chunk in frame}
        found = {_COMPRESSIONS.get(codec) for codec in codecs}
        return found.pop() if len(found) == 1 else None

    def pixels(self) -> NDArray[np.generic]:
        """[frame, channel, row, column]; raises WireError naming the frame, MemoryBudgetError."""
        with self._lock:
            if self._pixels is None:
                self._pixels = self._unpacked()
            return self._pixels

    def chunks(self) -> Sequence[Sequence[bytes | memoryview]]:
        return [
            [self._of_frame(number, partial(_chunks.as_hdf5, chunk)) for chunk in frame]
            for number, frame in enumerate(self._frames)
        ]

    def free(self) -> None:
        """Nobody holds the block any more."""
        with self._lock:
            slab, self._slab = self._slab, None
            self._pixels, self._frames = None, ()
        if slab is not None:
            slab.release()

    def _unpacked(self) -> NDArray[np.generic]:
        spec = self.spec
        lease = self._pool.take(self._count * spec.nbytes)
        try:
            buffer = lease.buffer
            assert buffer is not None  # a slab's lease has one
            out = buffer.view(spec.dtype).reshape(self._count, *spec.shape)
            self._fill(out)
        except BaseException:
            lease.release()
            raise
        self._slab = lease
        return out

    def _fill(self, out: NDArray[np.generic]) -> None:
        for number, frame in enumerate(self._frames):
            for channel, chunk in enumerate(frame):
                self._of_frame(number, partial(self._unpack, chunk, out[number, channel]))

    def _unpack(self, chunk: Chunk, out: NDArray[np.generic]) -> None:
        if self._threads is None:
            _chunks.unpack(chunk, out)
            return
        # The pool has no thread for the one who asks: it waits for its last part.
        for future in [self._threads.submit(task) for task in _chunks.tasks(chunk, out, PARTS)]:
            future.result()

    def _of_frame(self, number: int, act: Callable[[], T]) -> T:
        try:
            return act()
        except WireError as error:
            index = self._first + number
            raise WireError(f"frame {index} is damaged: {error.what}", frame_idx=index) from error


def block(
    frames: Sequence[Chunks],
    index: NDArray[np.int64],
    local: int,
    time: NDArray[np.float64],
    spec: FrameSpec,
    pool: Pool,
    threads: ThreadPoolExecutor | None = None,
) -> PackedBlock:
    """A block of images, which keeps their messages alive until its lease is given back.

    The messages count as frames of the pool: it waits where they do not fit, and raises MemoryBudgetError past a bound.
    """
    claim = _claimed(pool, sum(len(chunk.data) for frame in frames for chunk in frame))
    packed = Packed(frames, int(index[0]), spec, pool, threads)

    def free() -> None:
        packed.free()
        claim.release()

    return PackedBlock(packed, index, local, time, Lease(free))


def _claimed(pool: Pool, nbytes: int) -> Lease:
    deadline = clock.monotonic() + PATIENCE
    while True:
        try:
            return pool.charge(nbytes, "images as they came")
        except MemoryBudgetError:
            if clock.monotonic() > deadline:
                raise
            clock.sleep(RETRY)
