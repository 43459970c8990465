"""Threshold, histogram, centre of mass, rotation and defects on any frames, and what they refuse."""

import numpy as np
import pytest
from hypothesis import given, reject
from hypothesis import strategies as st
from strategies import frames, masks, modest, rectangles

from lima2_tango.core.errors import GraphError, ParamError
from lima2_tango.core.frame import FrameSpec
from lima2_tango.core.pool import Pool
from lima2_tango.core.roi import PixelPosition, PixelSize, Rectangle
from lima2_tango.processing.nodes.centre import CentreOfMass
from lima2_tango.processing.nodes.defects import Defects
from lima2_tango.processing.nodes.histogram import Histogram
from lima2_tango.processing.nodes.rotation import Rotation
from lima2_tango.processing.nodes.threshold import Threshold
from lima2_tango.testing import references
from lima2_tango.testing.nodes import make_block

SPEC = FrameSpec(1, 6, 8, np.dtype("u2"))
LIMITS = st.one_of(st.floats(-1e6, 1e6), st.integers(-(2**33), 2**33), st.sampled_from([-np.inf, np.inf, 0.1, -0.5]))


def spec_of(data):
    return FrameSpec(*data.shape[1:], data.dtype)


def run(node, data):
    return np.asarray(node.process(make_block(data), Pool(8 << 20)).data)


@given(pixels=frames(), limits=st.tuples(LIMITS, LIMITS).map(sorted))
@modest
def test_threshold_keeps_what_lies_between_its_limits(pixels, limits):
    node = Threshold(*map(float, limits))
    assert node.output_spec(spec_of(pixels)) == spec_of(pixels)
    result = run(node, pixels)
    assert result.dtype == pixels.dtype
    assert np.array_equal(result, references.kept(pixels, *limits))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_in_the_range_is_zero(value):
    pixels = np.array([[[[1.0, value, 3.0]]]], "f4")
    assert run(Threshold(high=1e30), pixels).tolist() == [[[[1.0, 0.0, 3.0]]]]


def test_the_limits_of_a_type_are_kept():
    pixels = np.array([[[[0, 65535]]]], "u2")
    assert np.array_equal(run(Threshold(), pixels), pixels)
    assert not run(Threshold(low=65536), pixels).any()
    assert not run(Threshold(high=-1), pixels).any()


@pytest.mark.parametrize("limits", [(2.0, 1.0), (np.nan, 1.0)])
def test_limits_that_hold_nothing_are_refused(limits):
    with pytest.raises(GraphError, match="no value lies between"):
        Threshold(*limits).output_spec(SPEC)


@given(data=st.data(), pixels=frames(), bins=st.integers(1, 70))
@modest
def test_histogram_is_that_of_numpy(data, pixels, bins):
    low = data.draw(st.one_of(st.integers(-1000, 1000).map(float), st.floats(-1e4, 1e4)))
    high = low + data.draw(st.one_of(st.integers(1, 70_000).map(float), st.floats(1e-3, 1e5)))
    valid = data.draw(masks(pixels))
    counted = np.broadcast_to(True if valid is None else valid, pixels.shape[1:])
    result = run(Histogram(low, high, bins, spec_of(pixels), valid), pixels)
    assert np.array_equal(result, references.histograms(pixels, low, high, bins, counted))


def test_a_bin_for_each_count_is_exact():
    pixels = np.arange(256, dtype="u1").reshape(1, 1, 16, 16)
    assert run(Histogram(0, 256, 256, spec_of(pixels)), pixels).tolist() == [[[[1] * 256]]]


def test_nan_is_in_no_bin():
    pixels = np.array([[[[0.0, np.nan, 1.0, np.inf]]]], "f4")
    assert run(Histogram(0, 1, 2, spec_of(pixels)), pixels).tolist() == [[[[1, 1]]]]


@pytest.mark.parametrize("arguments", [(0, 0, 3), (1, 0, 3), (0, 1, 0), (0, np.inf, 3), (np.nan, 1, 3)])
def test_bins_that_cannot_be_are_refused(arguments):
    with pytest.raises(GraphError, match="cannot be"):
        Histogram(*arguments, SPEC)


def test_bins_too_narrow_for_any_number_are_refused():
    with pytest.raises(GraphError, match="use fewer bins"):
        Histogram(1e6, 1e6 + 1e-9, 100, SPEC)


