"""Where modules lie: turned as numpy turns, inside the frame, apart from each other."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lima2_tango.core.errors import ParamError
from lima2_tango.core.modules import MOST_MODULES, Layout, Module, Rectangle


def module(top=0, left=0, height=2, width=3, rotation=0, receiver=0, path="$.m[0]"):
    return Module(top, left, height, width, rotation, receiver, path)


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 3), st.integers(0, 3))
def test_a_table_of_places_turns_as_numpy_does(rotation, height, width, top, left):
    layout = Layout(12, 13, (module(top, left, height, width, rotation),))
    layout.check(1)
    pixels = np.arange(1, height * width + 1)
    frame = np.zeros(12 * 13, np.int64)
    ((source, rows, columns, base, down, right),) = layout.places(0).tolist()
    for y in range(rows):
        for x in range(columns):
            frame[base + y * down + x * right] = pixels[source + y * columns + x]
    turned = np.rot90(pixels.reshape(height, width), rotation // 90)
    expected = np.zeros((12, 13), np.int64)
    expected[top : top + turned.shape[0], left : left + turned.shape[1]] = turned
    assert np.array_equal(frame.reshape(12, 13), expected)


@given(st.data())
def test_modules_overlap_where_they_share_a_pixel(data):
    side = st.integers(0, 6)
    one, other = (
        Rectangle(*(data.draw(side) for _ in range(2)), data.draw(side) + 1, data.draw(side) + 1) for _ in "ab"
    )
    grid = np.zeros((16, 16), int)
    for place in (one, other):
        grid[place.top : place.top + place.height, place.left : place.left + place.width] += 1
    assert one.overlaps(other) == other.overlaps(one) == bool((grid == 2).any())


def test_a_layout_knows_who_has_what():
    layout = Layout(10, 10, (module(1, 2), module(5, 5, rotation=90, receiver=1), module(7, 1, receiver=0)))
    layout.check(2)
    assert layout.numbers(0) == [0, 2]
    assert (layout.bits(0), layout.bits(1)) == (0b101, 0b010)
    assert (layout.pixels(0), layout.pixels(1)) == (12, 6)
    assert layout.part(0) == Rectangle(1, 1, 8, 4)
    assert layout.part(1) == Rectangle(5, 5, 3, 2)
    assert layout.part(2) == Rectangle(0, 0, 0, 0)


@pytest.mark.parametrize(
    ("modules", "path", "reason"),
    [
        ((module(), module(1, 1, path="$.m[1]")), "$.m[1]", "overlaps $.m[0]"),
        ((module(0, 8),), "$.m[0]", "leaves the frame"),
        ((module(9, 0),), "$.m[0]", "rows 9 to 10"),
        ((module(receiver=2),), "$.m[0].receiver", "there are 2 receivers"),
        ((module(),) * (MOST_MODULES + 1), "$.m[0]", "at most 64"),
    ],
    ids=["overlap", "right", "below", "owner", "too many"],
)
def test_what_cannot_be_is_refused_with_its_path(modules, path, reason):
    with pytest.raises(ParamError) as refused:
        Layout(10, 10, modules).check(2)
    assert refused.value.path == path
    assert reason in str(refused.value)
