"""What a browser is shown of a frame, against plain numpy."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from lima2_tango.client.live import LiveFrame
from lima2_tango.core.roi import Arc, PixelPosition, PixelSize, Position, Rectangle
from lima2_tango.web.masks import Masks
from lima2_tango.web.picture import MASKED, TOP, draw, pooled, scaled
from lima2_tango.web.regions import Curves, channel_of, regions_of, statistics
from lima2_tango.web.view import Pool, Scale, View
from lima2_tango.web.wire import LENGTH, pack, point_text

TYPES = ["u1", "u2", "u4", "i2", "i4", "f4", "f8"]
HOW = {Pool.MAX: np.max, Pool.MEAN: np.mean}


def image_of(dtype: str, shape: tuple[int, int] = (37, 53)) -> np.ndarray:
    return np.random.default_rng(7).integers(0, 200, shape).astype(dtype)


def blocks(image: np.ndarray, factor: int) -> list[list[np.ndarray]]:
    rows, columns = image.shape
    return [[image[y : y + factor, x : x + factor] for x in range(0, columns, factor)] for y in range(0, rows, factor)]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("factor", [1, 2, 3, 5, 60])
@pytest.mark.parametrize("how", list(Pool))
def test_groups_of_pixels_become_one_those_at_the_edges_too(dtype: str, factor: int, how: Pool) -> None:
    image = image_of(dtype)
    found, masked = pooled(image, factor, how, None)
    assert masked is None
    expected = [[HOW[how](block) for block in row] for row in blocks(image, factor)]
    assert np.allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("how", list(Pool))
def test_masked_pixels_have_no_part_in_their_group(dtype: str, how: Pool) -> None:
    image, bad = image_of(dtype), np.random.default_rng(8).random((37, 53)) < 0.4
    bad[:6, :9] = True
    found, masked = pooled(image, 3, how, bad)
    for y, row in enumerate(blocks(image, 3)):
        for x, block in enumerate(row):
            good = block[~blocks(bad, 3)[y][x]]
            assert masked[y, x] == (good.size == 0)
            assert good.size == 0 or np.isclose(found[y, x], HOW[how](good), rtol=1e-6)


@pytest.mark.parametrize(("dtype", "mark"), [("u2", 65535), ("u4", 2**32 - 1), ("f4", np.nan), ("f4", np.inf)])
def test_what_a_detector_marks_is_masked_and_does_not_set_the_range(dtype: str, mark: float) -> None:
    image = image_of(dtype)
    image[4, 5] = mark
    picture = draw(image, View(low=0, high=100))
    assert picture.indices[4, 5] == MASKED
    assert picture.high == image[np.isfinite(image) & (image < 1000)].max()
    assert draw(image, View(mask=False)).indices[4, 5] != MASKED


def test_what_is_no_number_sets_no_range_without_a_mask_either() -> None:
    image = image_of("f4")
    image[4, 5], image[6, 7] = np.nan, np.inf
    picture = draw(image, View(low=0, high=100, mask=False))
    assert (picture.low, picture.high) == (image[np.isfinite(image)].min(), image[np.isfinite(image)].max())


def test_pictures_and_curves_of_frames_with_nan_are_json() -> None:
    data = image_of("f4")[np.newaxis].copy()
    data[0, 3, 3] = np.nan
    curves = Curves()
    curves.begin("run", [Rectangle(topleft=PixelPosition(x=0, y=0), dimensions=PixelSize(x=9, y=9))])
    curves.add(7, data[0])
    points = [point_text(point) for point in curves.since(0)]
    packed = pack(LiveFrame("run", 7, data), draw(data[0], View(mask=False)), curves, points, 0)
    (length,) = LENGTH.unpack_from(packed)

    def refuse(text: str) -> None:
        raise AssertionError(f"{text} is no JSON")

    header = json.loads(packed[LENGTH.size : LENGTH.size + length], parse_constant=refuse)
    assert header["points"] == [[7, [None] * 5]]


def test_a_mask_that_is_written_anew_is_read_anew(tmp_path: Path) -> None:
    path, masks = tmp_path / "mask.npy", Masks()
    for number, bad in enumerate([(1, 2), (3, 4)]):
        valid = np.ones((8, 9), np.uint8)
        valid[bad] = 0
        np.save(path, valid)
        os.utime(path, ns=(number, number))
        masks.ask({"enabled": True, "path": str(path)})
        assert np.argwhere(masks.of((1, 8, 9))).tolist() == [list(bad)]


def test_the_highest_value_of_8_bits_is_a_value() -> None:
    image = np.full((4, 4), 255, np.uint8)
    image[0, 0] = 0
    assert draw(image, View(low=0, high=100)).indices.max() == TOP


@pytest.mark.parametrize("scale", list(Scale))
@pytest.mark.parametrize("dtype", TYPES)
def test_values_rise_with_their_index_between_the_limits(scale: Scale, dtype: str) -> None:
    values = np.arange(0, 120, dtype=dtype).reshape(1, -1)
    found = scaled(values, 10, 110, scale)[0]
    assert (np.diff(found.astype(int)) >= 0).all()
    assert (found[:11] == 0).all()
    assert (found[110:] == TOP).all()
    middle = {Scale.LINEAR: 0.5, Scale.SQRT: 0.5**0.5, Scale.LOG: np.log1p(50) / np.log1p(100)}
    assert abs(int(found[60]) - middle[scale] * TOP) <= 1


@pytest.mark.parametrize("value", [0, 7])
def test_a_frame_of_one_value_is_drawn(value: int) -> None:
    picture = draw(np.full((9, 9), value, np.uint16), View())
    assert picture.high > picture.low
    assert (picture.indices == 0).all()


def test_a_spot_on_a_dark_frame_is_seen() -> None:
    image = np.zeros((512, 512), np.uint16)
    image[100, 200] = 500
    picture = draw(image, View(columns=128, rows=128))
    assert picture.factor == 4
    assert picture.indices[25, 50] == TOP
    assert picture.indices.sum() == TOP


@pytest.mark.parametrize(
    "view",
    [View(x=50, y=30, width=100, height=100), View(x=60000, y=60000), View(x=10, width=3, y=5, height=1, columns=16)],
)
def test_a_view_beyond_the_frame_shows_what_there_is(view: View) -> None:
    picture = draw(image_of("u2"), view)
    assert picture.x + picture.width <= 53
    assert picture.y + picture.height <= 37
    assert picture.indices.size > 0


def test_limits_that_are_given_are_taken() -> None:
    picture = draw(image_of("u2"), View(limits=(20.0, 40.0)))
    assert (picture.low, picture.high) == (20, 40)
    assert draw(image_of("u2"), View(limits=(20.0, 20.0))).high > 20


RECTANGLE = Rectangle(topleft=PixelPosition(x=5, y=3), dimensions=PixelSize(x=7, y=4))


def expected(pixels: np.ndarray) -> list[float]:
    return [pixels.min(), pixels.max(), pixels.mean(), pixels.std(), pixels.sum()]


def test_statistics_of_a_rectangle() -> None:
    image = image_of("u2")
    assert np.allclose(statistics(image, RECTANGLE), expected(image[3:7, 5:12].astype(float)))


@pytest.mark.parametrize(("r1", "a1", "a2"), [(0, 0, 360), (4, 0, 360), (3, 30, 120), (0, 300, 400), (2, -90, 90)])
def test_statistics_of_an_arc(r1: float, a1: float, a2: float) -> None:
    image = image_of("f4")
    arc = Arc(center=Position(x=20.5, y=15.2), r1=r1, r2=11.0, a1=a1, a2=a2)
    y, x = np.mgrid[:37, :53]
    angle = np.degrees(np.arctan2(y - 15.2, x - 20.5))
    turned = (angle - a1) % 360 < a2 - a1
    radius = np.hypot(x - 20.5, y - 15.2)
    inside = (radius >= r1) & (radius < 11) & (turned if a2 - a1 < 360 else True)
    assert np.allclose(statistics(image, arc), expected(image[inside].astype(float)), rtol=1e-6)


def test_a_region_outside_the_frame_is_zeros() -> None:
    far = Rectangle(topleft=PixelPosition(x=900, y=900), dimensions=PixelSize(x=7, y=4))
    assert statistics(image_of("u2"), far) == (0, 0, 0, 0, 0)
    assert statistics(image_of("u2"), Arc(center=Position(x=-500.0, y=-500.0), r2=3.0)) == (0, 0, 0, 0, 0)


def test_masked_pixels_and_other_channels_have_no_part_in_a_region() -> None:
    data = np.stack([image_of("u2"), image_of("u2") + 300])
    bad = np.zeros(data.shape[1:], bool)
    bad[4, 6:8] = True
    good = np.broadcast_to(~bad, data.shape)[:, 3:7, 5:12]
    assert np.allclose(statistics(data, RECTANGLE, bad), expected(data[:, 3:7, 5:12][good].astype(float)))
    arc = Arc(center=Position(x=8.0, y=5.0), r1=0.0, r2=5.0)
    assert statistics(data, arc, np.ones_like(bad)) == (0, 0, 0, 0, 0)
    assert statistics(data, arc, bad) != statistics(data, arc)
    assert channel_of({}, data).shape == data.shape
    assert np.array_equal(channel_of({"statistics": {"channel": 1}}, data), data[1:])


def test_curves_begin_anew_with_other_regions_and_other_runs() -> None:
    curves, image = Curves(), image_of("u2")
    for uuid, regions, generation in [
        ("a", [RECTANGLE], 1),
        ("a", [RECTANGLE], 1),
        ("b", [RECTANGLE], 2),
        ("b", [], 3),
    ]:
        curves.begin(uuid, regions)
        curves.add(0, image)
        assert curves.generation == generation
    assert curves.since(0) == []
    curves.begin("b", [RECTANGLE])
    for frame in range(3):
        curves.add(frame, image)
    assert [point.frame for point in curves.since(curves.last - 2)] == [1, 2]


def test_regions_come_out_of_the_parameters_as_their_rows_do() -> None:
    arc = Arc(r2=5.0)
    found = {"rect_rois": [RECTANGLE.model_dump(mode="json")], "arc_rois": [arc.model_dump(mode="json")]}
    assert regions_of({"statistics": found}) == [RECTANGLE, arc]
    assert regions_of({}) == []
