"""Parts of a real EIGER2 16M frame, replayed by the Reader, through Fai and Smx: clients read what pyFAI finds."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401  (the filter that the files are compressed with)
import numpy as np
import pytest
import tango
from conducting import Conducted
from pyFAI.containers import ErrorModel
from pyFAI.detectors import Detector
from pyFAI.integrator.azimuthal import AzimuthalIntegrator
from support import Json, conduct, launched, put
from watching import wait_for

from lima2_tango.cli.config import Topology
from lima2_tango.cli.demo.inputs import real_frame
from lima2_tango.cli.system import System

FAI, SMX = "LimaProcessingFai", "LimaProcessingSmx"
SIZE, BINS, NB_FRAMES = 240, 60, 16
MASKED = 65535
"""What the detector writes where there is no pixel, or a dead one."""
NOISE, CUTOFF = 0.3, 0.5
"""Low enough for a single count to be a peak: the frame is nearly empty."""
DATA = "entry_0000/instrument/detector/data"
METHOD = ("no", "csr", "cython")


@dataclass(frozen=True)
class Real:
    """The frames, pyFAI's integrator of them, and the files made from both."""

    folder: Path
    frames: np.ndarray
    integrator: Any
    engine: Any
    solid_angle: np.ndarray

    @classmethod
    def written(cls, folder: Path) -> "Real":
        whole = real_frame()
        counts = np.argwhere((whole > 0) & (whole < MASKED))
        places = counts[np.linspace(0, len(counts) - 1, NB_FRAMES).astype(int)] - SIZE // 2
        corners = np.clip(places, 0, np.array(whole.shape) - SIZE)
        frames = np.stack([whole[row : row + SIZE, column : column + SIZE] for row, column in corners])
        integrator = AzimuthalIntegrator(
            0.1, 0.004, 0.011, 0.1, 0.05, detector=Detector(75e-6, 75e-6, max_shape=(SIZE, SIZE)), wavelength=1e-10
        )
        integrator.integrate1d(frames[0], BINS, method=METHOD, unit="q_nm^-1")
        (engine,) = (made.engine for made in integrator.engines.values())
        with h5py.File(folder / "csr.h5", "w") as file:
            file["data"], file["indices"], file["indptr"] = engine.data, engine.indices, engine.indptr
            file["image_shape"] = (SIZE, SIZE)
        solid_angle = integrator.solidAngleArray((SIZE, SIZE))
        arrays = {"solid_angle": solid_angle, "radius1d": engine.bin_centers}
        arrays["radius2d"] = integrator.center_array((SIZE, SIZE), unit="q_nm^-1")
        for name, array in arrays.items():
            np.save(folder / name, array)
        with h5py.File(folder / "real_0_00000.h5", "w") as file:
            file["images"] = frames
        return cls(folder, frames, integrator, engine, solid_angle)

    def fai(self, *names: str) -> Json:
        """Parameters of the block `fai`, with these images."""
        paths = {f"{name}_path": f"{self.folder / name}.npy" for name in ("solid_angle", *names)}
        return {**paths, "csr_path": str(self.folder / "csr.h5"), "do_dummy": True, "dummy": MASKED}

    def det(self) -> Json:
        names = {"base_path": str(self.folder), "filename_prefix": "real", "filename_rank": 0}
        return {**names, "dataset_path": "/images", "nb_frames_per_file": NB_FRAMES}

    def integrated(self, frame: np.ndarray) -> Any:
        return self.engine.integrate_ng(
            frame, solidangle=self.solid_angle, error_model=ErrorModel.POISSON, dummy=MASKED, delta_dummy=0
        )

    def picked(self, frame: np.ndarray) -> np.ndarray:
        found = self.integrator.sigma_clip(
            *(frame, BINS), method=METHOD, unit="q_nm^-1", error_model="azimuthal", thres=0.0, max_iter=3, dummy=MASKED
        )
        radius = self.integrator.center_array((SIZE, SIZE), unit="q_nm^-1")
        filled = np.asarray(found.count) > 0
        centres = np.asarray(self.engine.bin_centers)
        mean, deviation = (
            np.interp(radius, centres, np.interp(centres, centres[filled], row[filled]))
            for row in (np.asarray(found.intensity), np.asarray(found.std))
        )
        stands_out = frame / self.solid_angle - mean > np.maximum(NOISE, CUTOFF * np.hypot(deviation, NOISE))
        return np.flatnonzero(stands_out & (frame != MASKED))


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Real:
    made = Real.written(tmp_path_factory.mktemp("real"))
    assert 0.01 < (made.frames == MASKED).mean() < 0.5
    assert all(((frame > 0) & (frame < MASKED)).any() for frame in made.frames)
    return made


@pytest.fixture(scope="module")
def whole_system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with launched(tmp_path_factory.mktemp("reader"), "reader") as running:
        yield running


