"""Every node through the suite of its kind."""

from dataclasses import replace

import numpy as np
import pytest

from lima2_tango.core.acquisition import Flip
from lima2_tango.core.errors import GraphError
from lima2_tango.core.frame import FrameSpec
from lima2_tango.core.roi import Direction, PixelPosition, PixelSize, Rectangle
from lima2_tango.core.sparse import HEADER, SparseSpec, unpacked
from lima2_tango.processing.nodes.accumulation import Accumulator
from lima2_tango.processing.nodes.binning import Binning
from lima2_tango.processing.nodes.centre import CentreOfMass
from lima2_tango.processing.nodes.correction import Correction
from lima2_tango.processing.nodes.crop import Crop
from lima2_tango.processing.nodes.defects import Defects
from lima2_tango.processing.nodes.difference import Difference
from lima2_tango.processing.nodes.histogram import Histogram
from lima2_tango.processing.nodes.integration import Dummy, ErrorModel, Integration
from lima2_tango.processing.nodes.mirror import Mirror
from lima2_tango.processing.nodes.profiles import RoiProfiles
from lima2_tango.processing.nodes.rotation import Rotation
from lima2_tango.processing.nodes.sparse import Densification
from lima2_tango.processing.nodes.statistics import RoiStatistics
from lima2_tango.processing.nodes.threshold import Threshold
from lima2_tango.testing import references
from lima2_tango.testing.matrices import ring_matrix
from lima2_tango.testing.nodes import NodeContract, Paired, RowNodeContract, SummingContract

HEIGHT, WIDTH = 7, 9
MASK = np.indices((HEIGHT, WIDTH)).sum(0) % 4 != 0
FLAT = np.linspace(-0.1, 2.0, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH)
DEFECTIVE = np.isin(np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH), [0, 20, 21, 22, 29, 30, 31, 38, 39, 40, 62])
AXES = (2, 3)
FLIPS = {Flip.NONE: (), Flip.LEFT_RIGHT: (3,), Flip.UP_DOWN: (2,), Flip.ROTATE_180: AXES}
RECTANGLES = [
    Rectangle(topleft=PixelPosition(x=0, y=0), dimensions=PixelSize(x=WIDTH, y=HEIGHT)),
    Rectangle(topleft=PixelPosition(x=3, y=2), dimensions=PixelSize(x=4, y=3)),
]


def correction(background=None, flatfield=None, mask=None):
    node = Correction(background, flatfield, mask)
    return node, lambda data: references.corrected(data, background, flatfield, mask)


NODES = {
    "binning": (Binning(2, 3), lambda data: references.binned(data, 2, 3)),
    "binning of one": (Binning(1, 1), lambda data: data),
    "crop": (Crop(2, 1, 5, 4), lambda data: data[..., 1:5, 2:7]),
    **{f"mirror {flip}": (Mirror(flip), lambda data, axes=axes: np.flip(data, axes)) for flip, axes in FLIPS.items()},
    **{
        f"rotation {turns}": (Rotation(turns), lambda data, turns=turns: np.rot90(data, turns, AXES))
        for turns in (-1, 0, 1, 2, 3, 6)
    },
    "threshold below": (Threshold(high=18.5), lambda data: references.kept(data, -np.inf, 18.5)),
    "threshold above": (Threshold(low=20), lambda data: references.kept(data, 20, np.inf)),
    "threshold of a range": (Threshold(17, 22.9), lambda data: references.kept(data, 17, 22.9)),
    "no correction": correction(),
    "mask": correction(mask=MASK),
    "background": correction(background=3 * FLAT),
    "flat field": correction(flatfield=FLAT),
    "full correction": correction(3 * FLAT, FLAT, MASK),
}


@pytest.fixture(params=[(1, "u2"), (2, "f4")], ids=["1 channel u2", "2 channels f4"])
def spec(request):
    channels, dtype = request.param
    return FrameSpec(channels, HEIGHT, WIDTH, np.dtype(dtype))


