"""Whole runs of a control and its receivers in every topology: each frame once, exact, in order, in the files."""

import json

import h5py
import hdf5plugin  # noqa: F401  (the filter that the files are compressed with)
import numpy as np
import pytest
from test_acquisition import BOUND, finished, job

from lima2_tango.cameras._images import Generator, fill
from lima2_tango.core.errors import ParamError
from lima2_tango.core.plugins import load
from lima2_tango.core.state import State
from lima2_tango.transport import assembly, reach

SHAPE = (24, 32)
IMAGES = 4
GROWING = {"gauss": {"peaks": [{"x0": 16.0, "y0": 12.0, "fwhm": 19.0, "max": 1000.0}], "grow_factor": 0.5}}
MODULES = [
    {"x": 0, "y": 0, "width": 15, "height": 10, "rotation": 0},
    {"x": 18, "y": 1, "width": 14, "height": 10, "rotation": 180},
    {"x": 1, "y": 12, "width": 12, "height": 14, "rotation": 90},
    {"x": 17, "y": 12, "width": 11, "height": 13, "rotation": 270},
]
"""Four modules with gaps between them, two of them turned by a quarter."""
BOXES = [(0, 0, 10, 15), (1, 18, 10, 14), (12, 1, 12, 14), (12, 17, 11, 13)]
"""What they cover: top, left, height, width."""

SHARED = {"topology": "distributed_processing"}
PARTIAL = {"topology": "partial_frames", "modules": MODULES}
EVERY = {
    "full": {},
    "scattered": SHARED,
    "scattered at random": {**SHARED, "dispatch_mode": "predictive_random"},
    "scattered by receiver 0": {**SHARED, "acquisition_rank": 0},
    "stripes": {"topology": "partial_frames"},
    "modules": PARTIAL,
}


def images():
    out = np.empty((IMAGES, 1, *SHAPE), np.uint16)
    fill(Generator.parse(json.dumps(GROWING)), np.arange(IMAGES), out)
    return out[:, 0]


def expected(det, index, missing=()):
    """The frame with this number; gaps between modules and missing ones are zero."""
    image = images()[index % IMAGES]
    if "modules" not in det:
        return image
    frame = np.zeros_like(image)
    for number, (top, left, height, width) in enumerate(BOXES):
        if number not in missing:
            area = (slice(top, top + height), slice(left, left + width))
            frame[area] = image[area]
    return frame


def write(j, folder, det, proc=None, **acq):
    j.write(folder, proc, **acq)
    for device in (j.control, *j.receivers):
        params = device.acq_params.model_dump(mode="json")
        params["det"] |= {"generator": params["det"]["generator"] | GROWING, **det}
        device.set_acq_params(json.dumps(params))


def saved(folder, receivers):
    """Frames in the files of each receiver."""
    found = []
    for rank in range(receivers):
        frames = []
        for path in sorted(folder.glob(f"lima2_{rank}_*.h5")):
            with h5py.File(path) as file:
                frames.extend(file["/entry_0000/measurement/data"][...].reshape(-1, *SHAPE))
        found.append(frames)
    return found


def masks(path, nb_frames):
    """The mask of missing modules of each frame in a file; zeros where the file says that none is missing."""
    with h5py.File(path) as file:
        detector = file["/entry_0000/instrument/detector"]
        if "missing_modules" not in detector:
            return [0] * nb_frames
        assert detector["missing_modules"].dtype == np.uint64
        return detector["missing_modules"][...].tolist()


def indices(run):
    """Global numbers of the frames of a receiver, as it told them."""
    return np.frombuffer(run.pipeline.pop("popFrameIdx"), np.dtype([("local", "<i4"), ("index", "<i4")]))["index"]


@pytest.fixture(params=["one host", "a host each"])
def hosts(request, monkeypatch):
    """Ranks have memory in common, or only messages."""
    if request.param == "a host each":
        monkeypatch.setattr(reach, "is_near", lambda fabric, rank: rank == fabric.rank)
    return request.param


