"""Serial crystallography through the unmodified conductor: what its client reads equals what pyFAI finds."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fabio
import h5py
import hdf5plugin  # noqa: F401  (the filter that the files are compressed with)
import numpy as np
import pytest
import tango
from conducting import Conducted, error_of
from lima2.common.devencoded.smx_sparse_frame import SmxSparseFrame
from lima2.common.exceptions import Lima2BackendError, Lima2LookupError
from pyFAI.detectors import Detector
from pyFAI.integrator.azimuthal import AzimuthalIntegrator
from support import Json, conduct, launched, put
from watching import wait_for

from lima2_tango.cli.config import Topology
from lima2_tango.cli.system import System
from lima2_tango.client import SparseFrame, connect

SMX = "LimaProcessingSmx"
SHAPE = (96, 64)
BINS = 40
NB_FRAMES = 31
METHOD = ("no", "csr", "cython")
NOISE, CUTOFF = 0.6, 4.0
SPOTS = [(10, 12), (50, 20), (30, 70), (55, 88), (8, 80)]
STREAMS = ("saving_dense", "saving_sparse", "saving_accumulation_corrected", "saving_accumulation_peak")


class Calibration:
    """pyFAI's integrator of the frames of these tests, and the files made from it."""

    def __init__(self, folder: Path) -> None:
        self.integrator = AzimuthalIntegrator(
            0.05, 0.004, 0.003, 0.1, 0.05, detector=Detector(1e-4, 1e-4, max_shape=SHAPE), wavelength=1e-10
        )
        self.integrator.integrate1d(np.ones(SHAPE), BINS, method=METHOD, unit="q_nm^-1")
        (engine,) = (made.engine for made in self.integrator.engines.values())
        self.centres = np.asarray(engine.bin_centers)
        self.radius = self.integrator.center_array(SHAPE, unit="q_nm^-1")
        self.solid_angle = self.integrator.solidAngleArray(SHAPE)
        with h5py.File(folder / "csr.h5", "w") as file:
            file["data"], file["indices"], file["indptr"] = engine.data, engine.indices, engine.indptr
            file["image_shape"] = SHAPE
        with h5py.File(folder / "bin_centers.h5", "w") as file:
            file["bin_centers"] = self.centres
        with h5py.File(folder / "r_center.h5", "w") as file:
            file["r_center"] = self.radius
        np.save(folder / "solid_angle", self.solid_angle)
        files = {"csr": "csr.h5", "radius1d": "bin_centers.h5", "radius2d": "r_center.h5"}
        files["solid_angle"] = "solid_angle.npy"
        self.params = {f"fai.{name}_path": str(folder / file) for name, file in files.items()}

    def clipped(self, frame: np.ndarray) -> Any:
        return self.integrator.sigma_clip(
            frame, BINS, method=METHOD, unit="q_nm^-1", error_model="poisson", thres=0.0, max_iter=3
        )

    def picked(self, frame: np.ndarray) -> np.ndarray:
        """As pyFAI's find_intense (sparsify.cl)."""
        found = self.clipped(frame)
        mean, deviation = (np.interp(self.radius, self.centres, row) for row in (found.intensity, found.std))
        limit = np.maximum(NOISE, CUTOFF * np.hypot(deviation, NOISE))
        return np.flatnonzero(frame / self.solid_angle - mean > limit)


@pytest.fixture(scope="module")
def calibration(tmp_path_factory: pytest.TempPathFactory) -> Calibration:
    return Calibration(tmp_path_factory.mktemp("calibration"))


@pytest.fixture(scope="module")
def whole_system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with launched(tmp_path_factory.mktemp("smx"), "simulator") as running:
        yield running


@pytest.fixture(scope="module", params=list(Topology), ids=str)
def client(whole_system: System, request: pytest.FixtureRequest) -> Conducted:
    devices = whole_system.config.devices[1:]
    conduct(whole_system, request.param, devices[:1] if request.param is Topology.SINGLE else devices)
    return Conducted.of(whole_system)


@pytest.fixture
def proc(client: Conducted, calibration: Calibration, tmp_path: Path) -> Iterator[Json]:
    """Parameters that save frames and sparse frames; leaves the system at rest."""
    changes: Json = {**calibration.params, "fai.noise": NOISE, "fai.cutoff_pick": CUTOFF}
    for block in STREAMS:
        changes |= {f"{block}.base_path": str(tmp_path), f"{block}.nb_frames_per_file": 7}
        changes |= {f"{block}.enabled": block in STREAMS[:2]}
    yield put(client.services.pipeline.default_params(SMX), changes)
    client.recover()


def acq(client: Conducted, **changes: Any) -> Json:
    """Frames of a broad background with some sharp spots."""
    peaks = [{"x0": 992 + 30.0, "y0": 960 + 40.0, "fwhm": 90.0, "max": 60.0}]
    peaks += [{"x0": 992.0 + x, "y0": 960.0 + y, "fwhm": 2.0, "max": 500.0} for x, y in SPOTS]
    shown = {"det.generator.gauss.peaks": peaks, "det.generator.pixel_type": "gray16", "acq.nb_frames": NB_FRAMES}
    return client.acq(shown | changes)


