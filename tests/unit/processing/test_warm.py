"""Kernels are made ready before the first frame."""

import numpy as np

from lima2_tango.core.frame import FrameSpec
from lima2_tango.core.pool import Pool
from lima2_tango.core.sparse import SparseSpec
from lima2_tango.processing.kernels import (
    binning,
    clipping,
    correction,
    integration,
    peaks,
    profiles,
    protection,
    sparse,
    statistics,
)
from lima2_tango.processing.kernels.warm import warm
from lima2_tango.processing.nodes.binning import Binning
from lima2_tango.processing.nodes.clipping import Background, Clipping
from lima2_tango.processing.nodes.correction import Correction
from lima2_tango.processing.nodes.integration import ErrorModel, Integration
from lima2_tango.processing.nodes.peaks import PeakPicker, Picking
from lima2_tango.processing.nodes.sparse import Sparsification
from lima2_tango.processing.products import PixelTables
from lima2_tango.processing.sums import Pace, RunningSums
from lima2_tango.testing.matrices import ring_matrix, ring_radii
from lima2_tango.testing.nodes import make_block, make_data, with_gaps

KERNELS = [
    binning.bin_sum,
    correction.flatten,
    correction.keep_valid,
    correction.subtract,
    profiles.column_statistics,
    protection.first_above,
    statistics.region_statistics,
    integration.add_whole,
    integration.add_whole_poisson,
    integration.add_shared,
    integration.add_shared_poisson,
    integration.collect_azimuthal,
    clipping.clip_counts,
    clipping.clip_valid,
    peaks.pick,
    sparse.add_signal,
    sparse.add_peaks,
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


def test_diffraction_of_counts_of_a_warm_type_compiles_nothing():
    warm(["u2"])
    before, shape = compiled(), (12, 9)
    spec, pool = FrameSpec(1, *shape, np.dtype("u2")), Pool(1 << 20)
    centres, radius = ring_radii(shape, 4)
    layout = SparseSpec(*shape, centres.astype("f4"), radius.astype("f4"), None, np.nan, 4.0)
    tables, sought = PixelTables(np.full(108, 0.5)), (False, 0.0, 0.0)
    for model in (ErrorModel.POISSON, ErrorModel.AZIMUTHAL, ErrorModel.HYBRID):
        for split in (False, True):
            node = Integration(ring_matrix(shape, 4, split), spec, tables, model)
            node.process(make_block(make_data(spec, 3)), pool).lease.release()
        background = Background(ring_matrix(shape, 4), spec, tables, Clipping(error_model=model))
        sparsify = Sparsification(background, PeakPicker(layout, tables, Picking(), sought), layout, tables, spec)
        sums = RunningSums(spec, tables, sought, Pace(2))
        for data in (make_data(spec, 3), with_gaps(make_data(spec, 3))):
            frames = make_block(data)
            packed = sparsify.process(frames, pool)
            for made in sums.add(frames, packed, pool):
                for block in made:
                    block.lease.release()
            packed.lease.release()
    assert compiled() == before