@pytest.mark.usefixtures("hosts")
@pytest.mark.parametrize("receivers", [1, 2, 3])
@pytest.mark.parametrize("det", EVERY.values(), ids=EVERY)
def test_every_frame_is_saved_once_exact_and_in_order(tmp_path, det, receivers):
    with job(receivers) as j:
        write(j, tmp_path, det, {"frame_idx_enabled": True}, nb_frames=23)
        runs = j.prepare("u")
        j.start()
        assert finished(runs)
        assert j.wait_idle()
        assert j.control.nb_frames_acquired == 23
        told = [indices(run).tolist() for run in runs]
        assert sorted(sum(told, [])) == list(range(23))
        if "dispatch_mode" not in det:
            assert told == [list(range(rank, 23, receivers)) for rank in range(receivers)]
        for numbers, frames in zip(told, saved(tmp_path, receivers), strict=True):
            assert len(frames) == len(numbers)
            for number, frame in zip(numbers, frames, strict=True):
                assert np.array_equal(frame, expected(det, number)), f"frame {number}"
        assert [run.nb_incomplete for run in runs] == [0] * receivers


@pytest.mark.usefixtures("hosts")
@pytest.mark.parametrize("before", ["scattered", "stripes"])
def test_gaps_between_modules_are_zero_also_after_a_run_that_had_none(tmp_path, monkeypatch, before):
    monkeypatch.setattr(assembly, "MOST_SLOTS", 8)  # used again within each run, a few at a time
    monkeypatch.setattr(assembly, "BLOCK_BYTES", 2 * images()[0].nbytes)
    with job(2) as j:
        for name in (before, "modules", before, "modules"):
            folder = tmp_path / f"{len(list(tmp_path.iterdir()))}"
            write(j, folder, EVERY["stripes"] | {"modules": []} | EVERY[name], nb_frames=23)
            runs = j.prepare(folder.name)
            j.start()
            assert finished(runs)
            assert j.wait_idle()
            for rank, frames in enumerate(saved(folder, 2)):
                assert len(frames) == len(range(rank, 23, 2))
                for number, frame in zip(range(rank, 23, 2), frames, strict=True):
                    assert np.array_equal(frame, expected(EVERY[name], number)), f"frame {number}, {name}"


@pytest.mark.usefixtures("hosts")
@pytest.mark.parametrize("det", EVERY.values(), ids=EVERY)
def test_a_stop_leaves_a_contiguous_series(tmp_path, det):
    with job(3) as j:
        for number in range(3):
            write(j, tmp_path / str(number), det, {"frame_idx_enabled": True}, nb_frames=0, expo_time=50 << number)
            runs = j.prepare(f"u{number}")
            j.start()
            while sum(run.nb_frames for run in runs) < 40:
                assert not runs[0].finished.wait(0.01)
            (j.control if number else j.receivers[1]).stop()
            assert finished(runs)
            assert j.wait_idle()
            told = sorted(sum((indices(run).tolist() for run in runs), []))
            assert told == list(range(len(told)))


@pytest.mark.parametrize("det", [SHARED, PARTIAL], ids=["scattered", "modules"])
def test_triggers_expose_the_frames_asked_for(tmp_path, det):
    with job(2) as j:
        write(j, tmp_path, det, nb_frames=5, trigger_mode="software", nb_frames_per_trigger=2)
        runs = j.prepare("u")
        j.start()
        for limit in (2, 4, 5):
            j.control.trigger()
            while sum(run.nb_frames for run in runs) < limit:
                runs[0].finished.wait(0.01)
        assert finished(runs)
        assert j.wait_idle()


