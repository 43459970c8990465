"""Calibration images come from the files that beamlines have, and whatever is wrong with them is said at Prepare."""

import fabio
import h5py
import numpy as np
import pytest

from lima2_tango.core.errors import ParamError
from lima2_tango.core.frame import FrameSpec
from lima2_tango.processing.images import load_image, load_mask

IMAGE = np.arange(12, dtype="i4").reshape(3, 4)
SPEC = FrameSpec(1, 3, 4, np.dtype("u2"))
PATH = "$.flatfield.path"


def write_edf(path):
    fabio.edfimage.EdfImage(data=IMAGE).write(path)
    return path


def write_tiff(path):
    fabio.tifimage.TifImage(data=IMAGE).write(path)
    return path


def write_cbf(path):
    fabio.cbfimage.CbfImage(data=IMAGE).write(path)
    return path


def write_npy(path):
    np.save(path, IMAGE)
    return path


def write_npz(path):
    np.savez(path, image=IMAGE)
    return path


def write_only(path):
    with h5py.File(path, "w") as file:
        file["deep/inside/image"] = IMAGE
        file["deep/scalar"] = 3
    return path


def write_default(path):
    with h5py.File(path, "w") as file:
        file.attrs["default"] = "entry"
        entry = file.create_group("entry")
        entry.attrs.update(NX_class="NXentry", default="plot")
        plot = entry.create_group("plot")
        plot.attrs.update(NX_class="NXdata", signal="data")
        plot["data"] = IMAGE
        file["other"] = 2 * IMAGE
    return path


WRITERS = {
    "image.edf": write_edf,
    "image.tif": write_tiff,
    "image.cbf": write_cbf,
    "image.npy": write_npy,
    "image.npz": write_npz,
    "only.h5": write_only,
    "default.nxs": write_default,
}


@pytest.mark.parametrize("name", WRITERS)
def test_an_image_is_read_from(name, tmp_path):
    path = WRITERS[name](tmp_path / name)
    image = load_image(str(path), PATH, SPEC)
    assert np.array_equal(image, IMAGE)
    assert image.dtype.isnative
    assert image.flags.c_contiguous


def test_a_dataset_is_read_by_its_path(tmp_path):
    path = write_default(tmp_path / "file.h5")
    assert np.array_equal(load_image(f"{path}::/other", PATH, SPEC), 2 * IMAGE)


def test_a_mask_is_true_where_the_file_is_not_zero(tmp_path):
    path = write_edf(tmp_path / "mask.edf")
    assert np.array_equal(load_mask(str(path), "$.mask.path", SPEC), IMAGE != 0)


@pytest.mark.parametrize(("shape", "channels", "loaded"), [
    ((1, 3, 4), 1, (3, 4)), ((2, 3, 4), 2, (2, 3, 4)), ((3, 4), 2, (3, 4)),
])  # fmt: skip
def test_an_image_serves_all_channels_or_has_one_for_each(tmp_path, shape, channels, loaded):
    np.save(tmp_path / "image.npy", np.ones(shape))
    spec = FrameSpec(channels, 3, 4, np.dtype("u2"))
    assert load_image(str(tmp_path / "image.npy"), PATH, spec).shape == loaded


@pytest.mark.parametrize("shape", [(4, 3), (12,), (2, 3, 4), (1, 1, 3, 4), (0, 3, 4)])
def test_an_image_of_another_shape_is_refused_with_both_shapes(tmp_path, shape):
    np.save(tmp_path / "image.npy", np.ones(shape))
    with pytest.raises(ParamError) as refused:
        load_image(str(tmp_path / "image.npy"), PATH, SPEC)
    assert str(shape) in refused.value.what
    assert "(1, 3, 4)" in refused.value.what


def test_values_that_are_not_finite_are_refused_with_their_place(tmp_path):
    image = IMAGE.astype("f4")
    image[1, 2], image[2, 3] = np.nan, np.inf
    np.save(tmp_path / "image.npy", image)
    with pytest.raises(ParamError, match=r"2 pixels are not finite, the first at \(1, 2\) \(row, column\)"):
        load_image(str(tmp_path / "image.npy"), PATH, SPEC)


def test_values_that_single_precision_does_not_hold_are_refused(tmp_path):
    image = IMAGE.astype("f8")
    image[0, 3] = -1e300
    np.save(tmp_path / "image.npy", image)
    with pytest.raises(ParamError, match=r"1 pixels are not finite or beyond 3.4e\+38, the first at \(0, 3\)"):
        load_image(str(tmp_path / "image.npy"), PATH, SPEC)
    image[0, 3] = 3e38
    np.save(tmp_path / "image.npy", image)
    assert np.array_equal(load_image(str(tmp_path / "image.npy"), PATH, SPEC), image)


def hostile(folder):
    (folder / "cut.npz").write_bytes(b"PK\x03\x04 and no more")
    write_only(folder / "two.h5")
    with h5py.File(folder / "two.h5", "a") as file:
        file["second"] = IMAGE
    np.savez(folder / "two.npz", a=IMAGE, b=IMAGE)
    np.save(folder / "text.npy", np.array([["a"]]))
    np.save(folder / "object.npy", np.array([{}]), allow_pickle=True)
    whole = write_tiff(folder / "whole.tif").read_bytes()
    (folder / "cut.tif").write_bytes(whole[: len(whole) // 2])
    whole = write_edf(folder / "whole.edf").read_bytes()
    (folder / "cut.edf").write_bytes(whole[:-20])
    whole = bytearray(write_cbf(folder / "whole.cbf").read_bytes())
    whole[whole.index(b"\x0c\x1a\x04\xd5") + 8] ^= 1
    (folder / "flipped.cbf").write_bytes(whole)
    (folder / "empty.edf").write_bytes(b"")
    (folder / "garbage.cbf").write_bytes(bytes(range(256)) * 9)
    (folder / "garbage.h5").write_bytes(b"no HDF5")
    (folder / "notes.txt").write_text("the mask is in the other folder")


@pytest.mark.parametrize(("name", "reason"), [
    ("", "a file is needed"),
    ("missing.edf", "there is no such file"),
    (".", "this is a folder"),
    ("two.h5", "2 images: add ::/path/of/dataset; have: /deep/inside/image, /second"),
    ("two.h5::/absent", "cannot be read"),
    ("two.h5::/deep", "/deep is a group; have: /deep/inside/image"),
    ("two.h5::/deep/scalar", "shape is ()"),
    ("cut.npz", "cannot be read as an image"),
    ("two.npz", "one array is needed, it holds 2: a, b"),
    ("text.npy", "an image of numbers is needed"),
    ("object.npy", "cannot be read"),
    ("cut.tif", "cannot be read"),
    ("cut.edf", "cannot be read as an image (Data stream is incomplete"),
    ("flipped.cbf", "cannot be read as an image (Checksum of binary data mismatch"),
    ("empty.edf", "cannot be read"),
    ("garbage.cbf", "cannot be read"),
    ("garbage.h5", "cannot be read"),
    ("notes.txt", "cannot be read"),
])  # fmt: skip
def test_what_is_no_image_is_refused_with_a_reason(tmp_path, name, reason):
    hostile(tmp_path)
    path = f"{tmp_path}/{name}" if name else ""
    with pytest.raises(ParamError) as refused:
        load_image(path, PATH, SPEC)
    assert refused.value.what.startswith(f'{PATH} = "{path}')
    assert reason in refused.value.what
