"""P7: background, peaks and sparse frames of 6 Mpixel, against pyFAI's sigma clipping, one thread each.

pyFAI picks and packs peaks only on OpenCL. So its clipping is the reference, and the picking that goes with it is
written down in numpy to compare the pixels; the time of that is told, and is not part of the reference.
"""

import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lima2_tango.core.frame import Block, FrameSpec, Lease
from lima2_tango.core.pool import Pool
from lima2_tango.core.sparse import SparseFrame, SparseSpec, unpacked
from lima2_tango.processing.matrix import Matrix
from lima2_tango.processing.nodes.clipping import Background, Clipping
from lima2_tango.processing.nodes.integration import ErrorModel
from lima2_tango.processing.nodes.peaks import PeakPicker, Picking
from lima2_tango.processing.nodes.sparse import Sparsification
from lima2_tango.processing.products import PixelTables

from .rig import pinned
from .row import Row, Tell

GOAL = 3.0
"""The reference's time divided by ours."""
AGREEMENT = 0.98
"""Pixels picked by both, of those picked by either (Jaccard); a frame below it counts as lost."""
DETECTOR = "Pilatus 6M"
BINS = 1000
MEAN = 20
"""Mean of a pixel of the background [photon]."""
SPOTS, BRIGHTEST = 500, 2000
"""Peaks of a frame, 3 x 3 pixels each, and their most photons a pixel."""
FRAMES = 4
"""Different frames of a run."""
CYCLES, UNIT, METHOD = 3, "2th_deg", ("no", "csr", "cython")
PICKING = Picking(cutoff=4.0, noise=0.6)
Image = NDArray[Any]


def measure(short: bool, tell: Tell) -> list[Row]:
    """With the variance of counts and with that of the rings, three times (in the short form the first, once)."""
    tell(f"peaks on a {DETECTOR}, {BINS} bins, {CYCLES} cycles")
    with ProcessPoolExecutor(1, get_context("spawn"), _one_thread) as process:
        return process.submit(_rows, short).result()


def _one_thread() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"


@dataclass(frozen=True, slots=True)
class _Setting:
    """A detector and its frames, as both sides get them."""

    integrator: Any
    mask: Image
    solid_angle: Image
    radius: Image
    frames: Image

    @classmethod
    def made(cls) -> "_Setting":
        from pyFAI.detectors import detector_factory
        from pyFAI.integrator.azimuthal import AzimuthalIntegrator

        detector, random = detector_factory(DETECTOR), np.random.default_rng(0)
        integrator = AzimuthalIntegrator(0.2, 0.217, 0.212, 0.01, 0.02, detector=detector, wavelength=1e-10)
        frames = random.poisson(MEAN, (FRAMES, *detector.shape))
        for frame in frames:
            for y, x in random.integers(1, np.array(detector.shape) - 1, (SPOTS, 2)):
                frame[y - 1 : y + 2, x - 1 : x + 2] += random.integers(1, BRIGHTEST)
        mask, radius = detector.mask.astype(bool), integrator.center_array(detector.shape, unit=UNIT)
        return cls(integrator, mask, integrator.solidAngleArray(detector.shape), radius, frames.astype(np.uint16))

    def clipped(self, frame: Image, model: ErrorModel) -> Any:
        """The reference."""
        return self.integrator.sigma_clip(
            frame, BINS, method=METHOD, unit=UNIT, mask=self.mask, error_model=str(model), thres=0.0, max_iter=CYCLES
        )

    def picked(self, frame: Image, clipped: Any) -> NDArray[np.intp]:
        """Numbers of the pixels that pyFAI's find_intense (sparsify.cl) takes."""
        mean, deviation = (np.interp(self.radius, clipped.radial, row) for row in (clipped.intensity, clipped.std))
        limit = np.maximum(PICKING.noise, PICKING.cutoff * np.hypot(deviation, PICKING.noise))
        return np.flatnonzero(~self.mask & (frame / self.solid_angle - mean > limit))

    def ours(self, model: ErrorModel) -> Callable[[Image], SparseFrame]:
        """The node of the pipeline, with the matrix of pyFAI's engine; what it gives lasts until the next call."""
        clipped = self.clipped(self.frames[0], model)
        (engine,) = (made.engine for made in self.integrator.engines.values() if hasattr(made.engine, "indptr"))
        data, indices, indptr = (np.array(part) for part in (engine.data, engine.indices, engine.indptr))
        height, width = self.mask.shape
        matrix = Matrix(data, indices.astype(np.int64), indptr.astype(np.int64), (height, width))
        tables = PixelTables(np.where(self.mask, 0.0, self.solid_angle).reshape(-1))
        radius = np.where(self.mask, np.nan, self.radius).astype(np.float32)
        layout = SparseSpec(height, width, np.asarray(clipped.radial, np.float32), radius)
        spec = FrameSpec(1, height, width, self.frames.dtype)
        background = Background(matrix, spec, tables, Clipping(0.0, CYCLES, model))
        picker = PeakPicker(layout, tables, PICKING, (False, 0.0, 0.0))
        node, pool = Sparsification(background, picker, layout, tables, spec), Pool(1 << 26)

        def sparsify(frame: Image) -> SparseFrame:
            block = Block(frame[np.newaxis, np.newaxis], np.zeros(1, np.int64), 0, np.zeros(1), Lease())
            made = node.process(block, pool)
            made.lease.release()
            return unpacked(made.data[0])

        return sparsify


def _rows(short: bool) -> list[Row]:
    setting = _Setting.made()
    models = [ErrorModel.POISSON] if short else [ErrorModel.POISSON, ErrorModel.AZIMUTHAL]
    with pinned(1):
        return [_measured(setting, model, 1 if short else 3) for model in models]


def _measured(setting: _Setting, model: ErrorModel, runs: int) -> Row:
    ours = setting.ours(model)
    ours(setting.frames[0])
    times: dict[str, list[float]] = {"ours": [], "theirs": []}
    for _ in range(runs):
        times["ours"].append(_seconds(ours, setting.frames))
        times["theirs"].append(_seconds(lambda frame: setting.clipped(frame, model), setting.frames))
    mine, theirs = (statistics.median(times[side]) * 1e3 for side in ("ours", "theirs"))
    clipped = [setting.clipped(frame, model) for frame in setting.frames]
    begin = time.perf_counter()
    expected = [setting.picked(frame, found) for frame, found in zip(setting.frames, clipped, strict=True)]
    picking = (time.perf_counter() - begin) / FRAMES * 1e3
    agreement = [_jaccard(ours(frame).pixels, pixels) for frame, pixels in zip(setting.frames, expected, strict=True)]
    detail = (
        f"least agreement of the pixels picked {min(agreement):.4f}, {len(expected[0])} in the first frame; ours packs "
        f"them as well; picking in numpy, not counted, takes {picking:.0f} ms more; frames of "
        f"{setting.mask.size / 1e6:.1f} Mpixel, mask and solid angle"
    )
    what = f"clipping in {CYCLES} cycles, picking, packing, {model}, 1 thread; reference: pyFAI's sigma_clip alone"
    lost = sum(each < AGREEMENT for each in agreement)
    return Row("P7", what, mine, theirs, "ms", theirs / mine, GOAL, lost, runs, detail)


def _jaccard(one: NDArray[Any], other: NDArray[Any]) -> float:
    return len(np.intersect1d(one, other)) / max(1, len(np.union1d(one, other)))


def _seconds(side: Callable[[Image], Any], frames: Image) -> float:
    """A frame."""
    begin = time.perf_counter()
    for frame in frames:
        side(frame)
    return (time.perf_counter() - begin) / len(frames)
