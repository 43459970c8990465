"""`lima2 calibrate`: its files give what pyFAI gives; nonsense is refused with a sentence."""

import json
import re
from pathlib import Path

import h5py
import numpy as np
import pytest
from fabio.edfimage import EdfImage
from pyFAI.detectors import Detector
from pyFAI.integrator.azimuthal import AzimuthalIntegrator
from typer.testing import CliRunner

from lima2_tango.cli.main import app
from lima2_tango.processing.offline import process
from lima2_tango.processing.pipelines.fai import FaiParams

SHAPE = (60, 80)
UNITS = ["q_nm^-1", "2th_deg", "r_mm", "q_A^-1", "2th_rad"]


def geometry(seed=0, wavelength=1e-10):
    dist, poni1, poni2, *rotations = np.random.default_rng(seed).uniform(0.02, 0.08, 6) * [1, 0.1, 0.1, 1, 1, 1]
    detector = Detector(1e-4, 1e-4, max_shape=SHAPE)
    return AzimuthalIntegrator(dist, poni1, poni2, *rotations, detector=detector, wavelength=wavelength)


def poni_file(folder, integrator, shape=SHAPE):
    """As pyFAI saves it, for frames of `shape` (None: the file does not say)."""
    path = folder / "detector.poni"
    integrator.save(str(path))
    text = path.read_text()
    assert '"max_shape": [60, 80]' in text
    replacement = "" if shape is None else f'"max_shape": {list(shape)}'
    path.write_text(text.replace('"max_shape": [60, 80]', replacement).replace(", }", "}").replace(", ,", ","))
    return str(path)


def calibrate(*options):
    return CliRunner().invoke(app, ["calibrate", *map(str, options)])


def written(*options):
    result = calibrate(*options)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def read(path, name="data"):
    with h5py.File(path) as file:
        return file[name][()]


@pytest.mark.parametrize("splitting", ["no", "bbox", "full"])
@pytest.mark.parametrize("seed", range(3))
def test_the_pipeline_then_gives_what_pyfai_gives(tmp_path, splitting, seed):
    rng = np.random.default_rng(seed)
    integrator = geometry(seed)
    mask = rng.random(SHAPE) < 0.05
    np.save(tmp_path / "mask.npy", mask)
    params = written(
        *(poni_file(tmp_path, integrator), "-o", tmp_path, "--bins", 40, "--splitting", splitting),
        *("--mask", tmp_path / "mask.npy", "--polarization", 0.9),
    )
    frame = rng.poisson(100, SHAPE).astype(np.uint16)
    (result,) = process(frame, "Fai", params)
    expected = integrator.integrate1d(
        frame,
        40,
        method=(splitting, "csr", "cython"),
        mask=mask,
        polarization_factor=0.9,
        error_model="poisson",
        unit="q_nm^-1",
    )
    assert np.allclose(result.data["fai_averint"], expected.intensity, rtol=1e-5)
    assert np.allclose(result.data["fai_errors"], expected.sigma, rtol=1e-5)
    assert np.allclose(read(tmp_path / "bin_centers.h5"), expected.radial)


@pytest.mark.parametrize("splitting", ["no", "bbox", "full"])
@pytest.mark.parametrize("model", ["no_var", "poisson", "azimuthal", "hybrid"])
def test_rings_in_parts_give_what_pyfai_gives_in_two_dimensions(tmp_path, splitting, model):
    integrator, frame = geometry(1), np.random.default_rng(1).poisson(100, SHAPE).astype(np.uint16)
    params = written(*(
        poni_file(tmp_path, integrator),
        "-o",
        tmp_path,
        "--bins",
        25,
        "--splitting",
        splitting,
        "--azimuths",
        7,
    ))
    params["fai"]["error_model"] = model
    (result,) = process(frame, "Fai", params)
    expected = integrator.integrate2d_ng(
        *(frame, 25, 7),
        method=(splitting, "csr", "cython"),
        error_model=None if model == "no_var" else model,
        unit="q_nm^-1",
    )
    found = result.data["fai_averint"].reshape(7, 25)
    assert np.count_nonzero(expected.intensity) > 100
    assert np.allclose(found, expected.intensity, rtol=1e-5)
    assert np.allclose(read(tmp_path / "csr.h5", "azimuth"), expected.azimuthal)
    assert np.allclose(read(tmp_path / "bin_centers.h5"), expected.radial)
    if model != "no_var":
        assert np.allclose(result.data["fai_errors"].reshape(7, 25), expected.sem, rtol=1e-5)


