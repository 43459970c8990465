"""The control drives runs in which frames cross ranks, or stay in parts; its master file shows whole frames."""

import h5py
import hdf5plugin  # noqa: F401  (the filter that the files are compressed with)
import numpy as np
import pytest
from driving import driven
from test_topologies_runs import EVERY, GROWING, MODULES, PARTIAL, SHARED, expected, masks

from lima2_tango.control import follow, serve
from lima2_tango.core.encoded import frame_of
from lima2_tango.core.errors import NotAvailableError, ParamError

DATA = "entry_0000/measurement/data"
MISSING = "entry_0000/instrument/detector/missing_modules"
VALID = "entry_0000/instrument/detector/valid"
LEAST = {**SHARED, "dispatch_mode": "least_loaded"}
KEPT = {**PARTIAL, "topology": "kept_partial_frames"}
BOX = {"topleft": {"x": 1, "y": 2}, "dimensions": {"x": 5, "y": 4}}
RING = {"center": {"x": 9.0, "y": 9.0}, "r1": 2.0, "r2": 5.0, "a1": 0.0, "a2": 90.0}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(follow, "PERIOD", 0.01)


def write(job, folder, det, proc=None, **acq):
    job.write(folder, proc, {"generator": GROWING, **det}, **acq)


@pytest.mark.parametrize("receivers", [1, 2, 3])
@pytest.mark.parametrize("det", [*EVERY.values(), LEAST, KEPT], ids=[*EVERY, "least loaded", "kept"])
def test_the_master_file_shows_every_frame_whole_and_in_order(tmp_path, det, receivers):
    with driven(receivers) as job:
        write(job, tmp_path, det, nb_frames=21)
        record = job.complete()
        assert (record.state, record.error) == ("done", "")
        assert (record.nb_frames_acquired, record.nb_frames_processed, record.nb_frames_saved) == (21, 21, 21)
        assert job.drive.nb_frames_acquired == 21
        with h5py.File(tmp_path / "lima2_master.h5") as file:
            frames = file[DATA][...]
            assert VALID not in file
            assert MISSING not in file
        assert len(frames) == 21
        assert all(np.array_equal(frame, expected(det, i)) for i, frame in enumerate(frames))


@pytest.mark.parametrize("det", [LEAST, PARTIAL], ids=["least loaded", "assembled"])
def test_the_control_finds_each_frame(tmp_path, det):
    with driven(2) as job:
        write(job, None, det, nb_frames=12)
        job.complete()
        for index in range(12):
            number, pixels = frame_of(serve.frame(job.run, "getFrame", index))
            assert number == index
            assert np.array_equal(pixels[0], expected(det, index))


def test_parts_of_a_run_that_was_stopped_make_whole_frames(tmp_path):
    with driven(2) as job:
        write(job, tmp_path, KEPT, nb_frames=0)
        job.acquire()
        while job.run.nb_frames_received < 10:
            assert not job.run.ended.wait(0.01)
        job.drive.stop()
        assert job.run.ended.wait(20)
        with h5py.File(tmp_path / "lima2_master.h5") as file:
            frames = file[DATA][...]
        assert len(frames) >= 10
        assert len({receiver.nb_frames_xferred for receiver in job.receivers}) == 1
        assert all(np.array_equal(frame, expected(KEPT, i)) for i, frame in enumerate(frames))


@pytest.mark.parametrize("topology", ["partial_frames", "kept_partial_frames"])
def test_missing_modules_are_zero_named_in_the_master_file_and_counted(tmp_path, topology):
    modules = [{**module, "missing_every": 4 if n == 1 else 6 if n == 3 else 0} for n, module in enumerate(MODULES)]
    det = {"topology": topology, "modules": modules}
    with driven(2) as job:
        write(job, tmp_path, det, nb_frames=12)
        job.complete()
        with h5py.File(tmp_path / "lima2_master.h5") as file:
            frames = file[DATA][...]
        for index, frame in enumerate(frames):
            missing = [m for m, every in ((1, 4), (3, 6)) if (index + 1) % every == 0]
            assert np.array_equal(frame, expected(det, index, missing))
            assert masks(tmp_path / "lima2_master.h5", 12)[index] == sum(1 << module for module in missing)
        # Frame 11 lacks two modules; where parts are kept each of its receivers lacks one.
        told = [receiver.nb_frames_incomplete for receiver in job.receivers]
        assert told == ([0, 4] if topology == "partial_frames" else [3, 2])


