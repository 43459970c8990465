"""Every node through one suite."""

import numpy as np
import pytest

from lima2_tango.core.acquisition import Flip
from lima2_tango.core.frame import FrameSpec
from lima2_tango.processing.nodes.binning import Binning
from lima2_tango.processing.nodes.correction import Correction
from lima2_tango.processing.nodes.crop import Crop
from lima2_tango.processing.nodes.integration import Dummy, ErrorModel, Integration
from lima2_tango.processing.nodes.mirror import Mirror
from lima2_tango.testing.matrices import ring_matrix
from lima2_tango.testing.nodes import NodeContract

HEIGHT, WIDTH = 7, 9
MASK = np.indices((HEIGHT, WIDTH)).sum(0) % 4 != 0
FLAT = np.linspace(-0.1, 2.0, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH)
NODES = {
    "binning": Binning(2, 3),
    "binning of one": Binning(1, 1),
    "crop": Crop(2, 1, 5, 4),
    **{f"mirror {flip}": Mirror(flip) for flip in Flip},
    "no correction": Correction(),
    "mask": Correction(mask=MASK),
    "background": Correction(background=3 * FLAT),
    "flat field": Correction(flatfield=FLAT),
    "full correction": Correction(3 * FLAT, FLAT, MASK),
}


class TestEveryNode(NodeContract):
    @pytest.fixture(params=NODES.values(), ids=NODES)
    def node(self, request):
        return request.param

    @pytest.fixture(params=[(1, "u2"), (2, "f4")], ids=["1 channel u2", "2 channels f4"])
    def spec(self, request):
        channels, dtype = request.param
        return FrameSpec(channels, HEIGHT, WIDTH, np.dtype(dtype))


class TestIntegration(NodeContract):
    @pytest.fixture(params=["u1", "i4", "f4"])
    def spec(self, request):
        return FrameSpec(1, HEIGHT, WIDTH, np.dtype(request.param))

    @pytest.fixture(params=ErrorModel)
    def model(self, request):
        return request.param

    @pytest.fixture(params=[False, True], ids=["whole", "split"])
    def split(self, request):
        return request.param

    @pytest.fixture(params=[None, Dummy(21.0)], ids=["no dummy", "dummy"])
    def node(self, spec, model, split, request):
        return Integration(ring_matrix((HEIGHT, WIDTH), 5, split), spec, None, model, request.param)
