"""The worked examples of docs/examples/streams run and give what they promise."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples" / "streams"
BOUND = 60


def run(name, size, *arguments):
    """What an example prints as a job of so many ranks."""
    launcher = Path(sys.prefix) / "bin" / "mpiexec"
    command = [launcher, "-n", size, sys.executable, "-m", "mpi4py", EXAMPLES / name, *arguments]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=BOUND)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def loaded(name):
    """The example as a module, for what it calculates."""
    spec = importlib.util.spec_from_file_location(Path(name).stem, EXAMPLES / name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_irregular_io_writes_every_peak_once(tmp_path):
    module, path = loaded("irregular_io.py"), tmp_path / "peaks.bin"
    (said,) = run("irregular_io.py", 4, path)
    peaks = np.fromfile(path, module.PEAK)
    due = np.concatenate([module.peaks_of(frame) for frame in range(module.FRAMES)])
    assert said == f"{len(due)} peaks of {module.FRAMES} frames written"
    order = np.argsort(peaks["frame"], kind="stable")
    assert (peaks[order] == due).all()


@pytest.mark.parametrize("size", [2, 4])
def test_monitoring_sees_every_rank(size):
    assert run("monitoring.py", size) == [f"rank {rank} ended at step 2000" for rank in range(1, size)]


def test_a_threshold_stops_all_ranks():
    assert run("threshold.py", 4) == ["stopped in time"]
