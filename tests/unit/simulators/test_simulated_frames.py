"""The images of the simulated detector, and their compression, undone by the vendor's own library."""

import h5py
import numpy as np
import pytest
from dectris.compression import decompress

from lima2_tango.core.errors import ParamError
from lima2_tango.simulators.dectris.faults import Faults, numbers_of, stall_of
from lima2_tango.simulators.dectris.frames import Given, Powder, Recipe, Ring, gaps, read_files
from lima2_tango.simulators.dectris.models import find_model
from lima2_tango.simulators.dectris.packing import packed

SHAPE = (70, 90)


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4"])
@pytest.mark.parametrize("compression", ["bslz4", "lz4"])
def test_the_vendor_s_library_undoes_the_compression(dtype, compression):
    pixels = Powder(3.0).image(0, 0, (257, 131), np.dtype(dtype))
    raw = decompress(packed(pixels, compression), compression, elem_size=pixels.itemsize)
    assert raw == pixels.tobytes()
    assert len(packed(pixels, compression)) < pixels.nbytes or dtype == "u1"


def test_no_compression_is_the_pixels():
    pixels = np.arange(12, dtype=np.uint16).reshape(3, 4)
    assert packed(pixels, "none") == pixels.tobytes()


def recipe(**changes):
    given = {"channels": 2, "shape": SHAPE, "dtype": "u2", "compression": "bslz4", "framed": True}
    return Recipe(**{**given, "masked": False, "to_zero": False, **changes})


def test_images_are_all_different_and_those_that_were_sent():
    ring = Ring(Powder(), recipe(), 5, np.zeros(SHAPE, np.uint32))
    assert len({chunk.data for image in ring.chunks for chunk in image}) == 10
    assert len({chunk.hash for image in ring.chunks for chunk in image}) == 10
    for number in (0, 3, 8):
        for channel in (0, 1):
            sent = decompress(ring.chunks[number % 5][channel].data, "bslz4", elem_size=2)
            assert sent == ring.pixels(number, channel).tobytes()


@pytest.mark.parametrize(("to_zero", "value"), [(True, 0), (False, 65535)])
def test_masked_pixels_have_their_value(to_zero, value):
    model = find_model("eiger2-1m")
    shape = (model.full.height, model.full.width)
    mask = gaps(model, shape)
    ring = Ring(Powder(), recipe(channels=1, shape=shape, masked=True, to_zero=to_zero), 1, mask)
    image = ring.pixels(0, 0)
    assert (image[512:550] == value).all()
    assert (image[mask != 0] == value).all()
    assert image[mask == 0].max() < 1000
    assert 0.5 < image[mask == 0].mean() < 5


def test_given_images_are_shown_and_what_does_not_fit_is_the_largest_value():
    images = [np.array([[-1, 5, 70000]]), np.array([[1, 2, 3]])]
    source = Given(images)
    assert source.shape == (1, 3)
    assert source.image(0, 0, (1, 3), np.dtype("u2")).tolist() == [[65535, 5, 65535]]
    assert source.image(3, 0, (1, 3), np.dtype("u2")).tolist() == [[1, 2, 3]]
    assert source.image(0, 1, (1, 3), np.dtype("u2")).tolist() == [[1, 2, 3]]


def test_images_are_read_from_files(tmp_path):
    import fabio.edfimage

    stack = np.arange(24, dtype=np.uint16).reshape(2, 3, 4)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["entry/other"] = 3
        file["entry/data/data"] = stack
    fabio.edfimage.EdfImage(data=stack[0] + 100).write(str(tmp_path / "b.edf"))
    source = read_files([tmp_path / "a.h5", tmp_path / "b.edf"], 10)
    assert [image.tolist() for image in source.images] == [*stack.tolist(), (stack[0] + 100).tolist()]
    assert len(read_files([tmp_path / "a.h5"], 1).images) == 1


@pytest.mark.parametrize("content", [b"nonsense", b"\x89HDF\r\n\x1a\n nonsense"])
def test_files_that_are_none_are_refused(tmp_path, content):
    path = tmp_path / "some.cbf"
    path.write_bytes(content)
    with pytest.raises(ParamError, match="cannot be read"):
        read_files([path], 10)
    with pytest.raises(ParamError, match="cannot be read"):
        read_files([tmp_path / "missing.h5"], 10)


def test_images_of_two_shapes_or_of_fractions_are_refused(tmp_path):
    import fabio.edfimage

    for name, image in (
        ("a", np.zeros((3, 4), np.uint16)),
        ("b", np.zeros((4, 3), np.uint16)),
        ("c", np.zeros((3, 4))),
    ):
        fabio.edfimage.EdfImage(data=image).write(str(tmp_path / f"{name}.edf"))
    with pytest.raises(ParamError, match="different shapes"):
        read_files([tmp_path / "a.edf", tmp_path / "b.edf"], 10)
    with pytest.raises(ParamError, match="whole numbers"):
        read_files([tmp_path / "c.edf"], 10)


@pytest.mark.parametrize(
    ("faults", "sent"),
    [
        (Faults(), [4, 5, 6, 7]),
        (Faults(drop=frozenset({5, 9})), [4, 6, 7]),
        (Faults(duplicate=frozenset({4})), [4, 4, 5, 6, 7]),
        (Faults(reorder=frozenset({5})), [4, 6, 5, 7]),
        (Faults(reorder=frozenset({7})), [4, 5, 6, 7]),
        (Faults(reorder=frozenset({4}), drop=frozenset({4}), duplicate=frozenset({5})), [5, 5, 6, 7]),
    ],
)
def test_faults_change_what_is_sent(faults, sent):
    assert list(faults.order(4, 4)) == sent


def test_faults_are_read_from_options():
    assert numbers_of("--drop", "3,7-9") == {3, 7, 8, 9}
    assert numbers_of("--drop", "") == frozenset()
    assert stall_of("5:2.5") == (5, 2.5)
    assert stall_of("") is None
    with pytest.raises(ParamError, match="3,7-9"):
        numbers_of("--drop", "a")
    with pytest.raises(ParamError, match="5:2.5"):
        stall_of("5")