@pytest.mark.parametrize("det", [SHARED, PARTIAL], ids=["scattered", "modules"])
def test_one_run_after_the_other_with_other_frames(tmp_path, det):
    with job(2) as j:
        for number, (nb_frames, one) in enumerate(((7, det), (0, det), (5, {}), (12, det))):
            folder = tmp_path / str(number)
            write(j, folder, one, nb_frames=nb_frames)
            runs = j.prepare(f"u{number}")
            j.start()
            if not nb_frames:
                j.control.stop()
            assert finished(runs)
            assert j.wait_idle()
        for rank, frames in enumerate(saved(folder, 2)):
            assert all(np.array_equal(f, expected(det, rank + 2 * k)) for k, f in enumerate(frames))


def test_fewer_receivers_than_there_are_assemble_stripes(tmp_path):
    with job(3) as j:
        j.receivers, others = j.receivers[:2], j.receivers[2:]
        write(j, tmp_path, {"topology": "partial_frames"}, nb_frames=9)
        runs = j.prepare("u")
        j.start()
        assert finished(runs)
        assert [len(frames) for frames in saved(tmp_path, 2)] == [5, 4]
        j.receivers += others


@pytest.mark.usefixtures("hosts")
def test_missing_modules_are_zero_in_the_file_and_counted(tmp_path):
    modules = [{**module, "missing_every": 3 if n == 2 else 5 if n == 3 else 0} for n, module in enumerate(MODULES)]
    det = {"topology": "partial_frames", "modules": modules}
    with job(2) as j:
        write(j, tmp_path, det, nb_frames=20)
        runs = j.prepare("u")
        j.start()
        assert finished(runs)
        assert j.wait_idle()
        incomplete = 0
        for rank, frames in enumerate(saved(tmp_path, 2)):
            told = masks(tmp_path / f"lima2_{rank}_00000.h5", 10)
            for k, frame in enumerate(frames):
                index = rank + 2 * k
                missing = [m for m, every in ((2, 3), (3, 5)) if (index + 1) % every == 0]
                incomplete += bool(missing)
                assert told[k] == sum(1 << module for module in missing)
                assert np.array_equal(frame, expected(det, index, missing))
        assert sum(r.nb_frames_incomplete for r in j.receivers) == incomplete == 9
        assert sum(r.nb_frames_lost for r in j.receivers) == 0


def test_modules_that_come_late_are_waited_for(tmp_path):
    modules = [{**module, "delay": 30_000 * n} for n, module in enumerate(MODULES)]
    det = {"topology": "partial_frames", "modules": modules}
    with job(2) as j:
        write(j, tmp_path, det, nb_frames=40)
        runs = j.prepare("u")
        j.start()
        assert finished(runs)
        for rank, frames in enumerate(saved(tmp_path, 2)):
            assert len(frames) == 20
            assert all(np.array_equal(f, expected(det, rank + 2 * k)) for k, f in enumerate(frames))


@pytest.mark.parametrize("det", [SHARED, PARTIAL], ids=["scattered", "modules"])
def test_a_dropped_frame_is_a_placeholder(tmp_path, det):
    with job(2) as j:
        write(j, tmp_path, {**det, "dropped_frame_idx": 5}, nb_frames=10)
        runs = j.prepare("u")
        j.start()
        assert finished(runs)
        assert [run.nb_lost for run in runs] == [0, 1]
        assert not saved(tmp_path, 2)[1][2].any()
        every = 0b1111 if "modules" in det else 0
        assert masks(tmp_path / "lima2_1_00000.h5", 5) == [0, 0, every, 0, 0]
        assert masks(tmp_path / "lima2_0_00000.h5", 5) == [0] * 5


def test_sums_lack_the_modules_that_any_of_their_frames_lacks(tmp_path):
    modules = [{**module, "missing_every": 10 if n == 2 else 0} for n, module in enumerate(MODULES)]
    with job(1) as j:
        sums = {"accumulation": {"enabled": True, "nb_frames": 4}}
        write(j, tmp_path, {"topology": "partial_frames", "modules": modules}, sums, nb_frames=20)
        runs = j.prepare("u")
        j.start()
        assert finished(runs)
        assert masks(tmp_path / "lima2_0_00000.h5", 5) == [0, 0, 0b100, 0, 0b100]


