"""Controller and receivers of one job, without Tango: prepare, start, stop, fail, reset."""

import json
from contextlib import contextmanager
from threading import Event as Flag

import numpy as np
import pytest

from lima2_tango.control.acquirer import Acquirer
from lima2_tango.control.controller import Controller
from lima2_tango.control.parameters import pipelines
from lima2_tango.control.receiver import Receiver
from lima2_tango.control.settings import Settings
from lima2_tango.core.errors import Lima2Error, MemoryBudgetError, NotAvailableError, ParamError, StateError
from lima2_tango.core.plugins import load
from lima2_tango.core.state import State
from lima2_tango.processing.rows import ROI
from lima2_tango.testing.worlds import memory_job
from lima2_tango.transport.agreement import Coordinator
from lima2_tango.transport.participant import Participant
from lima2_tango.transport.roster import Roster

BOUND = 20.0


class Job:
    """A control and its receivers, each on a rank of its own, all in this process."""

    def __init__(self, receivers, settings):
        self.channels = memory_job(receivers + 1)
        rosters = [Roster(channel) for channel in self.channels]
        pairs = list(zip(self.channels, rosters, strict=True))
        coordinators = [Coordinator(*pair) for pair in pairs]
        plugin = load("cameras", "simulator")
        acquirer = Acquirer(plugin, settings, rosters[0], Participant(*pairs[0], coordinators[0], acquirer=True))
        self.control = Controller(plugin, settings, coordinators[0], acquirer)
        self.receivers = [
            Receiver(
                plugin,
                settings,
                roster,
                Participant(channel, roster, coordinator),
                Acquirer(plugin, settings, roster, Participant(channel, roster, coordinator, acquirer=True)),
            )
            for (channel, roster), coordinator in list(zip(pairs, coordinators, strict=True))[1:]
        ]
        for number, (channel, roster) in enumerate(pairs):
            channel.open()
            roster.announce(control=number == 0, receiver=number > 0)
        for roster in rosters:
            roster.wait(5)

    def write(self, folder, proc=None, **acq):
        acquisition = {
            "acq": {"nb_frames": 10, "expo_time": 500, "latency_time": 0, **acq},
            "det": {"width": 32, "height": 24, "nb_prefetch_frames": 4, "generator": {"gauss": {"grow_factor": 0.5}}},
        }
        processing = {"class_name": "LimaProcessingLegacy", "saving": {"base_path": str(folder)}, **(proc or {})}
        self.control.set_acq_params(json.dumps(acquisition))
        for rank, receiver in enumerate(self.receivers):
            receiver.set_acq_params(json.dumps(acquisition))
            mine = {**processing}
            if "saving" in mine:
                mine["saving"] = {**mine["saving"], "filename_rank": rank}
            receiver.set_proc_params(json.dumps(mine))

    def prepare(self, uuid):
        self.control.build()
        self.control.prepare(uuid)
        runs = []
        for receiver in self.receivers:
            receiver.build()
            run = receiver.prepare(uuid)
            receiver.prepared(run)
            runs.append(run)
        return runs

    def start(self):
        for device in (*self.receivers, self.control):
            device.start()

    def wait_idle(self):
        return all(d.machine.wait(State.IDLE, timeout=BOUND) for d in (self.control, *self.receivers))

    def close(self):
        for receiver in self.receivers:
            receiver.close(BOUND)
        self.control.shut_down()
        for channel in self.channels:
            assert channel.close()


@contextmanager
def job(receivers=2, settings=None):
    made = Job(receivers, settings or Settings(memory_budget=64 << 20, workers=1))
    try:
        yield made
    finally:
        made.close()


def finished(runs):
    return all(run.finished.wait(BOUND) for run in runs)


@pytest.mark.parametrize("receivers", [1, 2, 3])
def test_a_run_delivers_every_frame_once_and_ends_idle(tmp_path, receivers):
    with job(receivers) as j:
        j.write(tmp_path)
        runs = j.prepare("u")
        j.start()
        assert finished(runs)
        assert j.wait_idle()
        assert [run.nb_frames for run in runs] == [len(range(rank, 10, receivers)) for rank in range(receivers)]
        assert j.control.nb_frames_acquired == 10
        counted = sum(run.pipeline.counters.read()["nb_frames_source"] for run in runs)
        assert counted == 10
        assert len(list(tmp_path.glob("lima2_*_00000.h5"))) == receivers