def test_a_histogram_of_other_frames_is_refused():
    with pytest.raises(GraphError, match="for frames"):
        Histogram(0, 1, 2, SPEC).output_spec(FrameSpec(1, 6, 9, SPEC.dtype))


@given(data=st.data(), pixels=frames())
@modest
def test_centre_of_mass_is_that_of_scipy(data, pixels):
    pixels = np.abs(pixels.astype("f4")) if pixels.dtype.kind != "u" else pixels  # a sum near 0 has no place
    rects = data.draw(st.lists(rectangles(pixels), min_size=1, max_size=3))
    valid = data.draw(masks(pixels))
    counted = np.broadcast_to(True if valid is None else valid, pixels.shape[1:])
    rows = CentreOfMass(rects, "$.rois", spec_of(pixels), valid).rows(make_block(pixels), 0)
    expected = references.centres(pixels, rects, counted)
    for i, name in enumerate(("x", "y", "sum")):
        np.testing.assert_allclose(rows[name].reshape(expected.shape[:2]), expected[..., i], 1e-9, 1e-9)


def test_a_region_without_counts_has_no_centre():
    whole = Rectangle(dimensions=PixelSize(x=8, y=6))
    (row,) = CentreOfMass([whole], "$.rois", SPEC).rows(make_block(np.zeros((1, *SPEC.shape), "u2")), 0)
    assert np.isnan([row["x"], row["y"]]).all()
    assert row["sum"] == 0


def test_a_region_off_the_image_is_refused_with_its_path():
    off = Rectangle(topleft=PixelPosition(x=7, y=0), dimensions=PixelSize(x=2, y=1))
    with pytest.raises(ParamError, match=r"^\$\.rois\[0\]"):
        CentreOfMass([off], "$.rois", SPEC)


@given(pixels=frames(), turns=st.integers(-9, 9))
@modest
def test_rotation_is_that_of_numpy(pixels, turns):
    node = Rotation(turns)
    result = run(node, pixels)
    assert np.array_equal(result, np.rot90(pixels, turns, (2, 3)))
    assert node.output_spec(spec_of(pixels)).shape == result.shape[1:]


@given(data=st.data(), pixels=frames())
@modest
def test_defects_become_the_mean_of_their_neighbours(data, pixels):
    shape = pixels.shape[1:] if data.draw(st.booleans()) else pixels.shape[2:]
    bad = np.random.default_rng(data.draw(st.integers(0, 2**32))).random(shape) < 0.3
    try:
        node = Defects(bad, spec_of(pixels))
    except GraphError:
        reject()  # a gap, which the tests below are about
    expected = references.mended(pixels, np.broadcast_to(bad, pixels.shape[1:]))
    result = run(node, pixels)
    assert result.dtype == pixels.dtype
    if pixels.dtype.kind == "f":
        np.testing.assert_allclose(result, expected, rtol=1e-6, atol=1e-6 * np.abs(pixels).max(initial=0))
    else:
        assert np.array_equal(result, expected)


@pytest.mark.parametrize("value", [0, np.iinfo("i4").max, np.iinfo("i4").min])
def test_a_defect_among_equal_pixels_has_their_value(value):
    pixels = np.full((1, 1, 3, 3), value, "i4")
    pixels[0, 0, 1, 1] = 5
    bad = np.zeros((3, 3), bool)
    bad[1, 1] = True
    assert (run(Defects(bad, spec_of(pixels)), pixels) == value).all()


def test_a_gap_is_not_interpolated():
    bad = np.zeros((6, 40), bool)
    bad[:, 10:20] = True
    with pytest.raises(GraphError, match=r"24 defective pixels, the first at \(13, 0\) \(x, y\) .* mask them"):
        Defects(bad, FrameSpec(1, 6, 40, SPEC.dtype))


def test_defects_of_other_frames_are_refused():
    with pytest.raises(GraphError, match="of frames"):
        Defects(np.zeros((6, 8), bool), SPEC).output_spec(FrameSpec(1, 8, 6, SPEC.dtype))


def test_a_mended_pixel_is_valid_where_its_neighbours_are():
    bad, valid = np.zeros((6, 8), bool), np.ones((6, 8), bool)
    bad[2, 2] = bad[4, 6] = True
    valid[bad] = False
    valid[1, 1] = False
    made = Defects(bad, SPEC).output_valid(valid)[0]
    assert (made[2, 2], made[4, 6], made[1, 1]) == (False, True, False)
