"""P6: azimuthal integration of 6 Mpixel into 1000 bins, against the fastest of pyFAI's engines, one thread each.

pyFAI's OpenMP takes its number of threads when it is loaded, so all is measured in a process of its own.
"""

import os
import statistics
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lima2_tango.core.frame import Block, FrameSpec, Lease
from lima2_tango.core.pool import Pool
from lima2_tango.processing.matrix import Matrix
from lima2_tango.processing.nodes.integration import ErrorModel, Integration
from lima2_tango.processing.products import PixelTables

from .rig import pinned
from .row import Row, Tell

GOAL = 1.5
"""The reference's time divided by ours."""
TOLERANCE = 1e-5
"""Largest difference from pyFAI's csr engine, relative; a bin beyond it counts as lost."""
DETECTOR = "Pilatus 6M"
BINS = 1000
MEAN = 20
"""Mean of a pixel [photon]."""
FRAMES = 4
"""Different frames of a run."""
ENGINES = ("csc", "csr", "lut", "histogram")
"""Of pyFAI; in the short form only the first two, of which one has been the fastest so far."""
Image = NDArray[Any]


def measure(short: bool, tell: Tell) -> list[Row]:
    """With the pixel splittings `no` and `full`, without variance and with that of counts, three times (once)."""
    tell(f"azimuthal integration, {DETECTOR}, {BINS} bins")
    with ProcessPoolExecutor(1, get_context("spawn"), _one_thread) as process:
        return [row for split in ("no", "full") for row in process.submit(_split, split, short).result()]


def _one_thread() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"


@dataclass(frozen=True, slots=True)
class _Setting:
    """A detector, its frames and its corrections, as both sides get them."""

    integrator: Any
    mask: Image
    flat: Image
    solid_angle: Image
    frames: Image

    @classmethod
    def made(cls) -> "_Setting":
        from pyFAI.detectors import detector_factory
        from pyFAI.integrator.azimuthal import AzimuthalIntegrator

        detector, random = detector_factory(DETECTOR), np.random.default_rng(0)
        integrator = AzimuthalIntegrator(0.2, 0.217, 0.212, 0.01, 0.02, detector=detector, wavelength=1e-10)
        flat = random.normal(1, 0.03, detector.shape).astype(np.float32)
        frames = random.poisson(MEAN, (FRAMES, *detector.shape)).astype(np.uint16)
        return cls(integrator, detector.mask.astype(bool), flat, integrator.solidAngleArray(detector.shape), frames)

    def theirs(self, split: str, engine: str, model: ErrorModel) -> Callable[[Image], Any]:
        """Integrate one frame; of the engines with a matrix the bare product, without what surrounds it."""
        from pyFAI.containers import ErrorModel as Model

        error_model = Model.POISSON if model is ErrorModel.POISSON else Model.NO
        method = (split, engine, "cython")

        def whole(frame: Image) -> Any:
            corrections = {"mask": self.mask, "flat": self.flat, "error_model": error_model}
            return self.integrator.integrate1d(frame, BINS, method=method, unit="2th_deg", **corrections)

        whole(self.frames[0])
        made = [each.engine for key, each in self.integrator.engines.items() if key.algo_lower == engine]
        if not made or not hasattr(made[0], "integrate_ng"):
            return whole
        corrections = {"flat": self.flat, "solidangle": self.solid_angle, "error_model": error_model}
        return lambda frame: made[0].integrate_ng(frame, **corrections)

    def ours(self, model: ErrorModel) -> Callable[[Image], Image]:
        """The node of the pipeline, with the matrix of the csr engine; gives [channel, bin]."""
        (engine,) = (each.engine for key, each in self.integrator.engines.items() if key.algo_lower == "csr")
        data, indices, indptr = (np.array(part) for part in (engine.data, engine.indices, engine.indptr))
        height, width = self.flat.shape
        matrix = Matrix(data, indices.astype(np.int64), indptr.astype(np.int64), (height, width))
        weight = (self.flat.astype(np.float64) * self.solid_angle).reshape(-1)
        spec = FrameSpec(1, height, width, self.frames.dtype)
        node, pool = Integration(matrix, spec, PixelTables(weight), model), Pool(1 << 26)

        def integrate(frame: Image) -> Image:
            block = Block(frame[np.newaxis, np.newaxis], np.zeros(1, np.int64), 0, np.zeros(1), Lease())
            made = node.process(block, pool)
            try:
                return made.data[0, :, 0].copy()
            finally:
                made.lease.release()

        return integrate


def _split(split: str, short: bool) -> list[Row]:
    setting = _Setting.made()
    with pinned(1):
        return [_measured(setting, split, model, short) for model in (ErrorModel.NO_VAR, ErrorModel.POISSON)]


def _measured(setting: _Setting, split: str, model: ErrorModel, short: bool) -> Row:
    engines, runs = (ENGINES[:2], 1) if short else (ENGINES, 3)
    sides: dict[str, Callable[[Image], Any]] = {name: setting.theirs(split, name, model) for name in engines}
    reference = sides["csr"]
    once = {name: _seconds(side, setting.frames[:1]) for name, side in sides.items()}
    fastest = min(once, key=lambda name: once[name])
    ours = setting.ours(model)
    _seconds(ours, setting.frames[:1])
    times = _interleaved({"ours": ours, "theirs": sides[fastest]}, setting.frames, runs)
    off = np.array([_difference(ours(frame), reference(frame)) for frame in setting.frames])
    mine, theirs = (statistics.median(times[side]) * 1e3 for side in ("ours", "theirs"))
    others = ", ".join(f"{name} {seconds * 1e3:.0f}" for name, seconds in once.items())
    detail = (
        f"largest relative difference from csr {off.max():.1e}; pyFAI's engines, once, in ms: {others}; frames of "
        f"{setting.frames[0].size / 1e6:.1f} Mpixel, mask, flat field and solid angle"
    )
    what = f"integration, splitting {split}, {model}, 1 thread; reference: pyFAI's {fastest}"
    return Row("P6", what, mine, theirs, "ms", theirs / mine, GOAL, int((off > TOLERANCE).sum()), runs, detail)


def _difference(ours: Image, theirs: Any) -> NDArray[np.float64]:
    """Of each bin with a pixel, the largest of average and error, relative."""
    filled = np.asarray(theirs.normalization) > 0
    pairs = list(zip(ours, (theirs.intensity, theirs.sem), strict=False))
    off: NDArray[np.float64] = np.max([np.abs(mine[filled] / other[filled] - 1.0) for mine, other in pairs], axis=0)
    return off


def _interleaved(sides: Mapping[str, Callable[[Image], Any]], frames: Image, runs: int) -> Mapping[str, list[float]]:
    """Seconds a frame of each run; the sides take turns."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(runs):
        for name, side in sides.items():
            times[name].append(_seconds(side, frames))
    return times


def _seconds(side: Callable[[Image], Any], frames: Image) -> float:
    begin = time.perf_counter()
    for frame in frames:
        side(frame)
    return (time.perf_counter() - begin) / len(frames)