@pytest.mark.parametrize("unit", UNITS)
def test_bins_and_pixels_have_their_radius_in_one_unit(tmp_path, unit):
    written(poni_file(tmp_path, geometry()), "-o", tmp_path, "--unit", unit, "--bins", 30)
    centres, radius = read(tmp_path / "bin_centers.h5"), read(tmp_path / "r_center.h5")
    assert radius.shape == SHAPE
    assert np.array_equal(read(tmp_path / "csr.h5", "radius"), centres)
    half = (centres[1] - centres[0]) / 2
    assert centres[0] - half < radius.min()
    assert radius.max() < centres[-1] + 3 * half
    data, indices, indptr = (read(tmp_path / "csr.h5", name) for name in ("data", "indices", "indptr"))
    row = slice(indptr[15], indptr[16])
    assert np.average(radius.reshape(-1)[indices[row]], weights=data[row]) == pytest.approx(centres[15], abs=half)


def test_the_fragment_is_what_the_pipeline_takes(tmp_path):
    params = written(poni_file(tmp_path, geometry()), "-o", tmp_path / "new" / "folder")
    assert FaiParams.parse(json.dumps(params)).fai.csr_path == str(tmp_path / "new" / "folder" / "csr.h5")
    assert "radius1d_path" not in params["fai"]
    assert (tmp_path / "new" / "folder" / "r_center.h5").exists()


def test_without_solid_angle_there_is_no_correction(tmp_path):
    params = written(poni_file(tmp_path, geometry()), "-o", tmp_path, "--no-solid-angle")
    assert set(params["fai"]) == {"csr_path", "mask_path"}
    assert not (tmp_path / "solid_angle.h5").exists()


def test_by_default_there_is_a_bin_for_each_pixel_of_the_radius(tmp_path):
    integrator = geometry()
    written(poni_file(tmp_path, integrator), "-o", tmp_path)
    assert len(read(tmp_path / "bin_centers.h5")) == integrator.guess_npt_rad()


def test_the_shape_may_be_said(tmp_path):
    written(poni_file(tmp_path, geometry(), shape=None), "-o", tmp_path, "--shape", *SHAPE)
    assert read(tmp_path / "csr.h5", "image_shape").tolist() == list(SHAPE)


def test_the_gaps_of_a_known_detector_are_masked(tmp_path):
    poni = tmp_path / "pilatus.poni"
    AzimuthalIntegrator(0.1, 0.04, 0.04, detector="Pilatus300k", wavelength=1e-10).save(str(poni))
    written(poni, "-o", tmp_path, "--bins", 100)
    mask = read(tmp_path / "mask.h5")
    assert mask.shape == (619, 487)
    assert mask[200].all()
    assert not mask[100].any()