def check(calibration: Calibration, frame: np.ndarray, sparse: SmxSparseFrame) -> None:
    expected, clipped = calibration.picked(frame), calibration.clipped(frame)
    both = np.intersect1d(sparse.index, expected)
    assert len(both) / len(np.union1d(sparse.index, expected)) >= 0.98
    assert len(both) >= len(SPOTS)
    assert np.array_equal(sparse.intensity, frame.reshape(-1)[sparse.index])
    filled = np.asarray(clipped.count) > 10
    assert np.allclose(sparse.background_avg[filled], clipped.intensity[filled], rtol=1e-4)
    assert np.allclose(sparse.background_std[filled], clipped.std[filled], rtol=1e-4)


def test_frames_and_sparse_frames_are_saved_once_and_in_order(
    client: Conducted, calibration: Calibration, proc: Json, tmp_path: Path
) -> None:
    client.run(acq(client), proc)
    pipeline, frames = client.services.pipeline, client.master()
    assert frames.shape == (NB_FRAMES, *SHAPE)
    assert client.progress() == client.progress("frame") == client.progress("sparse_frame") == NB_FRAMES
    counts = client.rows("nb_peaks", 0)
    assert len(counts) == NB_FRAMES
    for number, frame in enumerate(frames):
        sparse = pipeline.get_frame(number, "sparse_frame")
        assert isinstance(sparse, SmxSparseFrame)
        assert sparse.idx == number
        check(calibration, frame, sparse)
        assert counts["nb_peaks"][number] == len(sparse.index)
        assert np.array_equal(
            sparse.densify_peaks().reshape(SHAPE) > 0, np.isin(np.arange(frame.size), sparse.index).reshape(SHAPE)
        )
    assert "sparse_frame" not in pipeline.master_files()
    for path in sorted(tmp_path.glob("lima2_sparse_[01]_*.h5")):
        with h5py.File(path) as file, fabio.open(str(path)) as dense:
            detector = file["entry_0000/instrument/detector"]
            assert dense.nframes == len(detector["index"]) <= 7
            assert np.array_equal(dense.data.reshape(-1)[detector["index"][0]], detector["intensity"][0])


def frame_of(client: Conducted, number: int) -> np.ndarray | None:
    """None where the frame cannot be read yet: its sparse frame comes first."""
    try:
        return np.asarray(client.services.pipeline.get_frame(number, "frame").data)
    except (RuntimeError, Lima2LookupError):
        return None


def test_sparse_frames_can_be_read_while_the_run_goes_on(
    client: Conducted, calibration: Calibration, proc: Json
) -> None:
    pipeline = client.services.pipeline
    endless = acq(client, **{"acq.nb_frames": 0, "acq.expo_time": 5_000})
    client.prepare(endless, put(proc, {"saving_sparse.enabled": False}))
    client.start()
    wait_for(lambda: client.located(20), 10, "frame 20 located")
    for index in (0, 9, 20, -1):
        sparse = pipeline.get_frame(index, "sparse_frame")
        assert index in {-1, sparse.idx}
        assert sparse.shape == (1, *SHAPE)
        wait_for(lambda number=sparse.idx: frame_of(client, number) is not None, 5, "the frame after its sparse one")
        check(calibration, np.squeeze(frame_of(client, sparse.idx)), sparse)
    sums = [pipeline.get_frame(-1, name) for name in ("acc_corrected", "acc_peaks")]
    assert all(each.data.shape == (1, *SHAPE) and each.data.dtype == np.float32 for each in sums)
    assert np.count_nonzero(sums[1].data) < np.count_nonzero(sums[0].data)
    client.stop()
    client.wait_end()
    client.check_success()


def test_sums_are_in_files_of_their_own(
    client: Conducted, calibration: Calibration, proc: Json, tmp_path: Path
) -> None:
    saved = {f"{block}.enabled": True for block in STREAMS}
    client.prepare(acq(client, **{"acq.nb_frames": 24}), put(proc, saved | {"fai.acc_nb_frames_xfer": 8}))
    client.start()
    client.wait_end()
    frames = client.master().astype(float)
    corrected = np.zeros(SHAPE)
    for path in sorted(tmp_path.glob("lima2_acc_corrected_[01]_*.h5")):
        with h5py.File(path) as file:
            corrected += file["entry_0000/instrument/detector/data"][-1]
    assert np.allclose(corrected, frames.sum(axis=0) / calibration.solid_angle, rtol=1e-5)


