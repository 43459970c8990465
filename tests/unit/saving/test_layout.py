"""The NeXus tree, without a file."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from lima2_tango.core.frame import FrameSpec
from lima2_tango.core.storage import NbDimensions, SavingParams
from lima2_tango.saving.layout import Field, Group, Images, Link, Rows, data_path, file_tree, series_tree
from lima2_tango.testing.sinks import METADATA

NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
PARAMS = SavingParams(nx_entry_name="E", nx_instrument_name="I", nx_detector_name="T")


def at(tree, path):
    """Node at a path."""
    for step in path.strip("/").split("/"):
        tree = tree.children[step]
    return tree


def series(channels=1, params=PARAMS):
    return series_tree(params, FrameSpec(channels, 6, 9, np.dtype("u2")), METADATA)


def rows(index, valid=None, missing=None):
    index = np.asarray(index)
    real = np.ones(len(index), bool) if valid is None else np.asarray(valid)
    masks = np.zeros(len(index), np.uint64) if missing is None else np.asarray(missing, np.uint64)
    return Rows(3, index, 1e9 + index * 0.5, real, masks)


def of_file(params=PARAMS, **facts):
    return file_tree(params, METADATA, rows(**facts), "x_0_00003.h5", NOW)


@pytest.mark.parametrize(
    ("channels", "dimensions", "row_shape", "chunks"),
    [
        (1, NbDimensions.DIM_3D_OR_4D, (6, 9), (1, 6, 9)),
        (1, NbDimensions.DIM_4D, (1, 6, 9), (1, 1, 6, 9)),
        (2, NbDimensions.DIM_3D_OR_4D, (2, 6, 9), (1, 1, 6, 9)),
        (2, NbDimensions.DIM_4D, (2, 6, 9), (1, 1, 6, 9)),
    ],
)
def test_images_have_one_chunk_for_each_frame_and_channel(channels, dimensions, row_shape, chunks):
    images = at(series(channels, PARAMS.model_copy(update={"nb_dimensions": dimensions})), data_path(PARAMS))
    assert isinstance(images, Images)
    assert (images.row_shape, images.chunks) == (row_shape, chunks)
    assert images.attrs["interpretation"] == "image"


@pytest.mark.parametrize(
    ("path", "nx_class"),
    [
        ("E", "NXentry"),
        ("E/I", "NXinstrument"),
        ("E/I/T", "NXdetector"),
        ("E/plot", "NXdata"),
        ("E/measurement", "NXcollection"),
        ("E/I/T/fabrication", "NXfabrication"),
    ],
)
def test_groups_have_their_nexus_class(path, nx_class):
    assert at(series(), path).nx_class == nx_class


def test_a_viewer_finds_the_images_from_the_root():
    tree = series()
    assert tree.nx_class == "NXroot"
    entry = tree.children[tree.attrs["default"]]
    plot = entry.children[entry.attrs["default"]]
    assert plot.children[plot.attrs["signal"]] == Link(data_path(PARAMS))


def test_every_link_points_at_something():
    def links(group):
        for node in group.children.values():
            if isinstance(node, Link):
                yield node.target
            elif isinstance(node, Group):
                yield from links(node)

    tree = series()
    targets = list(links(tree))
    assert targets
    assert all(at(tree, target) for target in targets)


@pytest.mark.parametrize(
    ("name", "value", "units"),
    [
        ("count_time", 1500e-6, "s"),
        ("latency_time", 500e-6, "s"),
        ("frame_time", 2000e-6, "s"),
        ("x_pixel_size", 75e-6, "m"),
        ("y_pixel_size", 80e-6, "m"),
    ],
)
def test_quantities_carry_their_unit(name, value, units):
    field = at(series(), f"E/I/T/{name}")
    assert field.value == pytest.approx(value)
    assert field.attrs["units"] == units


def test_parameters_are_kept_as_json():
    assert at(series(), "E/I/T/params/acquisition").value == METADATA.acquisition_json
    assert at(series(), "E/I/T/params/processing").value == METADATA.processing_json


def test_times_are_iso_8601_in_utc_and_end_after_the_last_exposure():
    tree = of_file(index=[0, 1, 2])
    assert at(tree, "E/start_time").value == "2001-09-09T01:46:40+00:00"
    assert at(tree, "E/end_time").value == "2001-09-09T01:46:41.001500+00:00"
    assert tree.attrs["file_time"] == "2030-01-02T03:04:05+00:00"


def test_a_file_says_which_part_of_the_series_it_holds():
    receiver = at(of_file(index=[4, 6, 8]), "E/I/T/receiver").children
    assert {name: field.value for name, field in receiver.items()} == {
        "file_number": 3,
        "nb_frames": 3,
        "first_frame": 4,
        "last_frame": 8,
    }


@pytest.mark.parametrize(("missing", "written"), [([0, 0, 0], False), ([0, 1 << 63, 3], True)])
def test_the_mask_of_missing_modules_is_there_where_one_is_missing(missing, written):
    detector = at(of_file(index=[0, 1, 2], missing=missing), "E/I/T").children
    assert ("missing_modules" in detector) == written
    if written:
        assert detector["missing_modules"].value.tolist() == missing


@pytest.mark.parametrize(
    ("index", "asked", "written"),
    [
        ([0, 2, 4], False, False),
        ([7], False, False),
        ([0, 2, 4], True, True),
        ([0, 1, 3], False, True),
    ],
)
def test_frame_numbers_are_written_on_request_and_when_uneven(index, asked, written):
    detector = at(of_file(PARAMS.model_copy(update={"include_frame_idx": asked}), index=index), "E/I/T").children
    assert ("frame_idx" in detector) is written
    if written:
        assert detector["frame_idx"].value.tolist() == index
        assert detector["frame_idx"].value.dtype == np.uint64


def test_placeholders_are_marked_and_only_then():
    assert "valid" not in at(of_file(index=[0, 1]), "E/I/T").children
    assert at(of_file(index=[0, 1], valid=[True, False]), "E/I/T/valid").value.tolist() == [1, 0]


def test_an_unknown_model_leaves_the_plugin_as_description():
    tree = series_tree(PARAMS, FrameSpec(1, 1, 1, np.dtype("u1")), replace(METADATA, model=""))
    assert at(tree, "E/I/T/description") == Field("Simulator")