@pytest.mark.usefixtures("hosts")
def test_the_failure_of_the_rank_that_acquires_is_everybodys_fault_after_the_last_frame(tmp_path):
    with job(2) as j:
        write(j, tmp_path, {**SHARED, "failed_frame_idx": 9}, nb_frames=0)
        runs = j.prepare("u")
        j.start()
        assert j.control.machine.wait(State.FAULT, timeout=BOUND)
        assert "frame 9" in str(j.control.error)
        assert finished(runs)
        for device in (*j.receivers, j.control):
            assert device.machine.wait(State.FAULT, timeout=BOUND)
            assert "frame 9" in str(device.error)
            device.reset()
        assert sum(run.nb_frames for run in runs) == 9
        write(j, tmp_path / "next", SHARED, nb_frames=10)
        runs = j.prepare("v")
        j.start()
        assert finished(runs)
        assert sum(run.nb_frames for run in runs) == 10


@pytest.mark.usefixtures("hosts")
def test_a_receiver_whose_camera_fails_is_fault_and_the_others_end_whole(tmp_path):
    with job(3) as j:
        write(j, tmp_path, PARTIAL, {"frame_idx_enabled": True}, nb_frames=0)
        params = j.receivers[1].acq_params.model_dump(mode="json")
        params["det"]["failed_frame_idx"] = 9
        j.receivers[1].set_acq_params(json.dumps(params))
        runs = j.prepare("u")
        j.start()
        assert j.receivers[1].machine.wait(State.FAULT, timeout=BOUND)
        assert "frame 9" in str(j.receivers[1].error)
        assert finished(runs)
        for rank in (0, 2):
            assert j.receivers[rank].machine.wait(State.IDLE, timeout=BOUND)
        told = sorted(sum((indices(run).tolist() for run in runs), []))
        assert told == list(range(len(told)))
        assert sum(run.nb_incomplete for run in runs) == len(told) - 9


@pytest.mark.usefixtures("hosts")
@pytest.mark.parametrize("det", [SHARED, PARTIAL], ids=["scattered", "modules"])
@pytest.mark.parametrize("fault", [{"failed_frame_idx": 6}, {"failed_on_activate": True}], ids=["frame", "activation"])
def test_a_pipeline_that_fails_ends_the_run_on_all_receivers(tmp_path, det, fault):
    with job(2) as j:
        write(j, tmp_path, det, nb_frames=0)
        j.receivers[0].set_proc_params(json.dumps({"class_name": "LimaProcessingFailing", **fault}))
        runs = j.prepare("u")
        j.start()
        assert runs[1].finished.wait(BOUND)
        assert all(run.join(BOUND) for run in runs)
        assert runs[1].last_error is None
        state = State.FAULT if "failed_on_activate" in fault else State.IDLE
        assert j.receivers[0].machine.wait(state, timeout=BOUND)
        assert j.receivers[1].machine.wait(State.IDLE, timeout=BOUND)


@pytest.mark.usefixtures("hosts")
def test_frames_go_to_the_receiver_that_has_the_least_to_do(tmp_path):
    with job(2) as j:
        write(j, tmp_path, {**SHARED, "dispatch_mode": "least_loaded"}, {"frame_idx_enabled": True}, nb_frames=60)
        runs = j.prepare("u")
        j.start()
        assert finished(runs)
        assert j.wait_idle()
        told = [indices(run).tolist() for run in runs]
        assert sorted(sum(told, [])) == list(range(60))
        dealt = j.control.dealt("u")
        for rank, frames in enumerate(saved(tmp_path, 2)):
            assert dealt.owned(rank, 0, len(frames)).tolist() == told[rank]
            assert all(np.array_equal(f, expected(SHARED, i)) for i, f in zip(told[rank], frames, strict=True))