class TestEveryNode(NodeContract):
    @pytest.fixture(params=NODES)
    def name(self, request):
        return request.param

    @pytest.fixture
    def node(self, name):
        return NODES[name][0]

    @pytest.fixture
    def reference(self, name):
        return NODES[name][1]


class TestDifference(NodeContract):
    @pytest.fixture
    def node(self):
        return Paired(Difference())

    @pytest.fixture
    def reference(self, spec):
        return lambda data: (data.astype("f8") - data[:, :, ::-1]).astype(Difference().output_spec(spec, spec).dtype)

    def test_frames_of_two_shapes_are_refused(self):
        with pytest.raises(GraphError, match="have no difference: give both one shape"):
            Difference().output_spec(FrameSpec(1, 4, 4, np.dtype("u2")), FrameSpec(1, 4, 5, np.dtype("u2")))


class TestDefects(NodeContract):
    RTOL = 1e-6

    @pytest.fixture
    def node(self, spec):
        return Defects(DEFECTIVE, spec)

    @pytest.fixture
    def reference(self, spec):
        return lambda data: references.mended(data, np.broadcast_to(DEFECTIVE, spec.shape))


class TestHistogram(NodeContract):
    MASKS = False

    @pytest.fixture(params=[None, MASK], ids=["all", "masked"])
    def valid(self, request):
        return request.param

    @pytest.fixture(params=[(10, 30, 20), (12.3, 27.7, 11), (-5, 15, 3)])
    def range_and_bins(self, request):
        return request.param

    @pytest.fixture
    def node(self, spec, valid, range_and_bins):
        return Histogram(*range_and_bins, spec, valid)

    @pytest.fixture
    def reference(self, spec, valid, range_and_bins):
        counted = np.broadcast_to(True if valid is None else valid, spec.shape)
        return lambda data: references.histograms(data, *range_and_bins, counted)


class TestIntegration(NodeContract):
    RTOL = 1e-5
    MASKS = False

    @pytest.fixture(params=["1 u1", "1 i4", "1 f4", "2 u2", "3 f4"])
    def spec(self, request):
        channels, dtype = request.param.split()
        return FrameSpec(int(channels), HEIGHT, WIDTH, np.dtype(dtype))

    @pytest.fixture(params=ErrorModel)
    def model(self, request):
        return request.param

    @pytest.fixture(params=[False, True], ids=["whole", "split"])
    def matrix(self, request):
        return ring_matrix((HEIGHT, WIDTH), 5, request.param)

    @pytest.fixture(params=[None, 21.0], ids=["no dummy", "dummy"])
    def dummy(self, request):
        return request.param

    @pytest.fixture
    def node(self, spec, model, matrix, dummy):
        """Of the last channel."""
        return Integration(
            matrix, spec, None, model, None if dummy is None else Dummy(dummy), channel=spec.channels - 1
        )

    @pytest.fixture
    def reference(self, matrix, model, dummy):
        dense = np.zeros((matrix.nb_bins, matrix.nb_pixels))
        dense[matrix.bins, matrix.pixels] = matrix.coefficients
        return lambda data: references.integrated(data[:, -1], dense, str(model), dummy)


class TestIntegrationInTwoDimensions(NodeContract):
    RTOL = 1e-5
    MASKS = False

    @pytest.fixture(params=["u2", "f4"])
    def spec(self, request):
        return FrameSpec(1, HEIGHT, WIDTH, np.dtype(request.param))

    @pytest.fixture(params=[ErrorModel.NO_VAR, ErrorModel.POISSON])
    def model(self, request):
        return request.param

    @pytest.fixture
    def matrix(self):
        return replace(ring_matrix((HEIGHT, WIDTH), 6, split=True), bin_shape=(2, 3))

    @pytest.fixture
    def node(self, spec, model, matrix):
        return Integration(matrix, spec, None, model, as_image=True)

    @pytest.fixture
    def reference(self, matrix, model):
        dense = np.zeros((matrix.nb_bins, matrix.nb_pixels))
        dense[matrix.bins, matrix.pixels] = matrix.coefficients

        def integrated(data):
            found = references.integrated(data, dense, str(model))
            return found.reshape(*found.shape[:2], 2, 3)

        return integrated


