"""Integration matrices from files, and what is refused instead of giving wrong numbers."""

import h5py
import numpy as np
import pytest
from scipy import sparse

from lima2_tango.core.errors import GraphError, ParamError
from lima2_tango.core.frame import FrameSpec
from lima2_tango.core.pool import Pool
from lima2_tango.processing.calibration import integration_of
from lima2_tango.processing.matrix import load_matrix
from lima2_tango.processing.nodes.integration import ErrorModel, Integration
from lima2_tango.processing.pipelines.fai import IntegrationParams
from lima2_tango.processing.products import PixelTables
from lima2_tango.testing.matrices import ring_matrix, write_matrix
from lima2_tango.testing.nodes import make_block

SHAPE = (40, 60)
SPEC = FrameSpec(1, *SHAPE, np.dtype("u2"))
MATRIX = ring_matrix(SHAPE, 12, split=True)
PATH = "$.fai.csr_path"


def load(path, spec=SPEC):
    return load_matrix(str(path), PATH, spec)


def write(path, **datasets):
    with h5py.File(path, "w") as file:
        for name, value in datasets.items():
            file[name] = value
    return path


def parts(matrix=MATRIX):
    return {"data": matrix.coefficients, "indices": matrix.pixels, "indptr": matrix.bounds}


def as_scipy(matrix):
    return sparse.csr_matrix(
        (matrix.coefficients, matrix.pixels, matrix.bounds), shape=(matrix.nb_bins, matrix.nb_pixels)
    )


def same(found):
    image = np.random.default_rng(0).random(MATRIX.nb_pixels)
    return found.nb_bins == MATRIX.nb_bins and np.allclose(found.dot(image), MATRIX.dot(image))


@pytest.mark.parametrize("group", ["/", "/entry/csr"])
@pytest.mark.parametrize("image_shape", [True, False])
def test_an_hdf5_file_is_read_wherever_its_matrix_is(tmp_path, group, image_shape):
    assert same(load(write_matrix(tmp_path / "csr.h5", MATRIX, group, image_shape)))


def test_the_group_of_the_path_is_taken(tmp_path):
    write_matrix(tmp_path / "csr.h5", MATRIX, "/a")
    write_matrix(tmp_path / "csr.h5", ring_matrix(SHAPE, 5), "/b")
    assert load(f"{tmp_path}/csr.h5::/b").nb_bins == 5
    with pytest.raises(ParamError, match="2 groups hold data, indices and indptr: /a, /b"):
        load(tmp_path / "csr.h5")


@pytest.mark.parametrize("layout", ["csr", "csc"])
def test_a_file_of_scipy_is_read(tmp_path, layout):
    sparse.save_npz(tmp_path / "m.npz", as_scipy(MATRIX).asformat(layout))
    assert same(load(tmp_path / "m.npz"))


def test_a_csc_matrix_is_known_by_its_length(tmp_path):
    csc = as_scipy(MATRIX).tocsc()
    found = load(write(tmp_path / "csc.h5", data=csc.data, indices=csc.indices, indptr=csc.indptr))
    assert same(found)
    assert all((np.diff(found.pixels[a:b]) > 0).all() for a, b in zip(found.bounds, found.bounds[1:], strict=False))


def test_coefficients_that_rounding_made_negative_count_as_none(tmp_path):
    data = MATRIX.coefficients.copy()
    data[::50] = -1e-9
    found = load(write(tmp_path / "csr.h5", **{**parts(), "data": data}))
    assert found.coefficients.min() == 0
    assert np.count_nonzero(found.coefficients) == np.count_nonzero(data > 0)


def test_a_shape_may_be_an_attribute(tmp_path):
    path = write(tmp_path / "csr.h5", **parts())
    with h5py.File(path, "a") as file:
        file.attrs["shape"] = (12, 2401)
    with pytest.raises(
        ParamError, match=r"its shape is \(.*12.*2401.*\) \(bins, pixels\), and the frames have 40 x 60"
    ):
        load(path)


