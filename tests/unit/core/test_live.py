"""Frames made small for people, and LImA's VIDEO_IMAGE."""

import struct

import numpy as np
import pytest

from lima2_tango.core.errors import WireError
from lima2_tango.core.live import VIDEO_IMAGE, shrinking, shrunk, video, video_of


@pytest.mark.parametrize(
    ("shape", "limit", "factor"), [((10, 20), 20, 1), ((10, 21), 20, 2), ((4362, 4148), 1024, 5), ((1, 1), 1, 1)]
)
def test_the_least_factor_fits_both_sides(shape, limit, factor):
    assert shrinking(shape, limit) == factor
    assert max(shrunk(np.zeros(shape, np.uint8), factor).shape) <= limit


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "i2", "i4", "f4", "f8"])
def test_the_largest_of_each_square_stays(dtype):
    image = np.arange(7 * 5).reshape(7, 5).astype(dtype)
    assert shrunk(image, 3).tolist() == [[12, 14], [27, 29], [32, 34]]
    assert shrunk(image, 3).dtype == image.dtype


def test_the_image_is_a_copy():
    image = np.zeros((2, 2), np.uint16)
    shown = shrunk(image, 1)
    image[:] = 9
    assert not shown.any()


@pytest.mark.parametrize(("dtype", "mark"), [("u2", 0xFFFF), ("u4", 0xFFFFFFFF), ("f4", np.nan)])
def test_marked_pixels_count_only_where_there_are_no_others(dtype, mark):
    image = np.array([[mark, 5, mark, mark], [7, mark, mark, mark]], dtype)
    np.testing.assert_array_equal(shrunk(image, 2), np.array([[7, mark]], dtype))


@pytest.mark.parametrize(("dtype", "mode"), [("u1", 0), ("u2", 1), ("u4", 2), ("u8", 3)])
def test_unsigned_pixels_pass_as_they_are(dtype, mode):
    image = np.array([[0, 1, 250], [3, 4, 5]], dtype)
    form, payload = video(image, 12)
    assert form == VIDEO_IMAGE
    assert struct.unpack("!IHHqiiHHHH", payload[:32]) == (0x5644454F, 1, mode, 12, 3, 2, 0, 32, 0, 0)
    number, found = video_of((form, payload))
    assert (number, found.tolist()) == (12, image.tolist())


@pytest.mark.parametrize(
    ("values", "dtype", "shown", "kind"),
    [
        ([-3, 7], "i2", [0, 7], "uint16"),
        ([-3, 7], "i4", [0, 7], "uint32"),
        ([True, False], "?", [1, 0], "uint8"),
        ([-1.5, 2.6, np.nan, 1e20], "f4", [0, 3, 0, 4294967295], "uint32"),
    ],
)
def test_what_the_modes_lack_is_rounded(values, dtype, shown, kind):
    _, found = video_of(video(np.array([values], dtype), 0))
    assert (found.tolist(), found.dtype.name) == ([shown], kind)


def test_the_codec_of_taurus_reads_it():
    codecs = pytest.importorskip("taurus.core.util.codecs")
    image = np.arange(12, dtype=np.uint32).reshape(3, 4)
    _, found = codecs.CodecFactory().getCodec(VIDEO_IMAGE).decode(video(image, 5))
    assert found.tolist() == image.tolist()


@pytest.mark.parametrize(
    "answer", [("", b""), (VIDEO_IMAGE, b"abc"), (VIDEO_IMAGE, bytes(32)), ("DATA_ARRAY", bytes(64))]
)
def test_anything_else_is_refused(answer):
    with pytest.raises(WireError):
        video_of(answer)


def test_a_cut_image_is_refused():
    form, payload = video(np.zeros((4, 4), np.uint16), 0)
    with pytest.raises(WireError, match="4 x 4"):
        video_of((form, payload[:-1]))
