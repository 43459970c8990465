"""Background, peaks and sparse frames equal what pyFAI finds, and say what they do where that has nothing to say."""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyFAI.detectors import Detector
from pyFAI.integrator.azimuthal import AzimuthalIntegrator

from lima2_tango.core.errors import GraphError, WireError
from lima2_tango.core.frame import FrameSpec
from lima2_tango.core.pool import Pool
from lima2_tango.core.sparse import SparseSpec, nb_picked, unpacked
from lima2_tango.processing.matrix import Matrix
from lima2_tango.processing.nodes.clipping import DEVIATION, MEAN, Background, Clipping, sought_of
from lima2_tango.processing.nodes.integration import Dummy, ErrorModel
from lima2_tango.processing.nodes.peaks import PeakPicker, Picking
from lima2_tango.processing.nodes.sparse import PEAKS, Overfull, PeakCounts, Sparsification, densify
from lima2_tango.processing.products import PixelTables
from lima2_tango.testing.matrices import matrix_of, ring_matrix, ring_radii
from lima2_tango.testing.nodes import PLACEHOLDER, NodeContract, lost_block, make_block, make_data

SHAPE = (211, 183)
BINS = 60
METHOD = ("no", "csr", "cython")
CLIPPED = (ErrorModel.POISSON, ErrorModel.AZIMUTHAL, ErrorModel.HYBRID)


@dataclass
class Geometry:
    """A detector somewhere, frames with peaks, and what pyFAI makes of them."""

    seed: int
    unit: str = "q_nm^-1"
    rng: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        place = {
            "dist": self.rng.uniform(0.05, 0.3),
            "poni1": self.rng.uniform(-0.005, 0.02),
            "poni2": self.rng.uniform(-0.005, 0.02),
            "rot1": self.rng.uniform(-0.3, 0.3),
            "rot2": self.rng.uniform(-0.3, 0.3),
        }
        detector = Detector(1e-4, 1e-4, max_shape=SHAPE)
        self.integrator = AzimuthalIntegrator(detector=detector, wavelength=1e-10, **place)
        self.mask = self.rng.random(SHAPE) < 0.05
        self.solid_angle = self.integrator.solidAngleArray(SHAPE)
        self.flat = self.rng.normal(1, 0.03, SHAPE).astype(np.float32)
        self.integrator.integrate1d(np.ones(SHAPE), BINS, method=METHOD, mask=self.mask, unit=self.unit)
        (self.engine,) = (made.engine for made in self.integrator.engines.values() if hasattr(made.engine, "indptr"))
        self.radius2d = self.integrator.center_array(SHAPE, unit=self.unit)
        self.centres = np.asarray(self.engine.bin_centers)

    @property
    def matrix(self) -> Matrix:
        data, indices, indptr = (np.array(part) for part in (self.engine.data, self.engine.indices, self.engine.indptr))
        return Matrix(data, indices.astype(np.int64), indptr.astype(np.int64), SHAPE)

    @property
    def weight(self) -> np.ndarray:
        return np.where(self.mask, 0.0, self.flat * self.solid_angle).reshape(-1)

    def frame(self, dtype: str = "u2") -> np.ndarray:
        """A background that falls with the radius, and spots of 3 x 3 pixels."""
        scale = self.radius2d / self.radius2d.max()
        frame = self.rng.poisson((20 + 100 * np.exp(-4 * scale)) * self.weight.reshape(SHAPE))
        for y, x in self.rng.integers(1, np.array(SHAPE) - 1, (40, 2)):
            frame[y - 1 : y + 2, x - 1 : x + 2] += self.rng.integers(20, 400)
        return frame.astype(dtype)

    def clipped(self, frame: np.ndarray, model: ErrorModel, cutoff: float = 0.0, cycles: int = 3) -> Any:
        return self.integrator.sigma_clip(
            frame, BINS, method=METHOD, mask=self.mask, unit=self.unit, flat=self.flat, error_model=str(model),
            thres=cutoff, max_iter=cycles,
        )  # fmt: skip

    def picked(self, frame: np.ndarray, model: ErrorModel, picking: Picking) -> tuple[np.ndarray, np.ndarray]:
        """Pixels that pyFAI's find_intense (sparsify.cl) takes, written down in numpy: its own runs on OpenCL only.

        Without those beside a ring that has no pixel, whose background pyFAI has as 0; also returns the others.
        """
        found = self.clipped(frame, model)
        mean, deviation = (np.interp(self.radius2d, self.centres, row) for row in (found.intensity, found.std))
        known = np.interp(self.radius2d, self.centres, np.diff(self.engine.indptr) > 0) == 1
        corrected = np.where(self.mask | ~known, -np.inf, frame / (self.flat * self.solid_angle))
        limit = np.maximum(picking.noise, picking.cutoff * np.hypot(deviation, picking.noise))
        return np.flatnonzero(corrected - mean > limit), known.reshape(-1)

    def node(self, model: ErrorModel, picking: Picking, spec: FrameSpec) -> Sparsification:
        layout = SparseSpec(*SHAPE, self.centres.astype("f4"), np.where(self.mask, np.nan, self.radius2d).astype("f4"))
        tables = PixelTables(self.weight)
        background = Background(self.matrix, spec, tables, Clipping(error_model=model))
        return Sparsification(background, PeakPicker(layout, tables, picking, (False, 0, 0)), layout, tables, spec)


