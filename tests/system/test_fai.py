"""Azimuthal integration through the unmodified conductor: what its client reads equals what pyFAI computes."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401  (the filter that the files are compressed with)
import numpy as np
import pytest
from conducting import Conducted, error_of
from lima2.common.exceptions import Lima2BackendError
from pyFAI.containers import ErrorModel
from pyFAI.detectors import Detector
from pyFAI.integrator.azimuthal import AzimuthalIntegrator
from support import Json, conduct, launched, put
from watching import wait_for

from lima2_tango.cli.config import Topology
from lima2_tango.cli.system import System

FAI = "LimaProcessingFai"
SHAPE = (96, 64)
BINS = 50
NB_FRAMES = 31


@dataclass(frozen=True)
class Calibration:
    """pyFAI's integrator of the frames of these tests, and the files made from it."""

    engine: Any
    corrections: dict[str, np.ndarray]
    params: dict[str, str]

    @classmethod
    def written(cls, folder: Path) -> "Calibration":
        integrator = AzimuthalIntegrator(
            0.05, 0.004, 0.003, 0.1, 0.05, detector=Detector(1e-4, 1e-4, max_shape=SHAPE), wavelength=1e-10
        )
        method = ("full", "csr", "cython")
        mask = np.random.default_rng(1).random(SHAPE) < 0.05
        integrator.integrate1d(np.ones(SHAPE), BINS, method=method, mask=mask)
        (engine,) = (made.engine for made in integrator.engines.values())
        with h5py.File(folder / "csr.h5", "w") as file:
            file["data"], file["indices"], file["indptr"] = engine.data, engine.indices, engine.indptr
            file["image_shape"] = SHAPE
        flat = np.random.default_rng(0).normal(1, 0.05, SHAPE).astype(np.float32)
        corrections = {"flat": flat, "solid_angle": integrator.solidAngleArray(SHAPE).astype(np.float32)}
        for name, image in corrections.items():
            np.save(folder / name, image)
        paths = {f"{name}_path": f"{folder / name}.npy" for name in corrections}
        return cls(engine, corrections, {"csr_path": str(folder / "csr.h5"), **paths})

    def reference(self, frame: np.ndarray) -> Any:
        flat, solid = self.corrections["flat"], self.corrections["solid_angle"]
        return self.engine.integrate_ng(frame, flat=flat, solidangle=solid, error_model=ErrorModel.POISSON)


@pytest.fixture(scope="module")
def calibration(tmp_path_factory: pytest.TempPathFactory) -> Calibration:
    return Calibration.written(tmp_path_factory.mktemp("calibration"))


@pytest.fixture(scope="module")
def whole_system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with launched(tmp_path_factory.mktemp("fai"), "simulator") as running:
        yield running


@pytest.fixture(scope="module", params=list(Topology), ids=str)
def client(whole_system: System, request: pytest.FixtureRequest) -> Conducted:
    devices = whole_system.config.devices[1:]
    conduct(whole_system, request.param, devices[:1] if request.param is Topology.SINGLE else devices)
    return Conducted.of(whole_system)


@pytest.fixture
def proc(client: Conducted, calibration: Calibration, tmp_path: Path) -> Iterator[Json]:
    """Parameters that save both streams; leaves the system at rest."""
    changes: Json = {f"fai.{name}": path for name, path in calibration.params.items()}
    for block in ("saving_dense", "saving_fai"):
        changes |= {f"{block}.base_path": str(tmp_path), f"{block}.nb_frames_per_file": 7}
    yield put(client.services.pipeline.default_params(FAI), changes)
    client.recover()


def assert_is_reference(calibration: Calibration, frames: np.ndarray, vectors: np.ndarray) -> None:
    assert vectors.shape == (len(frames), BINS)
    assert vectors.dtype == np.float32
    for frame, vector in zip(frames, vectors, strict=True):
        assert np.allclose(vector, calibration.reference(frame).intensity, rtol=1e-5)


def test_frames_and_vectors_are_saved_once_and_in_order(
    client: Conducted, calibration: Calibration, proc: Json, tmp_path: Path
) -> None:
    statistics = {"statistics.enabled": True, "statistics.rect_rois": [region()]}
    identity = client.prepare(client.acq({"acq.nb_frames": NB_FRAMES}), put(proc, statistics))
    client.start()
    client.wait_end()
    client.check_success()
    frames = client.master()
    assert frames.shape == (NB_FRAMES, *SHAPE)
    assert len({frame.tobytes() for frame in frames[:8]}) == 8
    vectors = client.master("fai_averint")
    assert_is_reference(calibration, frames, vectors)
    assert all(np.array_equal(client.services.pipeline.get_frame(i, "fai_averint").data, vectors[i]) for i in range(31))
    assert client.progress() == client.progress("frame") == client.progress("fai_averint") == NB_FRAMES
    assert np.allclose(client.rows("roi_stats", 0)["avg"], frames.mean(axis=(1, 2)), rtol=1e-6)
    assert identity == str(client.services.pipeline.current_pipeline())
    for path in tmp_path.glob("lima2_fai_[01]_*.h5"):
        with h5py.File(path) as file:
            detector = file["entry_0000/instrument/detector"]
            numbers = range(int(detector["frame_start_number"][()]), NB_FRAMES, client.receivers)
            if "frame_idx" in detector:
                numbers = detector["frame_idx"][:]
            for row, number in zip(detector["data_errors"], numbers, strict=False):
                assert np.allclose(row, calibration.reference(frames[number]).sem, rtol=1e-5)


def region() -> Json:
    return {"topleft": {"x": 0, "y": 0}, "dimensions": {"x": SHAPE[1], "y": SHAPE[0]}}


def test_vectors_can_be_read_while_the_run_goes_on(client: Conducted, calibration: Calibration, proc: Json) -> None:
    pipeline = client.services.pipeline
    client.prepare(client.acq({"acq.nb_frames": 0, "acq.expo_time": 5_000}), put(proc, {"saving_fai.enabled": False}))
    client.start()
    wait_for(lambda: client.located(20), 10, "frame 20 located")
    for index in (0, 9, 20, -1):
        vector = pipeline.get_frame(index, "fai_averint")
        assert vector.data.shape == (BINS,)
        assert index in {-1, vector.idx}
        wait_for(lambda number=vector.idx: client.located(number), 5, "the newest frame located")
        frame = np.squeeze(pipeline.get_frame(vector.idx, "frame").data)
        assert np.allclose(vector.data, calibration.reference(frame).intensity, rtol=1e-5)
    client.stop()
    client.wait_end()
    client.check_success()


def test_what_cannot_be_integrated_is_refused_with_its_path(client: Conducted, proc: Json) -> None:
    error = error_of(client.prepare, client.acq({"img.roi": {}}), proc)
    assert isinstance(error, Lima2BackendError)
    assert "$.fai.csr_path" in str(error)
    assert "it is for images of (96, 64) (rows, columns), and the frames have 2048 x 2048 pixels" in str(error)