def test_files_that_exist_are_left_alone(tmp_path):
    poni = poni_file(tmp_path, geometry())
    written(poni, "-o", tmp_path)
    before = (tmp_path / "csr.h5").read_bytes()
    refused = calibrate(poni, "-o", tmp_path, "--bins", 7)
    assert refused.exit_code == 2
    assert "--overwrite" in refused.stderr
    assert (tmp_path / "csr.h5").read_bytes() == before
    written(poni, "-o", tmp_path, "--bins", 7, "--overwrite")
    assert len(read(tmp_path / "bin_centers.h5")) == 7


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--bins", -1], "--bins"),
        (["--bins", 70000], "65535"),
        (["--splitting", "maybe"], "--splitting"),
        (["--unit", "furlong"], "--unit"),
        (["--shape", 5, 5], "60 x 80"),
        (["--bins", 65535, "--azimuths", 65535], "with --bins 65535 not more than 1024"),
        (["--azimuths", 0], "--azimuths"),
        (["--mask", "cut.edf"], "Data stream is incomplete"),
        (["--polarization", 3], "--polarization"),
        (["--polarization", "nan"], "--polarization"),
        (["--mask", "gone.edf"], "no such file"),
        (["--mask", "all.npy"], "every pixel is masked"),
        (["--mask", "small.npy"], "its shape is (3, 3)"),
        (["--pipeline", "Legacy"], "no calibration"),
        (["--pipeline", "Nothing"], "no such pipeline"),
    ],
)
def test_nonsense_is_refused(tmp_path, monkeypatch, options, says):
    monkeypatch.chdir(tmp_path)
    np.save("all.npy", np.ones(SHAPE))
    np.save("small.npy", np.ones((3, 3)))
    EdfImage(data=np.zeros(SHAPE, "i4")).write("whole.edf")
    Path("cut.edf").write_bytes(Path("whole.edf").read_bytes()[:-500])
    result = calibrate(poni_file(tmp_path, geometry()), "-o", tmp_path / "out", *options)
    assert result.exit_code == 2
    assert says in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_geometry_must_be_one(tmp_path):
    (tmp_path / "text.poni").write_text("nothing of the kind")
    (tmp_path / "bad.poni").write_text("Distance: far\nPoni1: 0\nPoni2: 0\n")
    (tmp_path / "near.poni").write_text("PixelSize1: 1e-4\nPixelSize2: 1e-4\nDistance: 0\nPoni1: 0\nPoni2: 0\n")
    (tmp_path / "binary.poni").write_bytes(b"\xff\x00\x81")
    for name in ("text.poni", "bad.poni", "near.poni", "binary.poni", "gone.poni"):
        refused = calibrate(tmp_path / name, "-o", tmp_path / "out", "--shape", 5, 5)
        assert refused.exit_code == 2, name
        assert f'GEOMETRY = "{tmp_path / name}"' in refused.stderr


@pytest.mark.parametrize(
    ("line", "other", "says"),
    [
        ("Rot1", "nan", "its rot1 is nan"),
        ("Rot2", "inf", "its rot2 is inf"),
        ("Poni1", "-inf", "its poni1 is -inf"),
        ("Distance", "-0.1", "its distance is -0.1 m"),
        ("Wavelength", "-1e-10", "its wavelength is -1e-10 m"),
        ("Wavelength", "nan", "its wavelength is nan m"),
        ('"pixel1"', "0", "its pixel height is None m"),
        ('"pixel2"', "-1e-4", "its pixel width is -0.0001 m"),
        ('"pixel2"', "NaN", "its pixel width is nan m"),
        ('"max_shape"', "[0, 80]", "its detector has the shape (0, 80), not rows and columns"),
        ('"max_shape"', "[3, 60, 80]", "its detector has the shape (3, 60, 80)"),
        ('"max_shape"', "[60.5, 80]", "its detector has the shape (60.5, 80)"),
        ('"max_shape"', '"all"', "not rows and columns"),
        ('"max_shape"', "[100000, 100000]", "no detector has 100000 x 100000 pixels"),
    ],
)
def test_numbers_that_are_no_geometry_are_refused_and_not_integrated_with(tmp_path, line, other, says):
    poni = Path(poni_file(tmp_path, geometry()))
    changed, count = re.subn(rf"{line}: (\[.*?\]|[^,}}\n]*)", lambda _: f"{line}: {other}", poni.read_text())
    assert count == 1
    poni.write_text(changed)
    refused = calibrate(poni, "-o", tmp_path / "out")
    assert refused.exit_code == 2
    assert says in refused.stderr
    assert not (tmp_path / "out").exists()


def test_a_radius_that_needs_the_wavelength(tmp_path):
    poni = poni_file(tmp_path, geometry(wavelength=None))
    refused = calibrate(poni, "-o", tmp_path)
    assert refused.exit_code == 2
    assert "wavelength" in refused.stderr
    written(poni, "-o", tmp_path, "--unit", "2th_deg")


def test_a_shape_is_needed_where_the_geometry_does_not_say(tmp_path):
    refused = calibrate(poni_file(tmp_path, geometry(), shape=None), "-o", tmp_path)
    assert refused.exit_code == 2
    assert "rows and columns" in refused.stderr