def test_a_stop_ends_an_endless_run_with_a_contiguous_prefix(tmp_path):
    with job(2) as j:
        j.write(tmp_path, nb_frames=0)
        runs = j.prepare("u")
        enough = Flag()
        j.start()
        while not enough.is_set():
            enough.wait(0.01)
            if min(run.nb_frames for run in runs) >= 3:
                enough.set()
        j.control.stop()
        assert finished(runs)
        assert j.wait_idle()
        total = sum(run.nb_frames for run in runs)
        assert [run.nb_frames for run in runs] == [(total + 1) // 2, total // 2]


def test_software_triggers_expose_one_frame_each_and_the_run_ends_by_itself(tmp_path):
    with job(2) as j:
        j.write(tmp_path, trigger_mode="software", nb_frames=5)
        runs = j.prepare("u")
        j.start()
        for _ in range(5):
            j.control.trigger()
        assert finished(runs)
        assert j.wait_idle()
        assert [run.nb_frames for run in runs] == [3, 2]


def test_rows_are_poppable_once_the_run_has_finished(tmp_path):
    roi = {"topleft": {"x": 1, "y": 2}, "dimensions": {"x": 4, "y": 3}}
    with job(1) as j:
        j.write(tmp_path, {"statistics": {"rect_rois": [roi]}, "saving": {"enabled": False}})
        (run,) = j.prepare("u")
        j.start()
        assert finished([run])
        rows = np.frombuffer(run.pipeline.pop("popRoiStatistics"), ROI)
        assert rows["frame_idx"].tolist() == list(range(10))
        assert run.pipeline.pop("popRoiStatistics") == b""


def test_a_failing_frame_ends_the_run_on_all_receivers_and_is_reported(tmp_path):
    with job(2) as j:
        j.write(tmp_path, nb_frames=0)
        for receiver in j.receivers:
            receiver.set_proc_params('{"class_name": "LimaProcessingFailing", "failed_frame_idx": 6}')
        runs = j.prepare("u")
        told = Flag()
        runs[0].on_error.append(told.set)
        j.start()
        assert finished(runs)
        assert told.is_set()
        assert "frame 6" in str(runs[0].last_error)
        assert runs[1].last_error is None
        assert j.wait_idle()


def test_a_camera_failure_is_fault_until_reset_and_the_data_stays(tmp_path):
    with job(1) as j:
        j.write(tmp_path)
        receiver = j.receivers[0]
        acquisition = receiver.acq_params.model_dump(mode="json")
        acquisition["det"]["failed_frame_idx"] = 7
        receiver.set_acq_params(json.dumps(acquisition))
        (run,) = j.prepare("u")
        j.start()
        assert receiver.machine.wait(State.FAULT, timeout=BOUND)
        assert "7" in str(receiver.error)
        assert finished([run])
        with pytest.raises(StateError, match="allowed now: reset"):
            receiver.build()
        assert run.pipeline.counters.read()["nb_frames_source"] == run.nb_frames
        receiver.reset()
        assert receiver.machine.state is State.IDLE
        assert receiver.error is None


def test_failed_on_activate_is_fault_and_never_finished(tmp_path):
    with job(1) as j:
        j.write(tmp_path)
        j.receivers[0].set_proc_params('{"class_name": "LimaProcessingFailing", "failed_on_activate": true}')
        (run,) = j.prepare("u")
        j.start()
        assert j.receivers[0].machine.wait(State.FAULT, timeout=BOUND)
        assert run.join(BOUND)
        assert not run.finished.is_set()


def test_prepare_twice_runs_the_second(tmp_path):
    with job(1) as j:
        j.write(tmp_path)
        (first,) = j.prepare("one")
        j.write(tmp_path, nb_frames=4)
        (second,) = j.prepare("two")
        j.start()
        assert finished([second, first])
        assert (first.nb_frames, second.nb_frames) == (0, 4)
        assert list(j.receivers[0].runs) == ["one", "two"]


def test_a_failing_prepare_leaves_the_next_one_possible(tmp_path):
    with job(1) as j:
        j.write(
            tmp_path, {"statistics": {"rect_rois": [{"topleft": {"x": 30, "y": 0}, "dimensions": {"x": 9, "y": 1}}]}}
        )
        with pytest.raises(ParamError, match=r"\$\.statistics\.rect_rois\[0\]"):
            j.receivers[0].build()
        assert j.receivers[0].machine.state is State.IDLE
        j.write(tmp_path)
        runs = j.prepare("u")
        j.start()
        assert finished(runs)


def test_stop_and_reset_are_safe_in_every_state(tmp_path):
    with job(1) as j:
        receiver = j.receivers[0]
        for device in (receiver, j.control):
            device.stop()
            device.reset()
        j.write(tmp_path)
        runs = j.prepare("u")
        for device in (receiver, j.control):
            device.stop()
        assert j.wait_idle()
        assert finished(runs)


def test_a_run_is_erased_with_its_memory(tmp_path):
    with job(1) as j:
        j.write(tmp_path)
        runs = j.prepare("u")
        j.start()
        assert finished(runs)
        assert j.wait_idle()
        j.receivers[0].erase("u")
        assert not j.receivers[0].runs
        with pytest.raises(NotAvailableError, match="no pipeline u"):
            j.receivers[0].erase("u")


def test_a_running_pipeline_cannot_be_erased(tmp_path):
    with job(1) as j:
        j.write(tmp_path, nb_frames=0)
        j.prepare("u")
        j.start()
        with pytest.raises(StateError, match="stop it before"):
            j.receivers[0].erase("u")


def test_frames_that_do_not_fit_the_budget_are_refused_with_the_numbers(tmp_path):
    with job(1, Settings(memory_budget=1 << 20, workers=1)) as j:
        j.write(tmp_path)
        acquisition = j.receivers[0].acq_params.model_dump(mode="json")
        acquisition["det"] |= {"width": 2048, "height": 2048}
        j.receivers[0].set_acq_params(json.dumps(acquisition))
        with pytest.raises(MemoryBudgetError, match="1.049 MB"):
            j.receivers[0].build()


@pytest.mark.parametrize(
    ("path", "fault"), [("/etc/x.edf", "data_roots"), ("bad\0name", "NUL")], ids=["outside the roots", "NUL"]
)
def test_paths_stay_in_the_data_roots(tmp_path, path, fault):
    with job(1, Settings(memory_budget=64 << 20, data_roots=(str(tmp_path),))) as j:
        text = json.dumps({
            "class_name": "LimaProcessingLegacy",
            "mask": {"path": path},
            "saving": {"base_path": str(tmp_path)},
        })
        with pytest.raises(ParamError, match=rf"\$\.mask\.path.*{fault}"):
            j.receivers[0].set_proc_params(text)


def test_an_unknown_pipeline_is_refused_with_the_choice():
    with job(1) as j, pytest.raises(ParamError, match="LimaProcessingLegacy"):
        j.receivers[0].set_proc_params('{"class_name": "LimaProcessingMagic"}')


def test_start_before_prepare_is_refused_with_what_is_allowed():
    with job(1) as j:
        for device in (j.control, j.receivers[0]):
            with pytest.raises(StateError, match="cannot start while idle; allowed now: close, prepare, reset"):
                device.check_start()


def test_a_trigger_outside_a_software_run_is_refused(tmp_path):
    with job(1) as j:
        with pytest.raises(Lima2Error, match="cannot trigger while idle"):
            j.control.trigger()
        j.write(tmp_path, nb_frames=0)
        j.prepare("u")
        j.start()
        with pytest.raises(StateError, match="trigger_mode internal"):
            j.control.trigger()


def test_every_pipeline_is_found_by_its_tango_class():
    assert {"LimaProcessingLegacy", "LimaProcessingFailing"} <= set(pipelines())


def wait_for_frames(runs, count):
    """Until each run has taken this many frames."""
    waiting = Flag()
    for _ in range(int(BOUND / 0.01)):
        if min(run.nb_frames for run in runs) >= count:
            return
        waiting.wait(0.01)
    pytest.fail(f"only {[run.nb_frames for run in runs]} frames came")


def rows_of(folder):
    """Rows of each complete file, by name."""
    import h5py

    counts = {}
    for path in sorted(folder.glob("lima2_*.h5")):
        with h5py.File(path) as file:
            counts[path.name] = len(file["entry_0000/instrument/detector/data"])
    return counts


def test_a_process_that_goes_down_in_mid_run_closes_its_files(tmp_path):
    with job(1) as j:
        j.write(tmp_path, {"saving": {"base_path": str(tmp_path), "nb_frames_per_file": 1000}}, nb_frames=0)
        (run,) = j.prepare("u")
        j.start()
        wait_for_frames([run], 5)
        j.receivers[0].close(BOUND)
        assert run.finished.is_set()
        assert rows_of(tmp_path) == {"lima2_0_00000.h5": run.pipeline.counters.read()["nb_frames_saved"]}


def test_reset_in_mid_run_is_idle_at_once_and_the_next_run_waits_for_the_camera(tmp_path):
    with job(2) as j:
        j.write(tmp_path, nb_frames=0)
        runs = j.prepare("one")
        j.start()
        wait_for_frames(runs, 2)
        for device in (*j.receivers, j.control):
            device.reset()
            assert device.machine.state is State.IDLE
        j.write(tmp_path, {"saving": {"base_path": str(tmp_path), "filename_prefix": "second"}}, nb_frames=4)
        second = j.prepare("two")
        assert all(run.acquired.is_set() for run in runs)
        j.start()
        assert finished([*runs, *second])
        assert [run.nb_frames for run in second] == [2, 2]


@pytest.mark.parametrize("how", ["by itself", "stopped", "failed", "never started"])
def test_the_end_of_a_run_is_told_exactly_once(tmp_path, how):
    with job(1) as j:
        j.write(tmp_path, nb_frames=0 if how == "stopped" else 8)
        if how == "failed":
            j.receivers[0].set_proc_params('{"class_name": "LimaProcessingFailing", "failed_frame_idx": 3}')
        (run,) = j.prepare("u")
        told = []
        run.on_finished.append(lambda: told.append(run.pipeline.counters.read()["nb_frames_source"]))
        if how != "never started":
            j.start()
        if how == "stopped":
            wait_for_frames([run], 1)
        if how in {"stopped", "never started"}:
            j.receivers[0].stop()
        assert run.finished.wait(BOUND)
        assert run.join(BOUND)
        assert told == [run.pipeline.counters.read()["nb_frames_source"]]


def test_a_new_run_may_begin_while_the_last_ones_files_are_being_completed(tmp_path):
    with job(1) as j:
        prefixes = [f"run{number}" for number in range(5)]
        runs = []
        for prefix in prefixes:
            j.write(tmp_path, {"saving": {"base_path": str(tmp_path), "filename_prefix": prefix}})
            runs += j.prepare(prefix)
            j.start()
            assert j.receivers[0].machine.wait(State.IDLE, timeout=BOUND)
            assert j.wait_idle()
        assert finished(runs)
        assert {path.name for path in tmp_path.glob("run*.h5")} == {f"{prefix}_0_00000.h5" for prefix in prefixes}


def test_the_counts_of_the_last_run_stay_until_the_next_prepare(tmp_path):
    with job(2) as j:
        j.write(tmp_path)
        runs = j.prepare("one")
        j.start()
        assert finished(runs)
        assert j.wait_idle()
        assert [receiver.nb_frames_xferred for receiver in j.receivers] == [5, 5]
        assert j.control.nb_frames_acquired == 10
        j.write(tmp_path, {"saving": {"enabled": False}})
        j.prepare("two")
        assert [receiver.nb_frames_xferred for receiver in j.receivers] == [0, 0]
        assert j.control.nb_frames_acquired == 0


@pytest.mark.parametrize(
    ("acq", "said"),
    [
        ({"expo_time": 0}, "$.acq.expo_time = 0"),
        ({"nb_frames": -1}, "$.acq.nb_frames = -1"),
        ({"trigger_mode": "magic"}, "$.acq.trigger_mode"),
        ({"acq_mode": "accumulation"}, "$.acq.acq_mode"),
    ],
)
def test_values_that_no_detector_can_do_are_refused_when_they_are_written(tmp_path, acq, said):
    with job(1) as j, pytest.raises(ParamError) as refused:
        j.write(tmp_path, **acq)
    assert said in str(refused.value)


def test_a_second_client_cannot_adopt_what_another_one_prepared(tmp_path):
    from threading import Thread

    with job(1) as j:
        j.write(tmp_path)
        Thread(target=j.receivers[0].build).start()
        assert j.receivers[0].machine.wait(State.IDLE, timeout=BOUND)
        with pytest.raises(StateError, match="another client's Prepare"):
            j.receivers[0].prepare("u")


@pytest.mark.parametrize("uuid", ["", "taken"])
def test_a_run_needs_a_uuid_of_its_own(tmp_path, uuid):
    with job(1) as j:
        j.write(tmp_path, {"saving": {"enabled": False}})
        j.prepare("taken")
        j.receivers[0].build()
        with pytest.raises(StateError, match="uuid of a new run"):
            j.receivers[0].prepare(uuid)
