"""Blocks out of blocks."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from lima2_tango.core.frame import BLOCK_BYTES, Block, FrameSpec, Lease
from lima2_tango.core.pool import Pool


def pixels(lease: Lease, n: int, spec: FrameSpec) -> NDArray[Any]:
    """The first `n` frames [n, channel, row, column] in the memory of a lease."""
    if lease.buffer is None:
        raise TypeError("this lease has no memory: it is not of a pool")
    return lease.buffer[: n * spec.nbytes].view(spec.dtype).reshape(n, *spec.shape)


def lines(out: NDArray[Any]) -> NDArray[Any]:
    """Frames as [n, pixel], to be written; also where there is none."""
    return out.reshape(len(out), math.prod(out.shape[1:]))


def derive(block: Block, spec: FrameSpec, pool: Pool, fill: Callable[[NDArray[Any]], None]) -> Block:
    """A block with the numbers of `block` whose pixels [n, channel, row, column], of `spec`, `fill` writes.

    Its slab holds as many frames as the slab of `block`; where the camera owns that memory, as the next power of
    two and at most a full block: blocks of all lengths share a few sizes of slab.
    """
    n = len(block)
    source = block.lease.buffer
    if source is None:
        full = BLOCK_BYTES // max(1, block.spec.nbytes)
        capacity = max(n, min(full, 1 << (n - 1).bit_length()))
    else:
        capacity = max(n, source.nbytes // max(1, block.spec.nbytes))
    lease = pool.take(capacity * spec.nbytes)
    try:
        data = pixels(lease, n, spec)
        fill(data)
    except BaseException:
        lease.release()
        raise
    return Block(data, block.index, block.local, block.time, lease, block.valid, block.missing)


def part(block: Block, frames: slice) -> Block:
    """Some of its frames; a view without a claim of its own, whose `local` is that of `block`."""
    valid = None if block.valid is None else block.valid[frames]
    missing = None if block.missing is None else block.missing[frames]
    index, time = block.index[frames], block.time[frames]
    return replace(block, data=block.data[frames], index=index, time=time, valid=valid, missing=missing)
