"""What every processing node owes: inherit the suite of its kind, and give it the fixtures that it names.

Each suite holds the node against `reference`: a plain and slow function of frames [n, channel, row, column].
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lima2_tango.core.frame import Block, FrameSpec, Lease, PixelType
from lima2_tango.core.pool import Pool
from lima2_tango.processing.flow import Summing
from lima2_tango.processing.node import JoinNode, Mask, Node, RowNode

LENGTH = 5
"""Frames of a full block."""
Reference = Callable[[NDArray[Any]], NDArray[Any]]
PLACEHOLDER = 2
"""Place of a lost frame in a block of full length."""


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


def lost_block(spec: FrameSpec, data: NDArray[Any] | None = None) -> Block:
    """A full block with a placeholder: zeros, not valid."""
    data, valid = make_data(spec, LENGTH) if data is None else data, np.arange(LENGTH) != PLACEHOLDER
    data[~valid] = 0
    return make_block(data, 40, valid)


def some_pixels(spec: FrameSpec) -> Mask:
    """Most pixels of every channel."""
    return np.random.default_rng(5).random(spec.shape) < 0.8


def near(rtol: float, found: NDArray[Any], expected: NDArray[Any]) -> None:
    """Assert that values and types agree: exactly where `rtol` is 0, and NaN with NaN."""
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=0 if rtol == 0 else rtol)


class Paired(Node):
    """A node of two streams as a `Node` of one, for `NodeContract`: the other has the same frames, rows reversed."""

    def __init__(self, joined: JoinNode) -> None:
        self._joined = joined

    @staticmethod
    def partner(data: NDArray[Any]) -> NDArray[Any]:
        """Frames of the other stream."""
        return data[:, :, ::-1]

    def output_spec(self, spec: FrameSpec) -> FrameSpec:
        return self._joined.output_spec(spec, spec)

    def output_valid(self, valid: Mask | None) -> Mask | None:
        return self._joined.output_valid(valid, None if valid is None else valid[..., ::-1, :])

    def process(self, block: Block, pool: Pool) -> Block:
        return self._joined.process([block, replace(block, data=self.partner(block.data))], pool)


class NodeContract:
    """A node is a pure function of its block, keeps its promise, and gives back its memory.

    Fixtures: `node`; `spec` of what enters; `reference`, equal to it up to `RTOL`.
    """

    RTOL = 0.0
    """Relative difference from the reference; 0 for a node that has to be exact."""
    MASKS = True
    """Whether the node says which pixels that leave are valid; False where it knows from the start which not to use."""

    def frames(self, spec: FrameSpec, n: int, seed: int = 0) -> NDArray[Any]:
        """Frames that enter, where not any will do."""
        return make_data(spec, n, seed)

    def lost(self, spec: FrameSpec) -> Block:
        """A full block with a placeholder."""
        return lost_block(spec, self.frames(spec, LENGTH))

    @pytest.fixture
    def pool(self) -> Pool:
        return Pool(8 << 20)

    @pytest.mark.parametrize("n", [0, 1, LENGTH])
    def test_delivers_the_frames_it_promised(self, node: Node, spec: FrameSpec, pool: Pool, n: int) -> None:
        result = node.process(make_block(self.frames(spec, n)), pool)
        promised = node.output_spec(spec)
        assert result.data.shape == (n, *promised.shape)
        assert result.data.dtype == promised.dtype
        assert result.data.flags.c_contiguous

    @pytest.mark.parametrize("seed", range(3))
    def test_equals_its_reference(
        self, node: Node, spec: FrameSpec, pool: Pool, reference: Reference, seed: int
    ) -> None:
        data = self.frames(spec, LENGTH, seed)
        near(self.RTOL, np.asarray(node.process(make_block(data), pool).data), reference(data))

    def test_promises_a_type_that_clients_know(self, node: Node, spec: FrameSpec) -> None:
        assert PixelType.of(node.output_spec(spec).dtype)

    def test_promises_the_same_each_time_it_is_asked(self, node: Node, spec: FrameSpec) -> None:
        assert node.output_spec(spec) == node.output_spec(spec)

    def test_keeps_numbers_times_and_placeholders(self, node: Node, spec: FrameSpec, pool: Pool) -> None:
        block = self.lost(spec)
        result = node.process(block, pool)
        assert result.index.tolist() == [81, 83, 85, 87, 89]
        assert result.local == 40
        assert result.time.tolist() == block.time.tolist()
        assert result.valid is not None
        assert block.valid is not None
        assert result.valid.tolist() == block.valid.tolist()

    def test_a_placeholder_becomes_zeros(self, node: Node, spec: FrameSpec, pool: Pool) -> None:
        assert not node.process(self.lost(spec), pool).data[PLACEHOLDER].any()

    def test_leaves_what_it_was_given_alone(self, node: Node, spec: FrameSpec, pool: Pool) -> None:
        data = self.frames(spec, LENGTH)
        before = data.copy()
        data.flags.writeable = False
        result = node.process(make_block(data), pool)
        assert np.array_equal(data, before)
        assert not np.shares_memory(result.data, data)

    def test_frames_that_lie_apart_give_the_same(self, node: Node, spec: FrameSpec, pool: Pool) -> None:
        data = self.frames(spec, LENGTH)
        compact = node.process(make_block(data), pool)
        apart = node.process(make_block(with_gaps(data)), pool)
        assert np.array_equal(compact.data, apart.data)

    def test_a_frame_does_not_depend_on_its_neighbours(self, node: Node, spec: FrameSpec, pool: Pool) -> None:
        data = self.frames(spec, LENGTH)
        together = node.process(make_block(data), pool)
        for i in range(LENGTH):
            alone = node.process(make_block(data[i : i + 1]), pool)
            assert np.array_equal(alone.data[0], together.data[i])

    def test_valid_pixels_do_not_depend_on_others(self, node: Node, spec: FrameSpec, pool: Pool) -> None:
        if not self.MASKS:
            assert node.output_valid(some_pixels(spec)) is None
            return
        data, mask = self.frames(spec, LENGTH), some_pixels(spec)
        valid = node.output_valid(mask)
        assert valid is not None
        shape = node.output_spec(spec).shape
        assert valid.shape[-2:] == shape[-2:]
        other = np.where(mask, data, self.frames(spec, LENGTH, seed=1))
        found = [np.asarray(node.process(make_block(each), pool).data) for each in (data, other)]
        kept = np.broadcast_to(valid, shape)
        assert np.array_equal(found[0][:, kept], found[1][:, kept])

    def test_two_threads_get_the_same(self, node: Node, spec: FrameSpec, pool: Pool) -> None:
        blocks = [make_block(self.frames(spec, LENGTH, seed)) for seed in range(8)]
        alone = [node.process(block, pool).data.copy() for block in blocks]
        with ThreadPoolExecutor(2) as threads:
            together = list(threads.map(lambda block: node.process(block, pool), blocks))
        assert all(np.array_equal(a, b.data) for a, b in zip(alone, together, strict=True))

    def test_gives_back_its_memory(self, node: Node, spec: FrameSpec, pool: Pool) -> None:
        node.process(make_block(self.frames(spec, LENGTH)), pool).lease.release()
        allocated = pool.allocated
        for _ in range(10):
            node.process(make_block(self.frames(spec, LENGTH)), pool).lease.release()
        assert pool.allocated == allocated

    def test_a_short_block_takes_a_slab_of_the_usual_size(self, node: Node, spec: FrameSpec, pool: Pool) -> None:
        full = pool_block(self.frames(spec, LENGTH), pool)
        node.process(full, pool).lease.release()
        full.lease.release()
        allocated = pool.allocated
        short = pool_block(self.frames(spec, 2), pool)
        node.process(short, pool).lease.release()
        assert pool.allocated == allocated


class RowNodeContract:
    """A node that makes rows is a pure function of its block, and numbers them as frames and receivers are.

    Fixtures: `make`, which makes the node for the valid pixels it is given; `spec` of what enters; `reference`, a
    function of frames and valid pixels (channel, row, column) that gives [n, row, value] in the order of the fields.
    """

    RTOL = 1e-6

    @pytest.fixture
    def node(self, make: Callable[[Mask | None], RowNode]) -> RowNode:
        return make(None)

    @pytest.mark.parametrize("n", [0, 1, LENGTH])
    def test_rows_are_numbered_frame_by_frame(self, node: RowNode, spec: FrameSpec, n: int) -> None:
        rows = node.rows(make_block(make_data(spec, n), 40), 3)
        assert rows.dtype == node.dtype
        assert rows.dtype.names is not None
        assert rows.dtype.names[:2] == ("frame_idx", "recv_idx")
        assert rows["frame_idx"].tolist() == np.repeat(81 + 2 * np.arange(n), node.length).tolist()
        assert rows["recv_idx"].tolist() == [3] * (n * node.length)

    @pytest.mark.parametrize("masked", [False, True])
    def test_equals_its_reference(
        self, make: Callable[[Mask | None], RowNode], spec: FrameSpec, reference: Callable[..., Any], masked: bool
    ) -> None:
        data, valid = make_data(spec, LENGTH), some_pixels(spec) if masked else None
        node = make(valid)
        rows = node.rows(make_block(data), 0).reshape(LENGTH, node.length)
        expected = reference(data, np.ones(spec.shape, np.bool_) if valid is None else valid)
        for i, name in enumerate((rows.dtype.names or ())[2:]):
            np.testing.assert_allclose(rows[name], expected[..., i], self.RTOL, self.RTOL)

    def test_rows_of_a_placeholder_are_zeros(self, node: RowNode, spec: FrameSpec) -> None:
        rows = node.rows(lost_block(spec), 0).reshape(LENGTH, node.length)
        assert [bool(any(rows[i][name].any() for name in (rows.dtype.names or ())[2:])) for i in range(LENGTH)] == [
            i != PLACEHOLDER for i in range(LENGTH)
        ]
        assert rows["frame_idx"][PLACEHOLDER].tolist() == [85] * node.length

    def test_leaves_what_it_was_given_alone(self, node: RowNode, spec: FrameSpec) -> None:
        data = make_data(spec, LENGTH)
        before = data.copy()
        data.flags.writeable = False
        node.rows(make_block(data), 0)
        assert np.array_equal(data, before)

    def test_frames_that_lie_apart_give_the_same(self, node: RowNode, spec: FrameSpec) -> None:
        data = make_data(spec, LENGTH)
        assert np.array_equal(node.rows(make_block(data), 0), node.rows(make_block(with_gaps(data)), 0))

    def test_a_frame_does_not_depend_on_its_neighbours(self, node: RowNode, spec: FrameSpec) -> None:
        data = make_data(spec, LENGTH)
        together = node.rows(make_block(data), 0).reshape(LENGTH, node.length)
        for i in range(LENGTH):
            assert np.array_equal(node.rows(make_block(data[i : i + 1], i), 0), together[i])

    def test_two_threads_get_the_same(self, node: RowNode, spec: FrameSpec) -> None:
        blocks = [make_block(make_data(spec, LENGTH, seed)) for seed in range(8)]
        alone = [node.rows(block, 0) for block in blocks]
        with ThreadPoolExecutor(2) as threads:
            together = list(threads.map(lambda block: node.rows(block, 0), blocks))
        assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


class SummingContract:
    """What makes one frame of several does not care how the series is cut into blocks.

    Fixtures: `make`, which makes a new one; `spec` of what enters; `reference` of the frames of one sum.
    """

    FRAMES = 23

    @pytest.fixture
    def pool(self) -> Pool:
        return Pool(8 << 20)

    def made(self, summing: Summing, data: NDArray[Any], pool: Pool, per_block: int) -> list[Block]:
        """What the series gives in blocks of this length; an empty block follows each."""
        blocks: list[Block] = []
        for first in range(0, len(data), per_block):
            for part in (data[first : first + per_block], data[:0]):
                blocks += summing.add(make_block(part, first), pool)
        return blocks

    @pytest.mark.parametrize("per_block", [1, 2, 7, FRAMES])
    def test_equals_its_reference_in_blocks_of_any_length(
        self, make: Callable[[], Summing], spec: FrameSpec, pool: Pool, reference: Reference, per_block: int
    ) -> None:
        summing, data = make(), make_data(spec, self.FRAMES)
        found = self.made(summing, data, pool, per_block)
        assert len(found) == self.FRAMES // summing.depth
        for i, block in enumerate(found):
            assert (block.index.tolist(), block.local) == ([i], i)
            assert block.spec == summing.output_spec
            expected = reference(data[i * summing.depth : (i + 1) * summing.depth])
            assert np.array_equal(block.data[0], expected)

    def test_a_sum_that_misses_a_frame_is_not_valid(
        self, make: Callable[[], Summing], spec: FrameSpec, pool: Pool
    ) -> None:
        summing = make()
        data, valid = make_data(spec, 2 * summing.depth), np.arange(2 * summing.depth) != summing.depth - 1
        first, second = summing.add(make_block(data, 0, valid), pool)
        assert first.valid is not None
        assert not first.valid.any()
        assert second.valid is None or second.valid.all()

    def test_gives_back_what_is_not_complete(self, make: Callable[[], Summing], spec: FrameSpec, pool: Pool) -> None:
        summing = make()
        for block in summing.add(make_block(make_data(spec, summing.depth + 1)), pool):
            block.lease.release()
        summing.close()
        summing.close()
        assert pool.lent == 0
