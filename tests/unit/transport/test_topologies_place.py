"""Modules copied into frames, past the caches where frames are large: every pixel, and none beside."""

import numpy as np
import pytest

from lima2_tango.cli.bench.assembly_ranks import RANKS, Shape
from lima2_tango.core.modules import Layout, Module
from lima2_tango.transport import _place

HEIGHT, WIDTH = 96, 200
UNTOUCHED = 77


def assembled(monkeypatch, dtype, modules, missing=(), past=True):
    """Frame of random modules that were placed, and what numpy makes of them."""
    monkeypatch.setattr(_place, "LARGE", 0 if past else 1 << 40)
    layout = Layout(HEIGHT, WIDTH, tuple(Module(*module, 0, "a module") for module in modules))
    parts = np.random.default_rng(1).integers(0, 100, (3, 1, layout.pixels(0))).astype(dtype)
    expected = np.full((HEIGHT, WIDTH), UNTOUCHED, dtype)
    lost, at = np.zeros((3, len(modules)), np.bool_), 0
    for number, module in enumerate(layout.modules):
        place = module.place
        pixels = parts[2, 0, at : at + module.pixels].reshape(module.height, module.width)
        turned = np.rot90(pixels, module.rotation // 90)
        lost[2, number] = number in missing
        target = expected[place.top : place.top + place.height, place.left : place.left + place.width]
        target[:] = 0 if number in missing else turned
        at += module.pixels
    frames = np.full((4, 1, HEIGHT * WIDTH), UNTOUCHED, dtype)
    parts.flags.writeable = False
    _place.place(parts, np.array([2]), layout.places(0), lost, np.array([1]), frames)
    others = np.delete(frames, 1, axis=0)
    assert (others == UNTOUCHED).all()
    return frames[1, 0].reshape(HEIGHT, WIDTH), expected


@pytest.mark.parametrize("dtype", ["u1", "<u2", "<u4"])
@pytest.mark.parametrize(("top", "left", "height", "width"), [(0, 0, 96, 200), (3, 7, 10, 64), (5, 1, 4, 3)])
def test_every_pixel_comes_to_its_place_wherever_rows_begin(monkeypatch, dtype, top, left, height, width):
    placed, expected = assembled(monkeypatch, dtype, [(top, left, height, width, 0)])
    np.testing.assert_array_equal(placed, expected)


@pytest.mark.parametrize("past", [True, False])
def test_turned_and_missing_modules_too(monkeypatch, past):
    modules = [(0, 0, 32, 50, 0), (0, 60, 32, 50, 180), (40, 0, 30, 50, 90), (40, 120, 50, 70, 0), (0, 120, 30, 70, 0)]
    placed, expected = assembled(monkeypatch, "<u2", modules, missing=(4,), past=past)
    np.testing.assert_array_equal(placed, expected)


def test_the_frames_of_the_benchmark_are_put_together_as_it_expects():
    shape = Shape(rows=8, columns=16)
    parts = [shape.parts(rank) for rank in range(RANKS)]
    frames = np.zeros((8, 1, shape.frame.height * shape.frame.width), np.uint16)
    which = np.arange(8)
    for rank, part in enumerate(parts):
        part.flags.writeable = False
        present = np.zeros((8, 4), np.bool_)
        _place.place(part.reshape(8, 1, -1), which, shape.layout.places(rank), present, which, frames)
    np.testing.assert_array_equal(frames.reshape(shape.wholes().shape), shape.wholes())
