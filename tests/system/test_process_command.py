"""`lima2 process` as a person types it: a run comes out of its raw frames again; Ctrl-C keeps what is done."""

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401 - the filters of our files
import numpy as np
import pytest
from support import LEGACY
from watching import wait_for

from lima2_tango.cli.process import program
from lima2_tango.cli.system import System
from lima2_tango.client import Client, connect
from lima2_tango.testing.matrices import ring_matrix, write_matrix

SHAPE = (96, 64)
NB_FRAMES = 31
REGION = {"topleft": {"x": 3, "y": 2}, "dimensions": {"x": 20, "y": 9}}
SPOTS = [{"x0": 30.2, "y0": 40.7, "fwhm": 25, "max": 500}, {"x0": 9, "y0": 8, "fwhm": 3, "max": 900}]
TIMEOUT = 60
Json = dict[str, Any]


def acquired(system: System, folder: Path, prefix: str, proc: Json) -> np.ndarray:
    """Rows of the region's statistics [frame], of a run of two receivers."""
    saving = {"base_path": str(folder), "nb_frames_per_file": 7}
    blocks = [name for name in ("saving", "saving_dense", "saving_fai") if name in proc]
    files = {name: {**saving, "filename_prefix": f"{prefix}_{name}"} for name in blocks}
    acq = {
        "acq": {"nb_frames": NB_FRAMES, "expo_time": 1000, "latency_time": 0},
        "det": {"width": SHAPE[1], "height": SHAPE[0], "generator": {"gauss": {"peaks": SPOTS, "grow_factor": 0.3}}},
    }
    with connect(system.control, system.tango_host) as client:
        client.replace(acq=acq, proc={**proc, **files})
        rows = follow(client)
        client.reset()
    return rows


def follow(client: Client) -> np.ndarray:
    run = client.prepare()
    run.start()
    rows = np.concatenate(list(run.roi_statistics()))[:, 0]
    assert run.wait(TIMEOUT).state == "done"
    return rows


def process(folder: Path, *options: str, proc: Json) -> Json:
    (folder / "p.json").write_text(json.dumps(proc))
    command = [program("lima2"), "process", *options, "--params", "p.json", "--json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert done.returncode == 0, done.stderr
    told: Json = json.loads(done.stdout)
    assert told["nb_frames_done"] == NB_FRAMES
    return told


def images(path: Path, place: str = "entry_0000/instrument/detector/data") -> np.ndarray:
    with h5py.File(path) as file:
        return file[place][...]


def assert_same_rows(path: Path, online: np.ndarray) -> None:
    offline = images(path, "entry_0000/roi_statistics")
    assert len(offline) == len(online) == NB_FRAMES
    assert all(np.array_equal(offline[name], online[name]) for name in offline.dtype.names if name != "recv_idx")


def test_what_a_run_saved_comes_out_of_its_raw_frames(system: System, tmp_path: Path) -> None:
    np.save(tmp_path / "flat.npy", np.random.default_rng(0).normal(1, 0.1, SHAPE))
    rois = {"statistics": {"enabled": True, "rect_rois": [REGION]}}
    corrected = {
        "class_name": LEGACY,
        "saving": {},
        "flatfield": {"enabled": True, "path": str(tmp_path / "flat.npy")},
        **rois,
    }
    csr = write_matrix(tmp_path / "csr.h5", ring_matrix(SHAPE, 20, split=True))
    fai = {"class_name": "LimaProcessingFai", "saving_dense": {}, "saving_fai": {}, "fai": {"csr_path": csr}, **rois}
    vectors = acquired(system, tmp_path, "fai", fai)
    online = acquired(system, tmp_path, "legacy", corrected)
    raw = str(tmp_path / "fai_saving_dense_master.h5")
    assert len({frame.tobytes() for frame in images(Path(raw))}) > 4
    process(tmp_path, raw, "-o", "legacy.h5", proc=corrected)
    process(tmp_path, raw, "-o", "fai.h5", proc=fai)
    for made, saved in (
        ("legacy_frames.h5", "legacy_saving_master.h5"),
        ("fai_dense.h5", "fai_saving_dense_master.h5"),
        ("fai_fai.h5", "fai_saving_fai_master.h5"),
    ):
        assert images(tmp_path / made).tobytes() == images(tmp_path / saved).tobytes(), made
    assert_same_rows(tmp_path / "legacy.h5", online)
    assert_same_rows(tmp_path / "fai.h5", vectors)


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_keeps_what_is_done_and_twice_leaves_at_once(tmp_path: Path, times: int) -> None:
    with h5py.File(tmp_path / "raw.h5", "w") as file:  # 40 GB of zeros that need no room: frames nobody wrote
        file.create_dataset("images", (20_000, 1024, 1024), np.uint16, chunks=(1, 1024, 1024))
    command = [program("lima2"), "process", "raw.h5", "--pipeline", "Legacy", "-o", "out.h5", "--json"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        try:
            wait_for(
                lambda: any(part.stat().st_size > 10_000 for part in tmp_path.glob(".out_frames*.part")), 30, "rows"
            )
            for _ in range(times):
                running.send_signal(signal.SIGINT)
            text, said = running.communicate(timeout=TIMEOUT)
        finally:
            running.kill()
    assert running.returncode == 130, said
    assert not list(tmp_path.glob(".out*"))
    if times == 1:
        told = json.loads(text)
        assert told["interrupted"]
        assert 0 < told["nb_frames_done"] < 20_000
        assert len(images(tmp_path / "out.h5", "entry_0000/frames/data")) == told["nb_frames_done"]
