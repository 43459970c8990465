"""ROI statistics and profiles compute what numpy says about the pixels of each region."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import arcs, frames, masks, modest, rectangles

from lima2_tango.core.errors import ParamError
from lima2_tango.core.frame import FrameSpec
from lima2_tango.core.roi import Arc, Direction, PixelPosition, PixelSize, Position, Rectangle
from lima2_tango.processing.nodes.profiles import RoiProfiles
from lima2_tango.processing.nodes.statistics import RoiStatistics
from lima2_tango.processing.rows import ROI
from lima2_tango.testing import references as reference
from lima2_tango.testing.nodes import make_block, make_data, with_gaps

SPEC = FrameSpec(1, 6, 8, np.dtype("u2"))
VALUES = ["min", "max", "avg", "std", "sum"]


def spec_of(data):
    return FrameSpec(*data.shape[1:], data.dtype)


def rectangle(x, y, width, height):
    return Rectangle(topleft=PixelPosition(x=x, y=y), dimensions=PixelSize(x=width, y=height))


def assert_rows(rows, expected, data):
    """Rows equal (min, max, avg, std, sum) up to the rounding of single precision and of sums of large floats."""
    assert rows.dtype == ROI
    assert len(rows) == len(expected)
    scale = float(np.abs(data.astype("f8")).max())
    for name, column in zip(VALUES, np.array(expected).reshape(-1, 5).T, strict=True):
        exact = data.dtype.kind != "f" and name == "sum"
        slack = 0 if exact else scale * (1e-12 * data[0].size if name == "sum" else 2e-7)
        np.testing.assert_allclose(rows[name], column, rtol=0 if exact else 1e-6, atol=slack, err_msg=name)


def valid_pixels(data, mask):
    return np.broadcast_to(True if mask is None else mask, data.shape[1:])


@given(data=st.data(), pixels=frames())
@modest
def test_statistics_are_those_of_the_pixels_inside(data, pixels):
    mask = data.draw(masks(pixels))
    rects = data.draw(st.lists(rectangles(pixels), max_size=3))
    rings = data.draw(st.lists(arcs(pixels), max_size=3))
    regions = [reference.in_rectangle(rect, *pixels.shape[2:]) for rect in rects]
    regions += [reference.in_arc(ring, *pixels.shape[2:]) for ring in rings]
    assume(all(region.any() for region in regions))
    valid = valid_pixels(pixels, mask)
    node = RoiStatistics(rects, rings, spec_of(pixels), mask)
    rows = node.rows(make_block(pixels, 3), 1)
    assert node.length == len(regions)
    assert rows["frame_idx"].tolist() == [7 + 2 * k for k in range(len(pixels)) for _ in regions]
    assert set(rows["recv_idx"]) <= {1}
    assert_rows(rows, [reference.described(f[region & valid]) for f in pixels for region in regions], pixels)


@given(data=st.data(), pixels=frames())
@modest
def test_profiles_are_the_statistics_of_each_line(data, pixels):
    mask = data.draw(masks(pixels))
    rects = data.draw(st.lists(rectangles(pixels), max_size=3))
    directions = [data.draw(st.sampled_from(Direction)) for _ in rects]
    valid = valid_pixels(pixels, mask)
    expected = []
    for frame in pixels:
        for rect, direction in zip(rects, directions, strict=True):
            x, y = rect.topleft.x, rect.topleft.y
            place = np.s_[:, y : y + rect.dimensions.y, x : x + rect.dimensions.x]
            axis = 1 if direction is Direction.VERTICAL else 2
            lines = zip(np.moveaxis(frame[place], axis, 0), np.moveaxis(valid[place], axis, 0), strict=True)
            expected += [reference.described(line[good]) for line, good in lines]
    node = RoiProfiles(rects, directions, spec_of(pixels), mask)
    assert node.length * len(pixels) == len(expected)
    assert_rows(node.rows(make_block(pixels), 0), expected, pixels)


@pytest.mark.parametrize("make", [
    lambda spec: RoiStatistics([], [], spec),
    lambda spec: RoiProfiles([], [], spec),
])  # fmt: skip
def test_without_regions_there_are_no_rows(make):
    node = make(SPEC)
    assert node.length == 0
    assert node.rows(make_block(make_data(SPEC, 3)), 0).shape == (0,)


WHOLE = rectangle(0, 0, 8, 6)
NODES = {
    "statistics": lambda mask=None: RoiStatistics([WHOLE], [Arc(center=Position(x=3, y=3), r2=2.0)], SPEC, mask),
    "vertical": lambda mask=None: RoiProfiles([WHOLE], [Direction.VERTICAL], SPEC, mask),
    "horizontal": lambda mask=None: RoiProfiles([WHOLE], [Direction.HORIZONTAL], SPEC, mask),
}


@pytest.mark.parametrize("make", NODES.values(), ids=NODES)
class TestEveryReduction:
    def test_equal_images_have_bit_equal_rows_wherever_they_lie(self, make):
        data = np.repeat(make_data(SPEC, 1), 5, axis=0)
        rows = make().rows(make_block(data), 0)
        apart = make().rows(make_block(with_gaps(data)), 0)
        alone = make().rows(make_block(data[:1]), 0)
        assert rows.tobytes() == apart.tobytes()
        assert np.array_equal(rows[VALUES].reshape(5, -1), np.tile(alone[VALUES], (5, 1)))

    def test_a_region_without_a_valid_pixel_is_all_zeros(self, make):
        rows = make(np.zeros((6, 8), bool)).rows(make_block(make_data(SPEC, 2)), 0)
        assert all(not rows[name].any() for name in VALUES)

    def test_a_lost_frame_is_all_zeros_and_keeps_its_number(self, make):
        block = make_block(make_data(SPEC, 2), 0, np.array([True, False]))
        first, second = make().rows(block, 4).reshape(2, -1)
        assert first["sum"].all()
        assert all(not second[name].any() for name in VALUES)
        assert set(second["frame_idx"]) == {3}
        assert set(second["recv_idx"]) == {4}

    def test_pixels_are_read_only(self, make):
        data = make_data(SPEC, 2)
        data.flags.writeable = False
        assert len(make().rows(make_block(data), 0))


def test_the_deviation_of_a_small_ripple_on_a_large_level_is_kept():
    data = np.full((1, 1, 6, 8), 2**31 - 2, "i4")
    data[..., ::2] += 1
    rows = RoiStatistics([WHOLE], [], spec_of(data)).rows(make_block(data), 0)
    assert rows["std"] == 0.5
    assert rows["sum"] == data.astype("i8").sum()


def test_the_deviation_of_a_constant_is_zero():
    data = np.full((1, 2, 6, 8), 65535, "u2")
    assert RoiStatistics([WHOLE], [], spec_of(data)).rows(make_block(data), 0)["std"] == 0


def test_a_nan_shows_in_every_value():
    data = np.ones((1, 1, 6, 8), "f4")
    data[0, 0, 1, 2] = np.nan
    block = make_block(data)
    spec = spec_of(data)
    rows = RoiStatistics([WHOLE, rectangle(4, 4, 2, 2)], [], spec).rows(block, 0)
    column = RoiProfiles([WHOLE], [Direction.HORIZONTAL], spec).rows(block, 0)
    for name in VALUES:
        assert np.isnan(rows[name]).tolist() == [True, False]
        assert np.flatnonzero(np.isnan(column[name])).tolist() == [2]


def test_sectors_share_the_pixels_of_a_ring_among_them():
    data = np.ones((1, 1, 41, 41), "u2")
    centre = Position(x=20, y=20)
    sectors = [Arc(center=centre, r2=15.0, a1=a, a2=a + 45.0) for a in range(-90, 270, 45)]
    ring = Arc(center=centre, r2=15.0, a1=10.0, a2=400.0)
    rows = RoiStatistics([], [*sectors, ring], spec_of(data)).rows(make_block(data), 0)
    assert rows["sum"][:-1].sum() == rows["sum"][-1]


@pytest.mark.parametrize("rect", [rectangle(1, 0, 8, 6), rectangle(0, 1, 8, 6), rectangle(8, 0, 1, 1)])
def test_a_rectangle_that_leaves_the_image_is_refused(rect):
    with pytest.raises(ParamError, match=r"\$\.statistics\.rect_rois\[1\].*8 x 6"):
        RoiStatistics([WHOLE, rect], [], SPEC)
    with pytest.raises(ParamError, match=r"\$\.profiles\.rois\[0\].*8 x 6"):
        RoiProfiles([rect], [Direction.VERTICAL], SPEC)


@pytest.mark.parametrize("arc", [
    Arc(center=Position(x=50, y=50), r2=5.0),
    Arc(center=Position(x=-6, y=3), r2=6.0),
    Arc(center=Position(x=2.5, y=2.5), r2=0.5),
    Arc(r1=3.0, r2=3.0),
    Arc(a1=90.0, a2=90.0),
    Arc(center=Position(x=1e12, y=0), r2=5.0),
])  # fmt: skip
def test_an_arc_without_pixels_is_refused(arc):
    with pytest.raises(ParamError, match=r"\$\.statistics\.arc_rois\[0\]"):
        RoiStatistics([], [arc], SPEC)


def test_each_profile_needs_its_direction():
    with pytest.raises(ParamError, match=r"\$\.profiles\.directions.*1 regions and 0 directions"):
        RoiProfiles([WHOLE], [], SPEC)