@pytest.mark.parametrize("image_shape", [True, False])
@pytest.mark.parametrize("shape", [(60, 40), (40, 67), (50, 60), (34, 55)], ids=str)
def test_a_matrix_of_another_detector_is_refused(tmp_path, shape, image_shape):
    path = write_matrix(tmp_path / "csr.h5", ring_matrix(shape, 30), image_shape=image_shape)
    with pytest.raises(ParamError, match="the frames have 40 x 60 pixels") as caught:
        load(path)
    assert caught.value.path == PATH


def test_a_matrix_whose_rings_are_no_rings_is_taken_where_it_says_its_shape(tmp_path):
    pixels = np.random.default_rng(0).permutation(MATRIX.nb_pixels)
    shuffled = {**parts(), "indices": pixels[MATRIX.pixels]}
    with pytest.raises(ParamError, match="let the file say so in a dataset image_shape"):
        load(write(tmp_path / "a.h5", **shuffled))
    assert load(write(tmp_path / "b.h5", **shuffled, image_shape=SHAPE)).nb_bins == 12


def test_a_matrix_is_that_of_one_channel_of_the_frames(tmp_path):
    assert same(load(write_matrix(tmp_path / "csr.h5", MATRIX), FrameSpec(2, *SHAPE, np.dtype("u2"))))


REFUSED = {
    "no data": ({"data": None}, "0 groups hold data, indices and indptr: it has indices, indptr"),
    "lengths": ({"data": MATRIX.coefficients[1:]}, "indptr must rise"),
    "falling": ({"indptr": MATRIX.bounds[::-1]}, "indptr must rise"),
    "dimensions": ({"data": MATRIX.coefficients[np.newaxis]}, "must have one dimension"),
    "text": ({"data": np.bytes_("abc")}, "must have one dimension"),
    "real indices": ({"indices": MATRIX.pixels * 1.0}, "numbers are needed"),
    "negative index": ({"indices": MATRIX.pixels - 1}, "an index is negative"),
    "nan": ({"data": np.where(np.arange(len(MATRIX.coefficients)) == 7, np.nan, 1)}, "not finite"),
    "negative": ({"data": -MATRIX.coefficients}, "a coefficient is negative"),
    "format": ({"format": "coo"}, "its format is coo"),
    "csr that is called csc": ({"format": "csc"}, "as csc it is for images of 12 pixels, the frames have 2400"),
    "beyond single precision": (
        {"data": MATRIX.coefficients.astype("f8") * 1e300},
        r"a coefficient is negative, not finite or beyond 3.4e\+38",
    ),
    "index of 64 bits": ({"indices": MATRIX.pixels.astype("u8") + 2**63}, "has more than 63 bits"),
    "shape in words": ({"image_shape": "40 x 60"}, "cannot be read as a matrix"),
    "bins in words": ({"bin_shape": "3 x 4"}, "cannot be read as a matrix"),
    "bins of three": ({"bin_shape": (1, 3, 4)}, r"says that they are \(1, 3, 4\)"),
    "bins below 0": ({"bin_shape": (-3, -4)}, r"says that they are \(-3, -4\)"),
    "no bins": ({"data": [], "indices": np.empty(0, "i4"), "indptr": [0]}, "must have one dimension, and indptr two"),
}