def test_what_cannot_be_clipped_is_refused_with_its_path(
    client: Conducted, proc: Json, calibration: Calibration
) -> None:
    other = error_of(client.prepare, acq(client, **{"img.roi": {}}), proc)
    assert isinstance(other, Lima2BackendError)
    assert "$.fai.csr_path" in str(other)
    radius = error_of(client.prepare, acq(client), put(proc, {"fai.radius1d_path": calibration.params["fai.csr_path"]}))
    assert "$.fai.radius1d_path" in str(radius)


@pytest.mark.parametrize(("channels", "channel"), [(1, 0), (2, 1)], ids=["one channel", "second of two channels"])
def test_the_control_alone_writes_a_master_file_of_the_sparse_frames(
    whole_system: System, calibration: Calibration, tmp_path: Path, channels: int, channel: int
) -> None:
    control = tango.DeviceProxy(f"tango://{whole_system.tango_host}/{whole_system.control}")
    control.set_timeout_millis(30_000)
    spots = [{"x0": float(x), "y0": float(y), "fwhm": 2.0, "max": 500.0} for x, y in SPOTS]
    shown = {"gauss": {"peaks": spots, "grow_factor": 0.1}, "nb_channels": channels}
    det = {"width": SHAPE[1], "height": SHAPE[0], "generator": shown}
    timing = {"nb_frames": NB_FRAMES, "expo_time": 500, "latency_time": 0}
    saving = {"base_path": str(tmp_path), "nb_frames_per_file": 7}
    fai = {name.removeprefix("fai."): path for name, path in calibration.params.items()}
    proc = {
        "class_name": SMX,
        "fai": {**fai, "acc_nb_frames_xfer": 10, "channel": channel},
        **dict.fromkeys(STREAMS, saving),
    }
    prefixes = ("lima2", "lima2_sparse", "lima2_acc_corrected", "lima2_acc_peaks")
    for block, prefix in zip(STREAMS, prefixes, strict=True):
        proc[block] = saving | {"filename_prefix": prefix}
    control.write_attribute("acq_params", json.dumps({"acq": timing, "det": det}))
    control.write_attribute("proc_params", json.dumps(proc))
    uuid = control.command_inout("Acquire")
    ended = {"done", "stopped", "failed"}
    wait_for(lambda: json.loads(control.command_inout("Run", uuid))["state"] in ended, 20, "the end of the run")
    record = json.loads(control.command_inout("Run", uuid))
    assert record["state"] == "done", record
    masters = sorted(path.name for path in tmp_path.glob("*_master.h5"))
    assert masters == ["lima2_master.h5", "lima2_sparse_master.h5"]
    place = "entry_0000/instrument/detector/data"
    with h5py.File(tmp_path / masters[0]) as dense, h5py.File(tmp_path / masters[1]) as sparse:
        frames, data = dense[place][...].reshape(NB_FRAMES, channels, *SHAPE)[:, channel], sparse[place]
        pointer = data["frame_ptr"][:]
        assert len(pointer) == NB_FRAMES + 1
        seen: list[np.ndarray] = []
        for frame, first, last in zip(frames, pointer, pointer[1:], strict=False):
            numbers = data["index"][int(first) : int(last)]
            assert len(numbers) >= len(SPOTS)
            assert np.array_equal(data["intensity"][int(first) : int(last)], frame.reshape(-1)[numbers])
            assert np.array_equal(sparse_frame(whole_system, uuid, len(seen)).pixels, numbers)
            seen.append(numbers)
    assert_the_twin_is_equal(proc, tmp_path)


def sparse_frame(system: System, uuid: str, number: int) -> SparseFrame:
    """By the client for scripts."""
    with connect(system.control, system.tango_host) as lima:
        found = lima.run(uuid).sparse_frame(number)
    assert (found.index, found.shape) == (number, SHAPE)
    return found


def assert_the_twin_is_equal(proc: Json, folder: Path) -> None:
    """The same frames through `lima2 process`, as two receivers, give the same bits as the run through Tango."""
    (folder / "smx.json").write_text(json.dumps(proc))
    lima2 = Path(sys.executable).parent / "lima2"
    options = ("--params", folder / "smx.json", "-o", folder / "again.h5", "--receivers", "2")
    subprocess.run(list(map(str, (lima2, "process", folder / "lima2_master.h5", *options))), check=True, timeout=60)
    wanted = {"sparse": "lima2_sparse", "accumulation_corrected": "lima2_acc_corrected"}
    places = {"sparse": ("data/index", "data/intensity", "background_avg", "background_std")}
    for name, prefix in {**wanted, "accumulation_peak": "lima2_acc_peaks"}.items():
        for rank in range(2):
            online = sorted(folder.glob(f"{prefix}_{rank}_*.h5"))
            for place in places.get(name, ("data",)):
                before = np.concatenate([read(file, place) for file in online])
                made = read(folder / f"again_{name}_{rank}.h5", place)
                assert made.size
                assert made.tobytes() == before.tobytes(), (name, rank, place)


def read(path: Path, name: str) -> np.ndarray:
    with h5py.File(path) as file:
        return np.asarray(file[f"entry_0000/instrument/detector/{name}"])
