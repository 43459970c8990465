"""The count-rate protection finds the first pixel above its limit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import frames, masks, modest, rectangles

from lima2_tango.core.errors import ParamError
from lima2_tango.core.frame import FrameSpec
from lima2_tango.core.roi import PixelSize, Rectangle
from lima2_tango.processing.nodes.protection import CountRateProtection
from lima2_tango.testing import references as reference
from lima2_tango.testing.nodes import make_block, with_gaps

SECOND = 1_000_000


def spec_of(data):
    return FrameSpec(*data.shape[1:], data.dtype)


def check(data, limit, expo_time_us=SECOND, overrides=(), ignore=False, mask=None, valid=None):
    guard = CountRateProtection(limit, expo_time_us, overrides, ignore, spec_of(data), mask)
    return guard.check(make_block(data, 0, valid))


@given(data=st.data(), pixels=frames())
@modest
def test_it_finds_the_first_pixel_above_its_limit(data, pixels):
    ordered = np.sort(pixels, axis=None)
    limit = float(ordered[data.draw(st.integers(max(0, ordered.size - 5), ordered.size - 1))])
    overrides = data.draw(st.lists(st.tuples(rectangles(pixels), st.just(float(ordered[0]))), max_size=1))
    ignore, mask = data.draw(st.booleans()), data.draw(masks(pixels))
    limits = np.full(pixels.shape[1:], limit)
    for rect, other in overrides:
        limits[:, reference.in_rectangle(rect, *pixels.shape[2:])] = other
    ignored = np.iinfo(pixels.dtype).max if ignore and pixels.dtype.kind != "f" else None
    valid = np.broadcast_to(True if mask is None else mask, pixels.shape[1:])
    expected = reference.first_offender(pixels, limits, 1.0, ignored, valid)
    found = check(pixels, limit, SECOND, overrides, ignore, mask)
    if expected is None:
        assert found is None
    else:
        assert found == (2 * expected[0] + 1, *expected[1:], float(pixels[expected]))
    assert check(with_gaps(pixels), limit, SECOND, overrides, ignore, mask) == found


@pytest.mark.parametrize(("value", "found"), [(100, False), (101, True)])
def test_a_rate_at_the_limit_passes(value, found):
    data = np.full((1, 1, 2, 2), value, "u2")
    result = check(data, 100_000.0, 1000)
    assert (result == (1, 0, 0, 0, 101_000.0)) if found else result is None


def test_the_mark_of_bad_pixels_can_be_ignored():
    data = np.full((1, 1, 2, 2), 65535, "u2")
    assert check(data, 10.0) is not None
    assert check(data, 10.0, ignore=True) is None


def test_lost_frames_are_passed_over():
    data = np.full((3, 1, 2, 2), 9, "u2")
    assert check(data, 1.0, valid=np.array([False, False, True])) == (5, 0, 0, 0, 9.0)
    assert check(data, 1.0, valid=np.zeros(3, bool)) is None


def test_an_override_outside_the_image_is_refused():
    rect = Rectangle(dimensions=PixelSize(x=3, y=2))
    with pytest.raises(ParamError, match=r"pixel_capacity_override\[0\]"):
        check(np.zeros((1, 1, 2, 2), "u2"), 1.0, overrides=[(rect, 2.0)])
