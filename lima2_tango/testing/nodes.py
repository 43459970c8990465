"""What every processing node owes: inherit `NodeContract` and give it a `node` and the `spec` of what enters."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lima2_tango.core.frame import Block, FrameSpec, Lease
from lima2_tango.core.pool import Pool
from lima2_tango.processing.node import Node

LENGTH = 5
"""Frames of a full block."""


def make_data(spec: FrameSpec, n: int, seed: int = 0) -> NDArray[Any]:
    """Random frames [n, channel, row, column]: small counts, so that no type overflows by chance."""
    return np.random.default_rng(seed).poisson(20, (n, *spec.shape)).astype(spec.dtype)


def make_block(data: NDArray[Any], first: int = 0, valid: NDArray[np.bool_] | None = None) -> Block:
    """Frames in memory of their own; the second of two receivers has those with odd numbers."""
    local = np.arange(first, first + len(data))
    time = np.asarray(1e9 + local * 1e-3, np.float64)
    return Block(data, 2 * local + 1, first, time, Lease(), valid)


def pool_block(data: NDArray[Any], pool: Pool, length: int = LENGTH) -> Block:
    """Frames in a slab of `pool` that has room for `length` of them."""
    block = make_block(data)
    block.lease = pool.take(length * block.spec.nbytes)
    if block.lease.buffer is None:
        raise TypeError("a pool lends memory")
    memory = block.lease.buffer[: data.nbytes].view(data.dtype).reshape(data.shape)
    memory[:] = data
    block.data = memory
    return block


def with_gaps(data: NDArray[Any], gap: int = 3) -> NDArray[Any]:
    """The same frames, `gap` pixels apart in memory."""
    room = np.full((len(data), data[0].size + gap), 77, data.dtype)
    room[:, : data[0].size] = data.reshape(len(data), -1)
    steps = (room.strides[0], *data.strides[1:])
    return np.lib.stride_tricks.as_strided(room, data.shape, steps)


class NodeContract:
    """A node is a pure function of its block, keeps its promise, and gives back its memory."""

    @pytest.fixture
    def pool(self) -> Pool:
        return Pool(8 << 20)

    @pytest.mark.parametrize("n", [1, LENGTH])
    def test_delivers_the_frames_it_promised(self, node: Node, spec: FrameSpec, pool: Pool, n: int) -> None:
        result = node.process(make_block(make_data(spec, n)), pool)
        promised = node.output_spec(spec)
        assert result.data.shape == (n, *promised.shape)
        assert result.data.dtype == promised.dtype
        assert result.data.flags.c_contiguous

    def test_keeps_numbers_times_and_placeholders(self, node: Node, spec: FrameSpec, pool: Pool) -> None:
        valid = np.arange(LENGTH) != 2
        block = make_block(make_data(spec, LENGTH), 40, valid)
        result = node.process(block, pool)
        assert result.index.tolist() == [81, 83, 85, 87, 89]
        assert result.local == 40
        assert result.time.tolist() == block.time.tolist()
        assert result.valid is not None
        assert result.valid.tolist() == valid.tolist()

    def test_leaves_what_it_was_given_alone(self, node: Node, spec: FrameSpec, pool: Pool) -> None:
        data = make_data(spec, LENGTH)
        before = data.copy()
        data.flags.writeable = False
        result = node.process(make_block(data), pool)
        assert np.array_equal(data, before)
        assert not np.shares_memory(result.data, data)

    def test_frames_that_lie_apart_give_the_same(self, node: Node, spec: FrameSpec, pool: Pool) -> None:
        data = make_data(spec, LENGTH)
        compact = node.process(make_block(data), pool)
        apart = node.process(make_block(with_gaps(data)), pool)
        assert np.array_equal(compact.data, apart.data)

    def test_a_frame_does_not_depend_on_its_neighbours(self, node: Node, spec: FrameSpec, pool: Pool) -> None:
        data = make_data(spec, LENGTH)
        together = node.process(make_block(data), pool)
        for i in range(LENGTH):
            alone = node.process(make_block(data[i : i + 1]), pool)
            assert np.array_equal(alone.data[0], together.data[i])

    def test_two_threads_get_the_same(self, node: Node, spec: FrameSpec, pool: Pool) -> None:
        blocks = [make_block(make_data(spec, LENGTH, seed)) for seed in range(8)]
        alone = [node.process(block, pool).data.copy() for block in blocks]
        with ThreadPoolExecutor(2) as threads:
            together = list(threads.map(lambda block: node.process(block, pool), blocks))
        assert all(np.array_equal(a, b.data) for a, b in zip(alone, together, strict=True))

    def test_gives_back_its_memory(self, node: Node, spec: FrameSpec, pool: Pool) -> None:
        node.process(make_block(make_data(spec, LENGTH)), pool).lease.release()
        allocated = pool.allocated
        for _ in range(10):
            node.process(make_block(make_data(spec, LENGTH)), pool).lease.release()
        assert pool.allocated == allocated

    def test_a_short_block_takes_a_slab_of_the_usual_size(self, node: Node, spec: FrameSpec, pool: Pool) -> None:
        full = pool_block(make_data(spec, LENGTH), pool)
        node.process(full, pool).lease.release()
        full.lease.release()
        allocated = pool.allocated
        short = pool_block(make_data(spec, 2), pool)
        node.process(short, pool).lease.release()
        assert pool.allocated == allocated