def background_of(node, frame, valid=None):
    """(mean, deviation) of each bin."""
    made = node.process(make_block(frame[np.newaxis, np.newaxis], valid=valid), Pool(1 << 20)).data[0, :, 0]
    return made[MEAN], made[DEVIATION]


def sparse_of(node, frame):
    made = node.process(make_block(frame[np.newaxis, np.newaxis]), Pool(1 << 24))
    return unpacked(made.data[0])


def jaccard(one, other):
    return len(np.intersect1d(one, other)) / max(1, len(np.union1d(one, other)))


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    model=st.sampled_from(CLIPPED),
    dtype=st.sampled_from(["u2", "i4", "u4", "f4"]),
    cutoff=st.sampled_from([0.0, 4.0]),
    cycles=st.integers(0, 5),
)
def test_the_background_is_that_of_pyfai(seed, model, dtype, cutoff, cycles):
    geometry = Geometry(seed)
    spec, frame = FrameSpec(1, *SHAPE, np.dtype(dtype)), geometry.frame(dtype)
    expected = geometry.clipped(frame, model, cutoff, cycles)
    filled = np.asarray(expected.count) > 10
    node = Background(geometry.matrix, spec, PixelTables(geometry.weight), Clipping(cutoff, cycles, model))
    mean, deviation = background_of(node, frame)
    off = np.abs(mean / expected.intensity - 1)[filled], np.abs(deviation / expected.std - 1)[filled]
    assert np.quantile(off[0], 0.9) < 1e-5, "a pixel at a limit may be in for one and out for the other"
    assert np.quantile(off[1], 0.9) < 1e-5
    assert max(off[0].max(), off[1].max()) < 0.1


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    model=st.sampled_from(CLIPPED),
    cutoff=st.floats(2.5, 8),
    noise=st.floats(0, 3),
    dtype=st.sampled_from(["u2", "i4"]),
)
def test_the_pixels_picked_are_those_of_pyfai(seed, model, cutoff, noise, dtype):
    geometry, picking = Geometry(seed), Picking(cutoff, noise)
    frame = geometry.frame(dtype)
    found = sparse_of(geometry.node(model, picking, FrameSpec(1, *SHAPE, np.dtype(dtype))), frame)
    expected, known = geometry.picked(frame, model, picking)
    assert len(expected) > 50
    assert jaccard(found.pixels[known[found.pixels]], expected) >= 0.98
    assert np.all(np.diff(found.pixels) > 0)
    assert np.array_equal(found.intensity, frame.reshape(-1)[found.pixels].astype("f4"))
    assert found.shape == SHAPE


# One ring, in which all can be seen.

RING = (1, 64)


def ring_node(clipping=Clipping(), weight=None, dummy=None, dtype="f4", **tables):  # noqa: B008 - frozen
    matrix = matrix_of(np.ones((1, 64), np.float32), RING)
    weight = np.ones(64) if weight is None else weight
    return Background(matrix, FrameSpec(1, *RING, np.dtype(dtype)), PixelTables(weight, **tables), clipping, dummy)


def clipped_slowly(values, cycles):
    """(mean, deviation) of azimuthal clipping after Chauvenet, as one would write it down."""
    for _ in range(cycles):
        limit = math.sqrt(2 * math.log(max(3, len(values)) / math.sqrt(2 * math.pi))) * values.std()
        left = values[np.abs(values - values.mean()) <= limit]
        if len(left) in (0, len(values)):
            break
        values = left
    return values.mean(), values.std()


