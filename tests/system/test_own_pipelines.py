"""The pipeline of the how-to page, installed as a package is: through the unmodified conductor, and by its own name."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401  (the filter that the files are compressed with)
import numpy as np
import pytest
import tango
from conducting import Conducted, error_of
from lima2.common.exceptions import Lima2BackendError
from support import LEGACY, SMALL, Json, conduct, launched, put
from watching import wait_for

from lima2_tango.cli.config import Topology
from lima2_tango.cli.system import System
from lima2_tango.testing.plugins import write_package

OWN = "LimaProcessingLimited"
PAGE = Path(__file__).parents[2] / "docs/how-to/write-a-pipeline.md"
NB_FRAMES, DEPTH, TOP, BINS = 24, 3, 40, 12
DATA = "entry_0000/instrument/detector/data"


@pytest.fixture(scope="module")
def whole_system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    folder = tmp_path_factory.mktemp("own")
    node, _, plugin, graph = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    files = {"saturation": node, "limited": plugin, "limited_graph": graph}
    write_package(folder, files, {"processing.pipelines": {"limited": "limited:PLUGIN"}})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder))
        with launched(folder, "simulator") as running:
            yield running


@pytest.fixture(scope="module", params=list(Topology), ids=str)
def client(whole_system: System, request: pytest.FixtureRequest) -> Conducted:
    devices = whole_system.config.devices[1:]
    conduct(whole_system, request.param, devices[:1] if request.param is Topology.SINGLE else devices)
    return Conducted.of(whole_system)


@pytest.fixture
def proc(client: Conducted, tmp_path: Path) -> Iterator[Json]:
    """Legacy's parameters, with the pipeline of the page in them; leaves the system at rest."""
    pipeline = {"class_name": OWN, "top": TOP, "bins": BINS, "saving_histogram": {"base_path": str(tmp_path)}}
    changes = {"pipeline": pipeline, "saving.base_path": str(tmp_path), "saving.nb_frames_per_file": 5}
    yield put(client.services.pipeline.default_params(LEGACY), changes)
    client.recover()


def test_the_conductor_runs_it_in_the_place_of_legacy(client: Conducted, proc: Json, tmp_path: Path) -> None:
    client.run(client.acq({"acq.nb_frames": NB_FRAMES, "det.nb_prefetch_frames": 1}), proc)
    frames = client.master()
    assert len(frames) == NB_FRAMES
    assert frames.max() == TOP
    assert client.progress() == client.progress("frame") == client.progress("input_frame") == NB_FRAMES
    pipeline = client.services.pipeline
    seen = np.squeeze(pipeline.get_frame(NB_FRAMES - 1, "input_frame").data)[960:1056, 992:1056]
    assert np.array_equal(np.minimum(seen, TOP), frames[-1])
    assert np.array_equal(np.squeeze(pipeline.get_frame(5, "frame").data), frames[5])
    counts = [path for path in tmp_path.glob("lima2_histogram_*.h5") if "master" not in path.name]
    assert len(counts) == client.receivers
    found = sorted(row.tolist() for path in counts for row in read(path))
    assert found == sorted(np.histogram(frame, BINS, (0, TOP))[0].tolist() for frame in frames)


def read(path: Path) -> np.ndarray:
    with h5py.File(path) as file:
        return np.asarray(file[DATA])


def test_what_it_refuses_has_the_path_that_the_client_wrote(client: Conducted, proc: Json) -> None:
    for changes, path in (({"pipeline.top": 0}, "$.pipeline.top = 0"), ({"mask.enabled": True}, "$.mask = ")):
        error = error_of(client.prepare, client.acq({}), put(proc, changes))
        assert isinstance(error, Lima2BackendError)
        assert path in str(error)


def test_the_control_runs_it_by_its_own_name(whole_system: System, tmp_path: Path) -> None:
    control = tango.DeviceProxy(f"tango://{whole_system.tango_host}/{whole_system.control}")
    control.set_timeout_millis(30_000)
    assert OWN in control.command_inout("ListPipelines")
    saving = {"base_path": str(tmp_path), "nb_frames_per_file": 3}
    proc = {"class_name": OWN, "top": TOP, "bins": BINS, "accumulation": {"enabled": True, "nb_frames": DEPTH}}
    proc |= {"saving": saving, "saving_histogram": {**saving, "filename_prefix": "counts"}}
    timing = {"nb_frames": NB_FRAMES, "expo_time": 500, "latency_time": 0}
    control.write_attribute("acq_params", json.dumps({"acq": timing, **put({}, SMALL)}))
    control.write_attribute("proc_params", json.dumps(proc))
    uuid = control.command_inout("Acquire")
    ended = {"done", "stopped", "failed"}
    wait_for(lambda: json.loads(control.command_inout("Run", uuid))["state"] in ended, 20, "the end of the run")
    record = json.loads(control.command_inout("Run", uuid))
    assert (record["state"], record["pipeline"], record["nb_frames_processed"]) == ("done", OWN, NB_FRAMES // DEPTH)
    sums, counts = read(tmp_path / "lima2_master.h5"), read(tmp_path / "counts_master.h5")
    assert len(sums) == len(counts) == NB_FRAMES // DEPTH
    for image, row in zip(sums, counts, strict=True):
        assert np.array_equal(row, np.histogram(image, BINS, (0, TOP * DEPTH))[0])