def test_a_frame_that_a_part_is_lost_of_lacks_the_modules_of_that_receiver(tmp_path):
    with driven(2) as job:
        write(job, tmp_path, {**KEPT, "dropped_frame_idx": 5}, nb_frames=8)
        job.complete()
        with h5py.File(tmp_path / "lima2_master.h5") as file:
            assert np.flatnonzero(file[VALID][...] == 0).tolist() == [5]
        assert masks(tmp_path / "lima2_master.h5", 8) == [0] * 5 + [0b1111] + [0] * 2


def test_a_frame_that_lacks_all_modules_of_one_receiver_is_valid_and_the_mask_names_them(tmp_path):
    late = [{**module, "receiver": n % 2, "missing_every": 4 if n % 2 else 0} for n, module in enumerate(MODULES)]
    with driven(2) as job:
        write(job, tmp_path, {**KEPT, "modules": late}, nb_frames=8)
        job.complete()
        with h5py.File(tmp_path / "lima2_master.h5") as file:
            assert VALID not in file
            frames = file[DATA][...]
        with h5py.File(tmp_path / "lima2_1_00000.h5") as file:
            assert np.flatnonzero(file[VALID][...] == 0).tolist() == [3]
    assert masks(tmp_path / "lima2_master.h5", 8) == [0, 0, 0, 0b1010] * 2
    assert all(np.array_equal(frame, expected(KEPT, i, (1, 3) if i % 4 == 3 else ())) for i, frame in enumerate(frames))


def test_a_part_is_no_frame(tmp_path):
    with driven(2) as job:
        write(job, None, KEPT, nb_frames=3)
        job.complete()
        with pytest.raises(NotAvailableError, match="kept in parts"):
            serve.frame(job.run, "getFrame", 0)


@pytest.mark.parametrize(
    ("det", "proc", "path"),
    [
        (KEPT, {"accumulation": {"enabled": True, "nb_frames": 2}}, "$.accumulation.enabled"),
        (KEPT, {"class_name": "LimaProcessingFailing"}, "$.class_name"),
        (KEPT, {"statistics": {"rect_rois": [BOX]}}, "$.statistics.rect_rois"),
        (KEPT, {"statistics": {"arc_rois": [RING]}}, "$.statistics.arc_rois"),
        (KEPT, {"profiles": {"rois": [BOX], "directions": ["vertical"]}}, "$.profiles.rois"),
        (KEPT, {"mask": {"enabled": True, "path": "mask.npy"}}, "$.mask.path"),
        (
            KEPT,
            {"max_countrate_protection": {"enabled": True, "pixel_capacity_override": [BOX]}},
            "$.max_countrate_protection.pixel_capacity_override",
        ),
        ({**KEPT, "modules": MODULES[:1]}, {}, "$.det.modules"),
    ],
    ids=["sums", "other pipelines", "rectangles", "arcs", "profiles", "mask", "capacities", "no module"],
)
def test_what_parts_cannot_do_is_refused_with_its_address(tmp_path, det, proc, path):
    with driven(2) as job:
        write(job, tmp_path, det, proc)
        with pytest.raises(ParamError) as refused:
            job.prepare()
        assert refused.value.path == path


@pytest.mark.parametrize("block", ["statistics", "profiles", "mask"])
def test_regions_that_are_switched_off_are_none(tmp_path, block):
    given = {"statistics": {"rect_rois": [BOX]}, "profiles": {"rois": [BOX], "directions": ["vertical"]}}
    with driven(2) as job:
        write(job, tmp_path, KEPT, {block: {**given.get(block, {"path": "mask.npy"}), "enabled": False}}, nb_frames=3)
        assert job.complete().state == "done"