@pytest.mark.parametrize("cycles", [0, 1, 3, 20])
def test_cycles_leave_out_what_stands_out(cycles):
    values = np.random.default_rng(0).normal(100, 5, 64).astype("f4")
    values[[3, 30, 40]] = 300, 1000, 5
    found = background_of(ring_node(Clipping(0, cycles, ErrorModel.AZIMUTHAL)), values.reshape(RING))
    assert np.allclose(np.ravel(found), clipped_slowly(values.astype(float), cycles), rtol=1e-5)


def test_hybrid_ends_with_the_variance_of_counts():
    values = np.random.default_rng(0).poisson(100, 64).astype("u2")
    values[5] = 60_000
    mean, deviation = background_of(ring_node(Clipping(6, 3, ErrorModel.HYBRID), dtype="u2"), values.reshape(RING))
    kept = np.delete(values, 5)
    assert mean[0] == pytest.approx(kept.mean(), rel=1e-6)
    assert deviation[0] == pytest.approx(math.sqrt(kept.mean()), rel=1e-6)


def test_equal_pixels_are_all_kept():
    weight = np.random.default_rng(0).uniform(0.5, 2, 64)
    values = (7 * weight).astype("f4").reshape(RING)
    mean, deviation = background_of(ring_node(Clipping(0, 5, ErrorModel.AZIMUTHAL), weight), values)
    assert mean[0] == pytest.approx(7, rel=1e-6)
    assert deviation[0] < 1e-5
    flat = background_of(ring_node(Clipping(0, 5, ErrorModel.AZIMUTHAL)), np.full(RING, 7, "f4"))
    assert np.ravel(flat).tolist() == [7, 0]


def test_a_variance_of_zero_clips_nothing():
    node = ring_node(Clipping(0, 3, ErrorModel.VARIANCE), variance=np.zeros(64))
    values = np.arange(64.0, dtype="f4")
    assert np.ravel(background_of(node, values.reshape(RING))).tolist() == [31.5, 0]


def test_a_ring_that_loses_all_its_pixels_is_no_background():
    values = np.full(RING, np.nan, "f4")
    values[0, :2] = 0, 100
    mean, deviation = background_of(ring_node(Clipping(0, 3, ErrorModel.AZIMUTHAL)), values)
    assert (mean[0], deviation[0]) == (0, 0)


@pytest.mark.parametrize("model", [model for model in ErrorModel if model is not ErrorModel.NO_VAR])
def test_a_frame_without_a_pixel_has_no_background(model):
    node = ring_node(Clipping(error_model=model), variance=np.ones(64) if model is ErrorModel.VARIANCE else None)
    assert np.ravel(background_of(node, np.full(RING, np.nan, "f4"))).tolist() == [0, 0]
    dummy = ring_node(Clipping(error_model=ErrorModel.POISSON), dummy=Dummy(-1, 0.5), dtype="i4")
    assert np.ravel(background_of(dummy, np.full(RING, -1, "i4"))).tolist() == [0, 0]


def test_pixels_without_a_value_are_left_out():
    values = np.random.default_rng(0).poisson(50, RING).astype("f4")
    holes = values.copy()
    holes[0, 10:20], holes[0, 20:30], holes[0, 30] = np.nan, np.inf, -5
    node = ring_node(Clipping(error_model=ErrorModel.AZIMUTHAL), dummy=Dummy(-5))
    kept = np.concatenate([values[0, :10], values[0, 31:]]).astype(float)
    assert np.allclose(np.ravel(background_of(node, holes)), clipped_slowly(kept, 3), rtol=1e-5)


def test_dark_and_variance_of_pixels_count():
    values = np.random.default_rng(0).poisson(50, RING).astype("u2")
    dark, variance = np.full(64, 10.0), np.full(64, 4.0)
    node = ring_node(Clipping(9, 3), dark=dark, variance=variance, dtype="u2")
    mean, deviation = background_of(node, values)
    assert mean[0] == pytest.approx(values.mean() - 10)
    assert deviation[0] == pytest.approx(math.sqrt(values.mean() + 4))


def test_empty_bins_lie_between_their_neighbours():
    dense = np.zeros((6, 64), np.float32)
    dense[1, :20], dense[4, 20:] = 1, 1
    node = Background(matrix_of(dense, RING), FrameSpec(1, *RING, np.dtype("u2")), None, Clipping(9))
    frame = np.where(np.arange(64) < 20, 10, 40).astype("u2").reshape(RING)
    assert np.allclose(background_of(node, frame)[0], [10, 10, 20, 30, 40, 40])
    assert node.nb_filled == 2


