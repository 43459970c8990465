"""Binning, mirror, crop and correction compute what their plain references say, and refuse what cannot work."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import dtypes, frames, images, masks, modest

from lima2_tango.core.acquisition import Flip
from lima2_tango.core.errors import ParamError
from lima2_tango.core.frame import FrameSpec
from lima2_tango.core.pool import Pool
from lima2_tango.processing.kernels.layout import flat
from lima2_tango.processing.nodes.binning import Binning
from lima2_tango.processing.nodes.correction import Correction
from lima2_tango.processing.nodes.crop import Crop
from lima2_tango.processing.nodes.mirror import Mirror
from lima2_tango.testing import references as reference
from lima2_tango.testing.nodes import make_block, with_gaps

SPEC = FrameSpec(1, 6, 8, np.dtype("u2"))


def run(node, data, valid=None):
    return node.process(make_block(data, 0, valid), Pool(8 << 20)).data


@given(data=st.data(), pixels=frames(st.one_of(dtypes, st.just(np.dtype("u4")))))
@modest
def test_binning_sums_and_saturates(data, pixels):
    x = data.draw(st.integers(1, pixels.shape[3]))
    y = data.draw(st.integers(1, pixels.shape[2]))
    expected = reference.binned(pixels, x, y)
    result = run(Binning(x, y), pixels)
    assert result.dtype == expected.dtype
    tolerance = 1e-6 * np.abs(pixels).max() * x * y if pixels.dtype.kind == "f" else 0
    assert np.allclose(result, expected, rtol=1e-6, atol=tolerance)


def test_the_largest_bin_of_16_bits_is_exact():
    assert run(Binning(256, 256), np.full((1, 1, 256, 256), 65535, "u2")).item() == 65535 * 65536


def test_binning_keeps_nan():
    pixels = np.ones((1, 1, 2, 4), "f4")
    pixels[0, 0, 0, 0] = np.nan
    assert np.array_equal(run(Binning(2, 2), pixels), [[[[np.nan, 4]]]], equal_nan=True)


@pytest.mark.parametrize(("x", "y"), [(9, 1), (1, 7), (0, 1)])
def test_a_bin_that_does_not_fit_is_refused(x, y):
    with pytest.raises(ParamError, match=r"\$\.img\.binning.*8 x 6"):
        Binning(x, y).output_spec(SPEC)


@given(pixels=frames(), flip=st.sampled_from(Flip))
@modest
def test_mirror_reverses_rows_and_columns(pixels, flip):
    expected = {
        Flip.NONE: lambda image: image,
        Flip.LEFT_RIGHT: np.fliplr,
        Flip.UP_DOWN: np.flipud,
        Flip.ROTATE_180: lambda image: np.rot90(image, 2),
    }[flip]
    result = run(Mirror(flip), pixels)
    for place in np.ndindex(pixels.shape[:2]):
        assert np.array_equal(result[place], expected(pixels[place]))


@given(data=st.data(), pixels=frames())
@modest
def test_crop_keeps_the_region(data, pixels):
    height, width = pixels.shape[2:]
    x, y = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    w, h = data.draw(st.integers(1, width - x)), data.draw(st.integers(1, height - y))
    assert np.array_equal(run(Crop(x, y, w, h), pixels), pixels[..., y : y + h, x : x + w])


@pytest.mark.parametrize("region", [(1, 0, 8, 6), (0, 1, 8, 6), (-1, 0, 4, 4), (0, 0, 0, 4), (8, 6, 1, 1)])
def test_a_region_outside_the_image_is_refused(region):
    with pytest.raises(ParamError, match=r"\$\.img\.roi"):
        Crop(*region).output_spec(SPEC)


@given(data=st.data(), pixels=frames())
@modest
def test_correction_is_that_of_the_formula(data, pixels):
    background = data.draw(images(pixels, -5, 1000))
    flatfield = data.draw(images(pixels, -0.1, 3))
    mask = data.draw(masks(pixels))
    expected = reference.corrected(pixels, background, flatfield, mask)
    result = run(Correction(background, flatfield, mask), pixels)
    assert result.dtype == expected.dtype
    assert np.array_equal(result, expected)


def test_a_masked_pixel_is_zero_whatever_it_holds():
    pixels = np.full((1, 1, 2, 2), np.nan, "f4")
    mask = np.zeros((2, 2), bool)
    image = np.ones((2, 2))
    for node in (Correction(mask=mask), Correction(image, mask=mask), Correction(image, image, mask)):
        assert not run(node, pixels).any()


def test_pixels_without_flat_field_are_not_valid():
    flatfield = np.array([[1.0, 0.0], [-1.0, 2.0]])
    mask = np.array([[True, True], [True, False]])
    assert Correction(flatfield=flatfield).valid.tolist() == [[True, False], [False, True]]
    assert Correction(flatfield=flatfield, mask=mask).valid.tolist() == [[True, False], [False, False]]
    assert Correction(flatfield=np.ones((2, 2))).valid is None
    assert Correction(background=flatfield).valid is None


@pytest.mark.parametrize(
    ("dtype", "corrected"), [("u1", "f4"), ("i2", "f4"), ("f4", "f4"), ("u4", "f8"), ("i4", "f8"), ("f8", "f8")]
)
def test_correction_promises_a_float_that_holds_every_pixel(dtype, corrected):
    spec = FrameSpec(1, 2, 2, np.dtype(dtype))
    assert Correction(background=np.ones((2, 2))).output_spec(spec).dtype == corrected
    assert Correction(mask=np.ones((2, 2), bool)).output_spec(spec) == spec


def test_the_placeholder_of_a_lost_frame_becomes_zero():
    pixels = np.full((2, 1, 2, 2), 7, "u2")
    result = run(Correction(background=np.ones((2, 2))), pixels, np.array([True, False]))
    assert result[0].tolist() == [[[6, 6], [6, 6]]]
    assert not result[1].any()


@pytest.mark.parametrize("gap", [0, 5])
def test_kernels_see_frames_without_a_copy(gap):
    data = with_gaps(np.arange(24, dtype="u2").reshape(2, 1, 3, 4), gap)
    assert np.shares_memory(flat(data), data)
    assert np.array_equal(flat(data)[:, :12], np.arange(24).reshape(2, 12))


@pytest.mark.parametrize("odd", [lambda d: d[::-1], lambda d: np.broadcast_to(d[:1], d.shape), lambda d: d[..., ::2]])
def test_kernels_see_a_copy_of_frames_in_no_order(odd):
    data = odd(np.arange(24, dtype="u2").reshape(2, 1, 3, 4))
    assert np.array_equal(flat(data), data.reshape(2, -1))
