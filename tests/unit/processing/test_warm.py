"""Kernels are made ready before the first frame."""

import numpy as np

from lima2_tango.core.frame import FrameSpec
from lima2_tango.core.pool import Pool
from lima2_tango.processing.kernels import binning, correction, profiles, protection, statistics
from lima2_tango.processing.kernels.warm import warm
from lima2_tango.processing.nodes.binning import Binning
from lima2_tango.processing.nodes.correction import Correction
from lima2_tango.testing.nodes import make_block, make_data, with_gaps

KERNELS = [
    binning.bin_sum,
    correction.flatten,
    correction.keep_valid,
    correction.subtract,
    profiles.column_statistics,
    protection.first_above,
    statistics.region_statistics,
]


def compiled():
    return [len(kernel.signatures) for kernel in KERNELS]


def test_frames_of_a_warm_type_compile_nothing_wherever_they_lie():
    warm(["u2"])
    before = compiled()
    spec = FrameSpec(2, 5, 6, np.dtype("u2"))
    mask = np.ones((2, 5, 6), bool)
    mask[0, 1, 2] = False
    for data in (make_data(spec, 1), make_data(spec, 3), with_gaps(make_data(spec, 3))):
        for node in (Binning(3, 1), Correction(mask=mask), Correction(flatfield=np.ones((5, 6)), mask=mask)):
            node.process(make_block(data), Pool(1 << 20)).lease.release()
    assert compiled() == before


def test_no_type_is_begun_after_the_time_is_up():
    assert warm(["u2", "f4"], budget=-1.0) == []