def test_a_model_without_variance_is_refused():
    with pytest.raises(GraphError, match="no_var has no deviation to clip by; choose azimuthal"):
        ring_node(Clipping(error_model=ErrorModel.NO_VAR))


# A small detector, on which all can be seen.

SMALL, SMALL_BINS = (24, 20), 6
CENTRES, RADII = ring_radii(SMALL, SMALL_BINS)


def small_layout(weight=None):
    return SparseSpec(*SMALL, CENTRES.astype("f4"), RADII.astype("f4"), weight)


def small_node(
    picking=Picking(),  # noqa: B008
    dtype="u2",
    dummy=None,
    radius=RADII,
    clipping=Clipping(),  # noqa: B008
    channels=1,
    **tables,
):
    """Of the last channel."""
    spec = FrameSpec(channels, *SMALL, np.dtype(dtype))
    all_tables = PixelTables(**{"weight": np.ones(math.prod(SMALL)), **tables})
    layout = SparseSpec(*SMALL, CENTRES.astype("f4"), radius.astype("f4"))
    background = Background(ring_matrix(SMALL, SMALL_BINS), spec, all_tables, clipping, dummy, channels - 1)
    picker = PeakPicker(layout, all_tables, picking, sought_of(dummy, spec.dtype))
    return Sparsification(background, picker, layout, all_tables, spec)


def rings_slowly(frame, cycles=3):
    """[2, bin] of Poisson clipping after Chauvenet in rings that pixels belong to as a whole."""
    matrix, made = ring_matrix(SMALL, SMALL_BINS), np.zeros((2, SMALL_BINS))
    for b in range(SMALL_BINS):
        values = frame.reshape(-1)[matrix.pixels[matrix.bounds[b] : matrix.bounds[b + 1]]].astype(float)
        for cycle in range(cycles + 1):
            mean, deviation = values.mean(), math.sqrt(np.maximum(values, 1).mean())
            limit = math.sqrt(2 * math.log(max(3, len(values)) / math.sqrt(2 * math.pi))) * deviation
            left = values[np.abs(values - mean) <= limit]
            if cycle == cycles or len(left) == len(values):
                break
            values = left
        made[:, b] = mean, deviation
    return made


class TestBackground(NodeContract):
    RTOL, MASKS = 1e-5, False

    @pytest.fixture(params=[1, 2], ids="{} channels".format)
    def spec(self, request):
        return FrameSpec(request.param, *SMALL, np.dtype("i4"))

    @pytest.fixture
    def node(self, spec):
        return Background(ring_matrix(SMALL, SMALL_BINS), spec, channel=spec.channels - 1)

    @pytest.fixture
    def reference(self):
        return lambda data: np.stack([rings_slowly(frame[-1])[:, np.newaxis] for frame in data]).astype("f4")


class TestSparsification(NodeContract):
    MASKS = False
    PICKING = Picking(1.5)

    @pytest.fixture(params=[1, 2], ids="{} channels".format)
    def spec(self, request):
        return FrameSpec(request.param, *SMALL, np.dtype("u2"))

    @pytest.fixture
    def node(self, spec):
        return small_node(self.PICKING, channels=spec.channels)

    @pytest.fixture
    def reference(self):
        return None

    @pytest.mark.parametrize("seed", range(3))
    def test_equals_its_reference(self, node, spec, pool, reference, seed):
        data = make_data(spec, 5, seed)
        for frame, packed in zip(data, node.process(make_block(data), pool).data, strict=True):
            found, (mean, deviation) = unpacked(packed), rings_slowly(frame[-1])
            assert np.allclose(found.average, mean)
            assert np.allclose(found.deviation, deviation)
            mean, deviation = (np.interp(RADII, CENTRES, row) for row in (mean, deviation))
            noise = self.PICKING.noise
            limit = mean + np.maximum(noise, self.PICKING.cutoff * np.hypot(deviation, noise))
            assert found.pixels.tolist() == np.flatnonzero(frame[-1] > limit).tolist()
            assert found.intensity.tolist() == frame[-1][frame[-1] > limit].tolist()

    def test_a_placeholder_becomes_zeros(self, node, spec, pool):
        """It keeps its header: what is sent to a client must say how large the frame was."""
        found = unpacked(node.process(lost_block(spec), pool).data[PLACEHOLDER])
        assert (found.shape, found.pixels.size) == (SMALL, 0)
        assert not found.average.any()
        assert not found.deviation.any()


