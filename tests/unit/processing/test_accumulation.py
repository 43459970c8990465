"""The accumulator sums consecutive frames, whatever blocks they come in."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import frames, modest

from lima2_tango.core.frame import FrameSpec
from lima2_tango.core.pool import Pool
from lima2_tango.processing.nodes.accumulation import Accumulator
from lima2_tango.testing import references as reference
from lima2_tango.testing.nodes import make_block, make_data, with_gaps

SPEC = FrameSpec(1, 3, 4, np.dtype("u2"))


def spec_of(data):
    return FrameSpec(*data.shape[1:], data.dtype)


@given(pixels=frames(), depth=st.integers(1, 7), cuts=st.lists(st.integers(1, 4), min_size=4, max_size=4))
@modest
def test_sums_do_not_depend_on_how_frames_are_cut_into_blocks(pixels, depth, cuts):
    series = np.concatenate([pixels] * 5)[: sum(cuts)]
    accumulator, pool, sums, first = Accumulator(depth, spec_of(pixels)), Pool(8 << 20), [], 0
    for count in cuts:
        part = series[first : first + count]
        sums += accumulator.add(make_block(part, first), pool)
        first += count
    complete = len(series) // depth
    assert accumulator.pending == len(series) % depth
    assert [block.index.tolist() for block in sums] == [[i] for i in range(complete)]
    assert [block.local for block in sums] == list(range(complete))
    assert [block.time[0] for block in sums] == [1e9 + i * depth * 1e-3 for i in range(complete)]
    for i, block in enumerate(sums):
        expected = reference.accumulated(series[i * depth : (i + 1) * depth])
        assert block.data.dtype == expected.dtype
        slack = 1e-6 * depth * float(np.abs(pixels).max()) if pixels.dtype.kind == "f" else 0
        np.testing.assert_allclose(block.data[0], expected, rtol=0, atol=slack)


@pytest.mark.parametrize(
    ("dtype", "summed"),
    [("u1", "u4"), ("u2", "u4"), ("u4", "u4"), ("i2", "i4"), ("i4", "i4"), ("f4", "f4"), ("f8", "f8")],
)
def test_the_type_of_a_sum(dtype, summed):
    assert Accumulator(2, FrameSpec(1, 2, 2, np.dtype(dtype))).output_spec.dtype == summed


@pytest.mark.parametrize(("dtype", "value", "limit"), [
    ("i4", 2**31 - 1, 2**31 - 1), ("i4", -(2**31), -(2**31)), ("u4", 2**32 - 1, 2**32 - 1),
])  # fmt: skip
def test_sums_stay_at_the_limits_of_their_type(dtype, value, limit):
    data = np.full((3, 1, 2, 2), value, dtype)
    (total,) = Accumulator(3, spec_of(data)).add(make_block(data), Pool(1 << 20))
    assert (total.data == limit).all()


def test_a_sum_is_valid_where_all_its_frames_are():
    block = make_block(make_data(SPEC, 4), 0, np.array([True, True, False, True]))
    whole, holed = Accumulator(2, SPEC).add(block, Pool(1 << 20))
    assert whole.valid is None
    assert holed.valid.tolist() == [False]


def test_a_sum_lacks_the_modules_that_any_of_its_frames_lacks():
    block = make_block(np.ones((6, 1, 2, 2), np.uint16))
    block.missing = np.array([0, 1, 4, 0, 0, 0], np.uint64)
    sums = list(Accumulator(3, block.spec).add(block, Pool(1 << 20)))
    assert sums[0].missing.tolist() == [5]
    assert sums[1].missing.tolist() == [0]


def test_frames_that_lie_apart_give_the_same():
    data = make_data(SPEC, 4)
    compact, apart = (
        list(Accumulator(4, SPEC).add(make_block(pixels), Pool(1 << 20))) for pixels in (data, with_gaps(data))
    )
    assert np.array_equal(compact[0].data, apart[0].data)


def test_memory_goes_back_when_sums_are_released_and_the_last_one_is_given_up():
    pool, accumulator = Pool(4 * SPEC.nbytes * 2), Accumulator(2, SPEC)
    for _ in range(5):
        for total in accumulator.add(make_block(make_data(SPEC, 3)), pool):
            total.lease.release()
    assert accumulator.pending == 1
    accumulator.close()
    accumulator.close()
    assert accumulator.pending == 0
    assert pool.waits == 0
    assert [pool.take(accumulator.output_spec.nbytes, timeout=0) for _ in range(4)]