@pytest.fixture(scope="module", params=list(Topology), ids=str)
def client(whole_system: System, request: pytest.FixtureRequest) -> Conducted:
    devices = whole_system.config.devices[1:]
    conduct(whole_system, request.param, devices[:1] if request.param is Topology.SINGLE else devices)
    return Conducted.of(whole_system)


def acquisition(real: Real) -> Json:
    return {"acq": {"nb_frames": NB_FRAMES, "expo_time": 500, "latency_time": 0}, "det": real.det()}


def conducted(client: Conducted, real: Real, name: str, changes: Json) -> None:
    """A whole run."""
    defaults = client.services.acquisition.default_params()[1]
    flat = {f"{block}.{key}": value for block, keys in acquisition(real).items() for key, value in keys.items()}
    client.run(put(defaults, flat), put(client.services.pipeline.default_params(name), changes))


def test_fai_through_the_conductor(client: Conducted, real: Real, tmp_path: Path) -> None:
    changes: Json = {f"fai.{key}": value for key, value in real.fai().items()}
    changes |= {f"{block}.base_path": str(tmp_path) for block in ("saving_dense", "saving_fai")}
    conducted(client, real, FAI, changes)
    assert np.array_equal(client.master(), real.frames)
    for number, (frame, vector) in enumerate(zip(real.frames, client.master("fai_averint"), strict=True)):
        expected = real.integrated(frame)
        filled = np.asarray(expected.normalization) > 0
        assert filled.any()
        assert np.allclose(vector[filled], expected.intensity[filled], rtol=1e-5)
        assert (vector[~filled] == MASKED).all()
        assert np.array_equal(client.services.pipeline.get_frame(number, "fai_averint").data, vector)


def test_smx_through_the_conductor(client: Conducted, real: Real, tmp_path: Path) -> None:
    picking = {"error_model": "azimuthal", "cutoff_pick": CUTOFF, "noise": NOISE}
    changes: Json = {f"fai.{key}": value for key, value in {**real.fai("radius1d", "radius2d"), **picking}.items()}
    changes |= {f"saving_{name}.enabled": False for name in ("accumulation_corrected", "accumulation_peak")}
    changes |= {f"{block}.base_path": str(tmp_path) for block in ("saving_dense", "saving_sparse")}
    conducted(client, real, SMX, changes)
    assert np.array_equal(client.master(), real.frames)
    counts = client.rows("nb_peaks", 0)["nb_peaks"]
    for number, frame in enumerate(real.frames):
        sparse, expected = client.services.pipeline.get_frame(number, "sparse_frame"), real.picked(frame)
        assert len(expected) > 0
        both = np.intersect1d(sparse.index, expected)
        assert len(both) / len(np.union1d(sparse.index, expected)) >= 0.98
        assert np.array_equal(sparse.intensity, frame.reshape(-1)[sparse.index])
        assert counts[number] == len(sparse.index)


@pytest.mark.parametrize("name", [FAI, SMX])
def test_through_the_control(whole_system: System, real: Real, tmp_path: Path, name: str) -> None:
    control = tango.DeviceProxy(f"tango://{whole_system.tango_host}/{whole_system.control}")
    control.set_timeout_millis(30_000)
    other = "saving_fai" if name == FAI else "saving_sparse"
    fai = real.fai() if name == FAI else {**real.fai("radius1d", "radius2d"), "cutoff_pick": CUTOFF, "noise": NOISE}
    sums = {f"saving_{each}": {"enabled": False} for each in ("accumulation_corrected", "accumulation_peak")}
    proc = {"class_name": name, "fai": fai, **(sums if name == SMX else {})}
    proc |= {"saving_dense": {"base_path": str(tmp_path)}}
    proc |= {other: {"base_path": str(tmp_path), "filename_prefix": "other"}}
    control.write_attribute("acq_params", json.dumps(acquisition(real)))
    control.write_attribute("proc_params", json.dumps(proc))
    uuid = control.command_inout("Acquire")
    ended = {"done", "stopped", "failed"}
    wait_for(lambda: json.loads(control.command_inout("Run", uuid))["state"] in ended, 20, "the end of the run")
    record = json.loads(control.command_inout("Run", uuid))
    assert (record["state"], record["nb_frames_processed"]) == ("done", NB_FRAMES), record
    with h5py.File(tmp_path / "lima2_master.h5") as dense, h5py.File(tmp_path / "other_master.h5") as made:
        assert np.array_equal(dense[DATA][...], real.frames)
        if name == SMX:
            assert len(made[f"{DATA}/frame_ptr"]) == NB_FRAMES + 1
            return
        for frame, vector in zip(real.frames, made[DATA][...], strict=True):
            expected = real.integrated(frame)
            filled = np.asarray(expected.normalization) > 0
            assert np.allclose(vector[filled], expected.intensity[filled], rtol=1e-5)