def flat_frame(value=20, dtype="u2", **pixels):
    frame = np.full(SMALL, value, dtype)
    for name, high in pixels.items():
        frame.reshape(-1)[int(name[1:])] = high
    return frame


def test_a_pixel_is_picked_above_its_limit_and_not_at_it():
    deviation = math.sqrt(20)
    limit = 20 + 4 * math.hypot(deviation, 0.6)
    found = sparse_of(small_node(dtype="f4"), flat_frame(20, "f4", p7=limit - 0.05, p9=limit + 0.05, p400=60))
    assert found.pixels.tolist() == [9, 400]
    assert found.intensity.tolist() == [np.float32(limit + 0.05), 60]


def test_noise_is_the_least_height_of_a_peak():
    azimuthal = Clipping(error_model=ErrorModel.AZIMUTHAL)
    frame = flat_frame(20, "u2", p100=24, p200=26)
    assert sparse_of(small_node(Picking(0.0, 5.0), clipping=azimuthal), frame).pixels.tolist() == [200]
    assert sparse_of(small_node(Picking(0.0, 3.0), clipping=azimuthal), frame).pixels.tolist() == [100, 200]


def test_masked_pixels_and_those_without_a_radius_or_a_value_are_not_picked():
    weight, radius = np.ones(math.prod(SMALL)), RADII.copy()
    weight[7], radius.reshape(-1)[8] = 0, np.nan
    node = small_node(dtype="f4", dummy=Dummy(700, 1), weight=weight, radius=radius)
    frame = flat_frame(20, "f4", p7=900, p8=900, p9=700.5, p10=np.nan, p11=np.inf, p12=900)
    assert sparse_of(node, frame).pixels.tolist() == [12]


def test_intensities_are_less_the_dark_current_and_not_normalised():
    node = small_node(weight=np.full(math.prod(SMALL), 2.0), dark=np.full(math.prod(SMALL), 5.0))
    found = sparse_of(node, flat_frame(25, "u2", p33=500))
    assert (found.pixels.tolist(), found.intensity.tolist()) == ([33], [495])
    assert np.allclose(found.average, 10)


def test_more_peaks_than_there_is_room_for_are_counted_and_the_first_are_kept():
    node = small_node(Picking(0.0, 0.0))
    frame = np.where(np.arange(math.prod(SMALL)) % 3, 0, 50).astype("u2").reshape(SMALL)
    frame[-1, -1] = 0
    block = node.process(make_block(np.stack([frame, flat_frame(20)])[:, np.newaxis]), Pool(1 << 22))
    capacity = node.sparse.capacity
    count = np.count_nonzero(frame)
    assert capacity == 64 < count
    found = unpacked(block.data[0])
    assert np.array_equal(found.pixels, np.flatnonzero(frame)[:capacity])
    assert nb_picked(block.data).tolist() == [count, 0]
    assert PeakCounts().rows(block, 3).tolist() == [(1, 3, count), (3, 3, 0)]
    assert Overfull(node.sparse).watch(block) == 1
    assert PEAKS.itemsize == 12


def test_dense_again_a_frame_has_its_peaks_and_a_smooth_background():
    weight = np.random.default_rng(0).uniform(0.5, 1, SMALL)
    layout = small_layout(weight.astype("f4"))
    frame = (100 * weight).round().astype("u2")
    frame[5, 6] = 1000
    found = sparse_of(small_node(weight=weight.reshape(-1)), frame)
    dense = densify(found, layout)
    assert dense[5, 6] == 1000
    assert np.allclose(dense, frame, atol=2)


def test_one_bin_is_a_background_like_any_other():
    spec = FrameSpec(1, *SMALL, np.dtype("u2"))
    layout = SparseSpec(*SMALL, np.ones(1, "f4"), RADII.astype("f4"))
    tables = PixelTables(np.ones(math.prod(SMALL)))
    background = Background(matrix_of(np.ones((1, math.prod(SMALL)), np.float32), SMALL), spec, tables)
    picker = PeakPicker(layout, tables, Picking(), (False, 0, 0))
    node = Sparsification(background, picker, layout, tables, spec)
    assert sparse_of(node, flat_frame(20, "u2", p77=500)).pixels.tolist() == [77]


def test_what_is_no_packed_frame_is_said_so():
    with pytest.raises(WireError, match="shorter than its header"):
        unpacked(np.zeros(3, np.uint8))
    with pytest.raises(WireError, match="takes 24 bytes, not 16"):
        unpacked(np.frombuffer(b"\1\0\1\0" + b"\1\0\0\0" + bytes(8), np.uint8))
