"""Blocks out of blocks: what is said of the frames goes with them."""

import numpy as np

from lima2_tango.core.frame import FrameSpec
from lima2_tango.core.pool import Pool
from lima2_tango.processing.nodes.derive import derive, part
from lima2_tango.testing.nodes import make_block, make_data

SPEC = FrameSpec(1, 4, 6, np.dtype("u2"))


def marked(length):
    block = make_block(make_data(SPEC, length), valid=np.arange(length) != 1)
    block.missing = np.arange(length).astype(np.uint64)
    return block


def test_a_derived_block_has_the_marks_of_its_frames():
    block = marked(4)
    made = derive(block, SPEC, Pool(1 << 20), lambda out: np.copyto(out, block.data))
    assert made.valid.tolist() == [True, False, True, True]
    assert made.missing.tolist() == [0, 1, 2, 3]


def test_a_part_of_a_block_has_its_frames_with_their_numbers_and_marks():
    block = marked(5)
    some = part(block, slice(1, 3))
    assert np.array_equal(some.data, block.data[1:3])
    assert some.index.tolist() == block.index[1:3].tolist()
    assert some.time.tolist() == block.time[1:3].tolist()
    assert some.valid.tolist() == [False, True]
    assert some.missing.tolist() == [1, 2]


def test_without_marks_there_are_none():
    some = part(make_block(make_data(SPEC, 3)), slice(1, None))
    assert (len(some), some.valid, some.missing) == (2, None, None)
