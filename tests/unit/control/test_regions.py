"""Regions as a person writes them."""

import pytest

from lima2_tango.control.parameters import Parameterised
from lima2_tango.control.regions import set_regions
from lima2_tango.control.settings import Settings
from lima2_tango.core.errors import ParamError
from lima2_tango.core.plugins import load
from lima2_tango.core.roi import Arc, Direction, PixelPosition, PixelSize, Position, Rectangle

ALL = """{"rectangles": [[1, 2, 3, 4], [5, 6, 7, 8]], "arcs": [[10.5, 20, 3, 4, 0, 90]],
          "profiles": [[9, 8, 7, 6, "vertical"]]}"""


@pytest.fixture
def source():
    return Parameterised(load("cameras", "simulator"), Settings())


def rectangle(x, y, width, height):
    return Rectangle(topleft=PixelPosition(x=x, y=y), dimensions=PixelSize(x=width, y=height))


def test_each_kind_goes_where_the_pipeline_keeps_it(source):
    set_regions(source, ALL)
    params = source.choice.params
    assert params.statistics.rect_rois == [rectangle(1, 2, 3, 4), rectangle(5, 6, 7, 8)]
    assert params.statistics.arc_rois == [Arc(center=Position(x=10.5, y=20.0), r1=3.0, r2=4.0, a1=0.0, a2=90.0)]
    assert params.profiles.rois == [rectangle(9, 8, 7, 6)]
    assert params.profiles.directions == [Direction.VERTICAL]


@pytest.mark.parametrize("text", ["[]", " [ ] ", "{}", '{"rectangles": []}'])
def test_all_are_cleared(source, text):
    set_regions(source, ALL)
    set_regions(source, text)
    params = source.choice.params
    assert (params.statistics.rect_rois, params.statistics.arc_rois, params.profiles.rois) == ([], [], [])


def test_all_are_replaced_and_nothing_else(source):
    source.change_proc(("saving", "filename_prefix"), "kept")
    set_regions(source, ALL)
    set_regions(source, '{"rectangles": [[0, 0, 1, 1]]}')
    params = source.choice.params
    assert (len(params.statistics.rect_rois), len(params.statistics.arc_rois), len(params.profiles.rois)) == (1, 0, 0)
    assert params.saving.filename_prefix == "kept"


def test_what_has_regions_is_computed(source):
    source.change_proc(("statistics", "enabled"), False)
    source.change_proc(("profiles", "enabled"), False)
    set_regions(source, '{"arcs": [[0, 0, 1, 2, 0, 360]]}')
    assert (source.choice.params.statistics.enabled, source.choice.params.profiles.enabled) == (True, False)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("x", "this is not JSON"),
        ("[1]", "give an object"),
        ('{"rectangle": []}', r"\$\.rectangle = .*: there is no such parameter"),
        ('{"rectangles": [[1, 2, 3]]}', r"\$\.rectangles\[0\]\[3\] = .*: this parameter must be given"),
        ('{"rectangles": [[1, 2, 3, 4, 5]]}', r"\$\.rectangles\[0\]"),
        ('{"rectangles": [[-1, 2, 3, 4]]}', r"\$\.rectangles\[0\]\[0\] = -1"),
        ('{"rectangles": [[1, 2, 0, 4]]}', r"\$\.rectangles\[0\]\[2\] = 0"),
        ('{"profiles": [[1, 2, 3, 4, "up"]]}', r"\$\.profiles\[0\]\[4\] = .up."),
    ],
)
def test_what_is_no_region_is_refused_with_its_place(source, text, sentence):
    with pytest.raises(ParamError, match=sentence):
        set_regions(source, text)
    assert source.choice is None


def test_a_pipeline_without_regions_refuses_them_by_its_name_but_can_be_cleared(source):
    source.choose_pipeline("LimaProcessingFailing")
    with pytest.raises(ParamError, match="LimaProcessingFailing computes no statistics"):
        set_regions(source, '{"rectangles": [[1, 2, 3, 4]]}')
    set_regions(source, "[]")