CENTRES = [1.0, 2.5, 4.0, 7.5]
RADIUS = np.hypot(*(np.indices((HEIGHT, WIDTH)) - 3.2))
RADIUS[1, 2] = np.nan
LAYOUT = SparseSpec(HEIGHT, WIDTH, np.array(CENTRES, "f4"), RADIUS, None, -1.0, 4.0)


def peaks_and_background(seed):
    rng = np.random.default_rng(seed)
    pixels = np.sort(rng.choice(np.flatnonzero(np.isfinite(RADIUS)), rng.integers(0, 6), replace=False))
    return dict(zip(pixels.tolist(), rng.poisson(300, len(pixels)).tolist(), strict=True)), rng.uniform(
        5, 9, 4
    ).tolist()


class TestDensification(NodeContract):
    RTOL = 1e-6

    @pytest.fixture
    def spec(self):
        return LAYOUT.packed

    @pytest.fixture
    def node(self):
        return Densification(LAYOUT)

    def frames(self, spec, n, seed=0):
        data = np.zeros((n, *spec.shape), np.uint8)
        for number in range(n):
            peaks, background = peaks_and_background(10 * seed + number)
            parts = [
                np.array(list(peaks), "<i4"),
                *(np.array(row, "<f4") for row in (list(peaks.values()), background)),
            ]
            head = HEADER.pack(WIDTH, HEIGHT, len(background), len(peaks), 0)
            packed = head + b"".join(part.tobytes() for part in (*parts, parts[-1]))
            data[number, 0, 0, : len(packed)] = np.frombuffer(packed, np.uint8)
        return data

    @pytest.fixture
    def reference(self):
        def dense(data):
            made = []
            for packed in data:
                frame = unpacked(packed)
                peaks = dict(zip(frame.pixels.tolist(), frame.intensity.tolist(), strict=True))
                made.append(references.densified(peaks, frame.average.tolist(), RADIUS, CENTRES, -1.0))
            return np.array(made)[:, np.newaxis]

        return dense

    def test_valid_pixels_do_not_depend_on_others(self, node, spec):
        valid = node.output_valid(None)
        assert valid.shape == (HEIGHT, WIDTH)
        assert np.argwhere(~valid).tolist() == [[1, 2]]

    def test_frames_of_another_kind_are_refused(self, node):
        with pytest.raises(GraphError, match="it makes packed sparse frames dense"):
            node.output_spec(FrameSpec(1, HEIGHT, WIDTH, np.dtype("u2")))


class TestStatistics(RowNodeContract):
    @pytest.fixture
    def make(self, spec):
        return lambda valid: RoiStatistics(RECTANGLES, [], spec, valid)

    @pytest.fixture
    def reference(self):
        return lambda data, valid: references.statistics(data, RECTANGLES, valid)


class TestProfiles(RowNodeContract):
    @pytest.fixture(params=Direction)
    def direction(self, request):
        return request.param

    @pytest.fixture
    def make(self, spec, direction):
        return lambda valid: RoiProfiles(RECTANGLES[1:], [direction], spec, valid)

    @pytest.fixture
    def reference(self, direction):
        return lambda data, valid: references.line_statistics(data, RECTANGLES[1], str(direction), valid)


class TestCentreOfMass(RowNodeContract):
    RTOL = 1e-12

    @pytest.fixture
    def make(self, spec):
        return lambda valid: CentreOfMass(RECTANGLES, "$.rois", spec, valid)

    @pytest.fixture
    def reference(self):
        return lambda data, valid: references.centres(data, RECTANGLES, valid)


class TestAccumulation(SummingContract):
    @pytest.fixture(params=[1, 4, 30])
    def make(self, spec, request):
        return lambda: Accumulator(request.param, spec)

    @pytest.fixture
    def reference(self):
        return references.accumulated