@pytest.mark.parametrize("det", [SHARED, PARTIAL], ids=["scattered", "modules"])
def test_a_process_that_goes_down_closes_its_files_and_waits_for_no_other(tmp_path, det):
    with job(2) as j:
        write(j, tmp_path, det, nb_frames=0)
        runs = j.prepare("u")
        j.start()
        while sum(run.nb_frames for run in runs) < 20:
            assert not runs[0].finished.wait(0.01)
        for receiver in j.receivers:
            receiver.close(5.0)
        assert all(run.finished.is_set() for run in runs)
        assert all(len(frames) for frames in saved(tmp_path, 2))


def test_devices_that_were_told_different_topologies_do_not_start(tmp_path):
    with job(2) as j:
        write(j, tmp_path, SHARED)
        params = j.receivers[1].acq_params.model_dump(mode="json")
        params["det"]["topology"] = "full_frames"
        j.receivers[1].set_acq_params(json.dumps(params))
        j.prepare("u")
        j.start()
        for receiver in j.receivers:
            assert receiver.machine.wait(State.FAULT, timeout=BOUND)
            assert "receiver 0 distributed_processing, receiver 1 full_frames" in str(receiver.error)


REFUSED = {
    "acquired by nobody": ({**SHARED, "acquisition_rank": 2}, "$.det.acquisition_rank"),
    "acquired by one and by all": ({"acquisition_rank": 0}, "$.det.acquisition_rank"),
    "least loaded without scattering": ({"dispatch_mode": "least_loaded"}, "$.det.dispatch_mode"),
    "parts dealt at random": ({**PARTIAL, "dispatch_mode": "full_random"}, "$.det.dispatch_mode"),
    "modules without parts": ({"modules": MODULES}, "$.det.modules"),
    "overlap": (
        {**PARTIAL, "modules": [MODULES[0], {**MODULES[1], "x": 14}]},
        "$.det.modules[1]",
    ),
    "leaves the frame": ({**PARTIAL, "modules": [{**MODULES[2], "x": 19}]}, "$.det.modules[0]"),
    "no such receiver": ({**PARTIAL, "modules": [{**MODULES[0], "receiver": 2}]}, "$.det.modules[0].receiver"),
}


@pytest.mark.parametrize(("det", "path"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_shared_is_refused_by_all_devices_at_prepare(tmp_path, det, path):
    with job(2) as j:
        write(j, tmp_path, det)
        for device in (j.control, *j.receivers):
            with pytest.raises(ParamError) as refused:
                device.build()
            assert refused.value.path == path


def test_receivers_in_another_order_than_whoever_drives_has_them_are_refused(tmp_path):
    with job(2) as j:
        write(j, tmp_path, {})
        told = [json.dumps(receiver.chosen().params.model_dump(mode="json")) for receiver in j.receivers]
        for rank, receiver in enumerate(j.receivers):
            receiver.set_proc_params(told[1 - rank])
            with pytest.raises(ParamError, match=f"this receiver has rank {rank}") as refused:
                receiver.build()
            assert refused.value.path == "$.saving.filename_rank"


@pytest.mark.parametrize("sharing", ["distributed_processing", "partial_frames", "kept_partial_frames"])
def test_a_camera_that_cannot_be_shared_so_refuses_it(sharing):
    with pytest.raises(ParamError, match="no such parameter") as refused:
        load("cameras", "reader").params.parse(json.dumps({"det": {"topology": sharing}}))
    assert refused.value.path == "$.det.topology"


def test_a_conductor_cannot_keep_frames_partial(tmp_path):
    with job(2) as j:
        write(j, tmp_path, {"topology": "kept_partial_frames"})
        j.control.build()
        with pytest.raises(ParamError, match=r"\$\.det\.topology.*empty uuid"):
            j.control.prepare("u")