@pytest.mark.parametrize(("changes", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_matrix_is_refused_with_the_reason(tmp_path, changes, reason):
    datasets = {name: value for name, value in (parts() | changes).items() if value is not None}
    with pytest.raises(ParamError, match=reason) as caught:
        load(write(tmp_path / "csr.h5", **datasets))
    assert caught.value.path == PATH


def test_more_bins_than_a_vector_can_have_are_refused(tmp_path):
    bounds = np.append(MATRIX.bounds, np.full(70_000, MATRIX.bounds[-1]))
    with pytest.raises(ParamError, match="70012 bins, 1 to 65535 are possible"):
        load(write(tmp_path / "csr.h5", **{**parts(), "indptr": bounds}))


@pytest.mark.parametrize(
    ("name", "reason"), [("", "a file with the integration matrix is needed"), ("none.h5", "no such")]
)
def test_a_file_that_is_not_there_is_refused(tmp_path, name, reason):
    with pytest.raises(ParamError, match=reason):
        load(tmp_path / name if name else "")


def test_a_file_that_is_no_hdf5_is_refused(tmp_path):
    (tmp_path / "csr.h5").write_text("no matrix")
    with pytest.raises(ParamError, match="cannot be read as a matrix"):
        load(tmp_path / "csr.h5")


def test_a_damaged_archive_is_refused(tmp_path):
    (tmp_path / "csr.npz").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(ParamError, match="cannot be read as a matrix .*zip"):
        load(tmp_path / "csr.npz")


def test_bins_in_two_dimensions_say_their_shape_and_that_of_the_frames(tmp_path):
    assert load(write(tmp_path / "a.h5", **parts(), image_shape=SHAPE, bin_shape=(3, 4))).bin_shape == (3, 4)
    with pytest.raises(ParamError, match=r"it has 12 bins, and says that they are \(3, 5\) \(azimuth, radius\)"):
        load(write(tmp_path / "b.h5", **parts(), image_shape=SHAPE, bin_shape=(3, 5)))
    with pytest.raises(ParamError, match="does not say for which images: add a dataset image_shape"):
        load(write(tmp_path / "c.h5", **parts(), bin_shape=(3, 4)))


def test_an_image_of_bins_may_have_more_than_a_vector(tmp_path):
    ring = write_matrix(tmp_path / "csr.h5", ring_matrix((300, 300), 20))
    with h5py.File(ring, "a") as file:
        bins = 70_000
        file["bin_shape"] = (70, 1000)
        bounds = np.concatenate([file["indptr"][:], np.full(bins - 20, file["indptr"][-1])])
        del file["indptr"]
        file["indptr"] = bounds
    spec = FrameSpec(1, 300, 300, np.dtype("u2"))
    with pytest.raises(ParamError, match="it has 70000 bins, 1 to 65535 are possible"):
        load(ring, spec)
    params = IntegrationParams(csr_path=ring)
    node = integration_of(params, spec, None, as_image=True)
    frame = np.random.default_rng(0).poisson(5, (1, 1, 300, 300)).astype("u2")
    made = node.process(make_block(frame), Pool(16 << 20)).data[0]
    assert made.shape == (2, 70, 1000)
    few = Integration(ring_matrix((300, 300), 20), spec, None, ErrorModel.POISSON)
    assert np.array_equal(made.reshape(2, -1)[:, :20], few.process(make_block(frame), Pool(16 << 20)).data[0, :, 0])


def test_bins_in_one_dimension_are_no_image(tmp_path):
    ring = write_matrix(tmp_path / "csr.h5", MATRIX)
    with pytest.raises(ParamError, match="its bins have one dimension: make it with azimuthal bins"):
        integration_of(IntegrationParams(csr_path=ring), SPEC, None, as_image=True)
    with pytest.raises(GraphError, match="have one dimension"):
        Integration(MATRIX, SPEC, as_image=True)


@pytest.mark.parametrize("model", ErrorModel)
def test_csc_and_csr_give_the_same(tmp_path, model):
    csc = as_scipy(MATRIX).tocsc()
    written = write(tmp_path / "csc.h5", data=csc.data, indices=csc.indices, indptr=csc.indptr, format="csc")
    frame = np.random.default_rng(0).poisson(30, (2, 1, *SHAPE)).astype("u2")
    tables = PixelTables(np.random.default_rng(1).uniform(0.5, 1.5, MATRIX.nb_pixels), None, np.ones(MATRIX.nb_pixels))
    made = [
        Integration(matrix, SPEC, tables, model).process(make_block(frame), Pool(1 << 20)).data
        for matrix in (MATRIX, load(written))
    ]
    assert np.allclose(*made, rtol=1e-6)
