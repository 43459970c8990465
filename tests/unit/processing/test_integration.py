"""Azimuthal integration gives what pyFAI's csr engine gives, and says what it does where that has nothing to say."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyFAI.containers import ErrorModel as Reference
from pyFAI.detectors import Detector
from pyFAI.ext.preproc import preproc
from pyFAI.integrator.azimuthal import AzimuthalIntegrator

from lima2_tango.core.errors import GraphError
from lima2_tango.core.frame import FrameSpec
from lima2_tango.core.pool import Pool
from lima2_tango.processing.matrix import Matrix
from lima2_tango.processing.nodes.integration import Dummy, ErrorModel, Integration
from lima2_tango.processing.products import PixelTables
from lima2_tango.testing.matrices import matrix_of, ring_matrix
from lima2_tango.testing.nodes import make_block

TOLERANCE = 1e-5
REFERENCES = dict(zip(ErrorModel, Reference, strict=True))
SHAPE = (61, 83)
DUMMY = 25.0


@dataclass
class Geometry:
    """A detector somewhere, as pyFAI integrates it, with corrections of every kind."""

    seed: int
    split: str
    nb_bins: int = 40
    rng: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        place = {
            "dist": self.rng.uniform(0.05, 0.5),
            "poni1": self.rng.uniform(-0.005, 0.01),
            "poni2": self.rng.uniform(-0.005, 0.01),
            "rot1": self.rng.uniform(-0.3, 0.3),
            "rot2": self.rng.uniform(-0.3, 0.3),
        }
        detector = Detector(1e-4, 1e-4, max_shape=SHAPE)
        integrator = AzimuthalIntegrator(detector=detector, wavelength=1e-10, **place)
        self.mask = self.rng.random(SHAPE) < 0.1
        method = (self.split, "csr", "cython")
        integrator.integrate1d(np.ones(SHAPE), self.nb_bins, method=method, mask=self.mask, unit="q_nm^-1")
        (self.engine,) = (made.engine for made in integrator.engines.values() if hasattr(made.engine, "indptr"))
        self.solidangle = integrator.solidAngleArray(SHAPE).astype(np.float32)
        self.flat = self.rng.normal(1, 0.05, SHAPE).astype(np.float32)
        self.polarization = integrator.polarization(SHAPE, 0.9).astype(np.float32)
        self.dark = self.rng.uniform(0, 3, SHAPE).astype(np.float32)
        self.variance = self.rng.uniform(5, 30, SHAPE).astype(np.float32)

    @property
    def matrix(self) -> Matrix:
        data, indices, indptr = (np.array(part) for part in (self.engine.data, self.engine.indices, self.engine.indptr))
        return Matrix(data, indices.astype(np.int64), indptr.astype(np.int64), SHAPE)

    @property
    def weight(self) -> np.ndarray:
        return (self.flat.astype(float) * self.solidangle * self.polarization).reshape(-1)

    def frame(self, dtype: str) -> np.ndarray:
        return self.rng.poisson(20, SHAPE).astype(dtype)

    def reference(self, frame: np.ndarray, model: ErrorModel, dummy: Dummy | None) -> Any:
        return self.engine.integrate_ng(
            frame,
            variance=self.variance if model is ErrorModel.VARIANCE else None,
            error_model=REFERENCES[model],
            dummy=None if dummy is None else dummy.value,
            delta_dummy=None if dummy is None else dummy.delta,
            dark=self.dark,
            flat=self.flat,
            solidangle=self.solidangle,
            polarization=self.polarization,
        )


GEOMETRIES = {(seed, split): Geometry(seed, split) for seed in range(3) for split in ("no", "bbox", "full")}
GEOMETRIES |= {(3, "full"): Geometry(3, "full", 700)}  # bins narrower than pixels


def integrate(node: Integration, *frames: np.ndarray) -> np.ndarray:
    """[frame, channel, bin]"""
    made = node.process(make_block(np.stack(frames)[:, np.newaxis]), Pool(8 << 20))
    return made.data[:, :, 0]


def spec_of(frame: np.ndarray) -> FrameSpec:
    return FrameSpec(1, *frame.shape, frame.dtype)


@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=map(str, GEOMETRIES))
@pytest.mark.parametrize("model", ErrorModel)
@pytest.mark.parametrize("dummy", [None, Dummy(DUMMY), Dummy(DUMMY, 1.5)], ids=["no dummy", "dummy", "near dummy"])
def test_averages_and_errors_are_those_of_pyfai(geometry, model, dummy):
    variance = geometry.variance.reshape(-1).astype(float) if model is ErrorModel.VARIANCE else None
    tables = PixelTables(geometry.weight, geometry.dark.reshape(-1).astype(float), variance)
    for dtype in ("u2", "i4", "f4"):
        frame = geometry.frame(dtype)
        found = integrate(Integration(geometry.matrix, spec_of(frame), tables, model, dummy), frame)[0]
        expected = geometry.reference(frame, model, dummy)
        filled = np.asarray(expected.normalization) > 0
        assert filled.sum() > 30
        assert (found[:, ~filled] == (0 if dummy is None else DUMMY)).all()
        assert np.allclose(found[0, filled], expected.intensity[filled], rtol=TOLERANCE, atol=1e-6)
        if model is ErrorModel.NO_VAR:
            assert len(found) == 1
        else:
            assert np.allclose(found[1, filled], expected.sem[filled], rtol=TOLERANCE, atol=1e-6)


def test_the_variance_of_the_dark_image_is_added():
    geometry = GEOMETRIES[0, "full"]
    frame, dark_variance = geometry.frame("u2"), geometry.variance / 10
    tables = PixelTables(
        geometry.weight, geometry.dark.reshape(-1).astype(float), dark_variance.reshape(-1).astype(float)
    )
    found = integrate(Integration(geometry.matrix, spec_of(frame), tables, ErrorModel.POISSON), frame)[0]
    pixels = preproc(
        frame,
        dark=geometry.dark,
        dark_variance=dark_variance,
        flat=geometry.flat,
        solidangle=geometry.solidangle,
        polarization=geometry.polarization,
        error_model=Reference.POISSON,
        split_result=4,
    ).reshape(-1, 4)
    variance, weight = geometry.matrix.dot(pixels[:, 1], 2), geometry.matrix.dot(pixels[:, 2])
    assert np.allclose(found[1], np.sqrt(variance) / weight, rtol=TOLERANCE)


@st.composite
def matrices(draw: st.DrawFn) -> Matrix:
    """Any sparse matrix: bins without pixels, pixels in no bin, in many, and twice in the same."""
    rows, columns, nb_bins = draw(st.integers(1, 6)), draw(st.integers(1, 6)), draw(st.integers(1, 5))
    counts = draw(st.lists(st.integers(0, 8), min_size=nb_bins, max_size=nb_bins))
    size = sum(counts)
    pixels = draw(st.lists(st.integers(0, rows * columns - 1), min_size=size, max_size=size))
    whole = draw(st.booleans())
    coefficients = [1.0 if whole else draw(st.floats(0, 1, width=32)) for _ in range(size)]
    bounds = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return Matrix(np.array(coefficients, np.float32), np.array(pixels, np.int64), bounds, (rows, columns))


@settings(deadline=None)
@given(matrices(), st.integers(0, 2**32 - 1), st.sampled_from(["u1", "i2", "f4"]), st.booleans())
def test_any_matrix_gives_the_sums_of_its_definition(matrix, seed, dtype, poisson):
    rng = np.random.default_rng(seed)
    frame = rng.poisson(2, matrix.shape).astype(dtype)
    weight = np.where(rng.random(matrix.nb_pixels) < 0.3, 0, rng.uniform(0.5, 2, matrix.nb_pixels))
    model = ErrorModel.POISSON if poisson else ErrorModel.NO_VAR
    found = integrate(Integration(matrix, spec_of(frame), PixelTables(weight), model), frame)[0]
    counts, coefficients = frame.reshape(-1).astype(float), matrix.coefficients.astype(float)
    valid = (weight > 0)[matrix.pixels]

    def total(values):
        return np.bincount(matrix.bins, valid * values, matrix.nb_bins).astype(float)

    norm = total(coefficients * weight[matrix.pixels])
    average = np.divide(total(coefficients * counts[matrix.pixels]), norm, where=norm > 0, out=np.zeros_like(norm))
    assert np.allclose(found[0], average, rtol=1e-6, atol=1e-6)
    if poisson:
        variance = total(coefficients**2 * np.maximum(counts, 1)[matrix.pixels])
        error = np.divide(np.sqrt(variance), norm, where=norm > 0, out=np.zeros_like(norm))
        assert np.allclose(found[1], error, rtol=1e-6, atol=1e-6)


def test_sums_of_the_largest_counts_are_exact():
    shape = (300, 400)
    frame = np.full(shape, 2**32 - 1, "u4")
    matrix = matrix_of(np.ones((1, frame.size), np.float32), shape)
    for model in (ErrorModel.NO_VAR, ErrorModel.POISSON):
        assert integrate(Integration(matrix, spec_of(frame), None, model), frame)[0, 0] == np.float32(2**32 - 1)


@pytest.mark.parametrize("dtype", ["u2", "f4"])
def test_bins_without_a_pixel_are_empty(dtype):
    matrix = ring_matrix(SHAPE, 10)
    masked = np.isin(np.arange(matrix.nb_pixels), matrix.pixels[matrix.bins == 3])
    node = Integration(matrix, FrameSpec(1, *SHAPE, np.dtype(dtype)), PixelTables(~masked * 1.0), ErrorModel.POISSON)
    found = integrate(node, np.full(SHAPE, 7, dtype))[0]
    assert node.nb_filled == 9
    assert found[:, 3].tolist() == [0, 0]
    assert np.allclose(np.delete(found[0], 3), 7)


def test_a_frame_of_dummies_gives_empty_bins_of_the_dummy_value():
    matrix = ring_matrix(SHAPE, 10)
    frame = np.full(SHAPE, -1, "i4")
    found = integrate(Integration(matrix, spec_of(frame), None, ErrorModel.POISSON, Dummy(-1.0)), frame)
    assert (found == -1).all()


def test_what_is_not_finite_is_left_out():
    matrix = ring_matrix(SHAPE, 10)
    frame = np.full(SHAPE, 5, "f4")
    frame[3, 4], frame[30, 40], frame[50, 60] = np.nan, np.inf, -np.inf
    for model in ErrorModel:
        tables = PixelTables(np.ones(frame.size), None, np.ones(frame.size) if model is ErrorModel.VARIANCE else None)
        assert np.allclose(integrate(Integration(matrix, spec_of(frame), tables, model), frame)[0, 0], 5)


def test_pixels_without_variance_give_an_error_of_zero():
    matrix = ring_matrix(SHAPE, 4)
    frame = np.full(SHAPE, 5, "u2")
    tables = PixelTables(np.ones(frame.size), None, np.zeros(frame.size))
    assert (integrate(Integration(matrix, spec_of(frame), tables, ErrorModel.VARIANCE), frame)[0, 1] == 0).all()
    assert (integrate(Integration(matrix, spec_of(frame), None, ErrorModel.AZIMUTHAL), frame)[0, 1] < 1e-6).all()


def test_placeholders_become_zero():
    matrix = ring_matrix(SHAPE, 4)
    frames = np.full((3, 1, *SHAPE), 9, "u2")
    tables = PixelTables(np.ones(frames[0].size), np.full(frames[0].size, 2.0))
    node = Integration(matrix, FrameSpec(1, *SHAPE, np.dtype("u2")), tables, ErrorModel.POISSON)
    made = node.process(make_block(frames, valid=np.array([True, False, True])), Pool(1 << 20))
    assert made.data[1].tolist() == np.zeros((2, 1, 4)).tolist()
    assert np.allclose(made.data[[0, 2], 0], 7)


def test_frames_of_another_kind_are_refused():
    node = Integration(ring_matrix(SHAPE, 4), FrameSpec(1, *SHAPE, np.dtype("u2")))
    with pytest.raises(GraphError, match="the integration is for"):
        node.output_spec(FrameSpec(1, *SHAPE, np.dtype("i4")))
