"""The control drives: all receivers or none, followed to the last file, remembered."""

import json
from functools import partial
from threading import Event as Flag

import h5py
import numpy as np
import pytest
from driving import BOUND, driven, in_thread, until

from lima2_tango.control import follow, serve
from lima2_tango.control.ranks import on_all
from lima2_tango.control.runlog import RunState
from lima2_tango.core.encoded import frame_of
from lima2_tango.core.errors import AgreementError, DataLossError, Lima2Error, NotAvailableError, ParamError, StateError
from lima2_tango.core.state import State
from lima2_tango.processing.rows import ROI
from lima2_tango.transport import pulse

ENDLESS = {"nb_frames": 0, "expo_time": 2000}
ROWS = {"statistics": {"rect_rois": [{"topleft": {"x": 3}, "dimensions": {"x": 9, "y": 1}}]}}
RANDOM = {"dispatch_mode": "full_random"}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(follow, "PERIOD", 0.01)


def states(job):
    return [device.machine.state for device in (job.control, *job.receivers)]


def all_idle(job):
    return set(states(job)) == {State.IDLE}


@pytest.mark.parametrize("receivers", [1, 2, 3])
@pytest.mark.parametrize("dispatch", ["round_robin", "full_random"])
def test_a_run_ends_by_itself_with_all_frames_in_files(tmp_path, receivers, dispatch):
    with driven(receivers) as job:
        job.write(tmp_path, det={"dispatch_mode": dispatch}, nb_frames=30)
        record = job.complete()
        assert (record.state, record.error) == ("done", "")
        counts = (record.nb_frames_acquired, record.nb_frames_processed, record.nb_frames_saved)
        assert counts == (30, 30, 30)
        assert all_idle(job)
        data = sorted(str(path) for path in tmp_path.glob("lima2_[0-9]*.h5"))
        assert sorted(set(record.files) & set(data)) == data
        assert record.files[0] == str(tmp_path / "lima2_master.h5")
        assert json.loads(record.json_text())["driver"] == "control"


def test_each_receiver_gets_its_own_parameters(tmp_path):
    with driven(2) as job:
        job.write(tmp_path, det=RANDOM)
        job.prepare()
        for rank, receiver in enumerate(job.receivers):
            params = receiver.choice.params
            assert params.saving.filename_rank == rank
            assert params.saving.include_frame_idx
            assert params.frame_idx_enabled
        job.drive.stop()


def test_what_one_receiver_refuses_none_does(tmp_path):
    with driven(3) as job:
        job.write(tmp_path)
        job.ranks[1].breaks["prepare"] = ParamError("$.mask.path", "/x.edf", "there is no such file")
        with pytest.raises(AgreementError) as refused:
            job.prepare()
        assert "receiver 1 (lab/receiver/1): $.mask.path" in str(refused.value)
        assert all_idle(job)
        assert [list(receiver.runs) for receiver in job.receivers] == [[], [], []]
        assert job.drive.records() == []
        job.ranks[1].breaks.clear()
        assert job.complete().state == "done"


def test_where_one_receiver_breaks_in_an_unforeseen_way_none_stays_prepared():
    with driven(3) as job:
        job.write(None)
        job.ranks[1].breaks["prepare"] = TypeError("unsupported data_format")
        with pytest.raises(TypeError):
            job.prepare()
        assert all_idle(job)
        assert not any(receiver.runs for receiver in job.receivers)


def test_a_run_that_was_stopped_before_it_began_does_not_begin():
    with driven(1) as job:
        job.write(None)
        job.prepare()
        job.run.end(RunState.STOPPED)
        with pytest.raises(StateError, match="another client stopped this run before it began: prepare again"):
            job.drive.start()
        assert job.receivers[0].machine.state is State.PREPARED


def test_what_was_known_of_a_run_does_not_replace_how_it_ended():
    with driven(1) as job:
        job.write(None, nb_frames=4)
        job.acquire()
        early = job.run.record()
        assert job.run.ended.wait(BOUND)
        until(lambda: job.drive.log.record(early.uuid).end, "the record is final")
        job.drive.log.put(early)
        assert job.drive.record(early.uuid).state == "done"


def test_rows_that_a_receiver_gives_too_late_come_with_the_next_pop(monkeypatch):
    monkeypatch.setattr(serve, "on_all", partial(on_all, limit=0.1))
    with driven(2) as job:
        job.write(None, ROWS, nb_frames=6)
        job.complete()
        gate = job.ranks[1].gates["rows"] = Flag()
        first = serve.rows(job.run, "popRoiStatistics")
        gate.set()
        del job.ranks[1].gates["rows"]
        late = []
        until(
            lambda: (
                late.append(serve.rows(job.run, "popRoiStatistics")) or len(first + b"".join(late)) == 6 * ROI.itemsize
            )
        )
        assert np.frombuffer(first + b"".join(late), ROI)["frame_idx"].tolist() == list(range(6))


def test_rows_that_never_come_are_said_to_be_missing_and_the_others_come_after_that():
    with driven(2) as job:
        job.write(None, ROWS, nb_frames=6)
        job.complete()
        job.receivers[1].runs[job.run.uuid].pipeline.pop("popRoiStatistics")
        found, said = b"", []
        for _ in range(8):
            try:
                found += serve.rows(job.run, "popRoiStatistics")
            except DataLossError as error:
                said.append(str(error))
        assert np.frombuffer(found, ROI)["frame_idx"].tolist() == [0, 2, 4]
        assert [text.split(",")[0] for text in said] == [
            "popRoiStatistics: the rows of frames 1 to 1 never came",
            "popRoiStatistics: the rows of frames 3 to 3 never came",
        ]


def test_one_reason_of_two_receivers_is_told_once(tmp_path):
    with driven(2) as job:
        job.write(tmp_path, {"statistics": {"rect_rois": [{"topleft": {"x": 30}, "dimensions": {"x": 9, "y": 1}}]}})
        with pytest.raises(AgreementError) as refused:
            job.prepare()
        assert str(refused.value).count("$.statistics") == 1
        assert "receiver 0 (lab/receiver/0) and receiver 1 (lab/receiver/1)" in str(refused.value)


def test_a_start_that_one_receiver_refuses_stops_all_and_names_it(tmp_path):
    with driven(2) as job:
        job.write(tmp_path)
        identity = job.prepare()
        job.ranks[1].breaks["start"] = StateError("cannot start today")
        with pytest.raises(AgreementError, match=r"receiver 1 \(lab/receiver/1\): cannot start today"):
            job.start()
        assert job.run.ended.wait(BOUND)
        record = job.drive.record(identity)
        assert record.state == "failed"
        assert "cannot start today" in record.error
        assert job.control.machine.state is State.FAULT
        job.drive.reset()
        assert all_idle(job)
        job.ranks[1].breaks.clear()
        until(lambda: all_idle(job))
        assert job.complete().state == "done"


@pytest.mark.parametrize("saved", [False, True])
def test_a_receiver_that_falls_silent_is_named_and_the_others_end(tmp_path, monkeypatch, saved):
    monkeypatch.setattr(follow, "SILENCE", 0.4)
    with driven(2) as job:
        job.write(tmp_path if saved else None, **ENDLESS)
        identity = job.acquire()
        until(lambda: job.run.nb_frames_received > 20, "frames")
        job.ranks[1].go_silent()
        assert job.run.ended.wait(BOUND)
        record = job.drive.record(identity)
        assert record.state == "failed"
        assert "receiver 1 (lab/receiver/1): it has not answered for" in record.error
        assert job.control.machine.state is State.FAULT
        assert record.error in job.drive.last_error
        until(lambda: job.receivers[0].machine.state is State.IDLE)


def test_a_receiver_that_answers_again_in_time_costs_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(follow, "SETTLE_LIMIT", 0.1)
    with driven(2) as job:
        job.write(tmp_path, nb_frames=40)
        identity = job.acquire()
        job.ranks[1].go_silent()
        until(lambda: job.run.over.is_set(), "the ranks agree that it is over")
        assert not job.run.ended.wait(10 * follow.SETTLE_LIMIT)
        job.ranks[1].breaks.clear()
        assert job.run.ended.wait(BOUND)
        record = job.drive.record(identity)
        assert (record.state, record.error) == ("done", "")
        assert (record.nb_frames_acquired, record.nb_frames_saved) == (40, 40)
        with h5py.File(tmp_path / "lima2_master.h5") as file:
            assert "valid" not in file["entry_0000/instrument/detector"]
            assert len(file["entry_0000/measurement/data"]) == 40


def test_the_control_waits_for_a_receiver_as_long_as_the_ranks_do():
    assert follow.SILENCE == pulse.SILENCE


def test_a_failing_camera_is_fault_with_rank_and_frame_until_reset(tmp_path):
    with driven(2) as job:
        job.write(tmp_path, det={"failed_frame_idx": 7}, nb_frames=40)
        record = job.complete()
        assert record.state == "failed"
        assert record.error.startswith("receiver 1 (lab/receiver/1): frame 7 failed")
        assert job.control.machine.state is State.FAULT
        assert job.drive.last_error == record.error
        with pytest.raises(StateError, match="allowed now: reset"):
            job.prepare()
        job.drive.reset()
        assert all_idle(job)
        assert job.drive.last_error == ""
        assert job.drive.record(record.uuid).error == record.error
        job.write(None)
        assert job.complete().state == "done"


def test_failed_processing_is_a_failed_run_but_no_fault(tmp_path):
    with driven(2) as job:
        job.write(None, {"class_name": "LimaProcessingFailing", "failed_frame_idx": 6}, **ENDLESS)
        record = job.complete()
        assert record.state == "failed"
        assert "receiver 0 (lab/receiver/0): frame 6" in record.error
        assert all_idle(job)
        assert job.drive.last_error == record.error


def test_a_run_whose_pipeline_fails_at_start_ends(monkeypatch):
    monkeypatch.setattr(follow, "FAULT_PATIENCE", 0.2)
    with driven(2) as job:
        job.write(None, {"class_name": "LimaProcessingFailing", "failed_on_activate": True})
        record = job.complete()
        assert record.state == "failed"
        assert "failed_on_activate" in record.error
        assert set(states(job)) == {State.FAULT}


def test_a_stop_ends_a_run_at_a_common_frame(tmp_path):
    with driven(2) as job:
        job.write(tmp_path, **ENDLESS)
        identity = job.acquire()
        until(lambda: job.run.nb_frames_received > 10, "frames")
        job.drive.stop()
        assert job.run.ended.wait(BOUND)
        record = job.drive.record(identity)
        assert (record.state, record.error) == ("stopped", "")
        total = record.nb_frames_acquired
        assert [receiver.nb_frames_xferred for receiver in job.receivers] == [(total + 1) // 2, total // 2]
        assert record.nb_frames_saved == total


@pytest.mark.parametrize("command", ["stop", "reset", "close", "abort"])
def test_what_is_prepared_is_given_up_everywhere(command):
    with driven(2) as job:
        job.write(None)
        identity = job.prepare()
        assert job.drive.record(identity).state == "prepared"
        getattr(job.drive, command)()
        assert all_idle(job)
        assert job.drive.record(identity).state == "stopped"


@pytest.mark.parametrize("state", ["idle", "prepared", "running", "fault"])
def test_abort_leads_to_idle_from_every_state(state):
    with driven(2) as job:
        job.write(None, det={"failed_frame_idx": 3} if state == "fault" else {}, **ENDLESS)
        if state != "idle":
            job.prepare()
        if state in {"running", "fault"}:
            job.start()
        if state == "fault":
            assert job.control.machine.wait(State.FAULT, timeout=BOUND)
        job.drive.abort()
        assert all_idle(job)
        job.write(None)
        assert job.complete().state == "done"


@pytest.mark.parametrize("command", ["reset", "close"])
def test_a_reset_in_mid_run_is_idle_at_once_and_the_run_ends_behind_it(command):
    with driven(2) as job:
        job.write(None, **ENDLESS)
        job.acquire()
        first = job.run
        getattr(job.drive, command)()
        assert job.control.machine.state is State.IDLE
        job.write(None)
        assert job.complete().state == "done"
        assert first.ended.wait(BOUND)
        assert first.record().state == "stopped"


def test_a_conductor_is_refused_while_our_run_is_prepared_and_it_stays(tmp_path):
    with driven(2) as job:
        job.write(tmp_path, nb_frames=8)
        identity = job.prepare()
        job.write(None, nb_frames=3)
        job.control.build()
        with pytest.raises(StateError, match=rf"this control drives the run {identity}, which is prepared"):
            job.control.prepare("of-a-conductor")
        job.start()
        assert job.run.ended.wait(BOUND)
        assert job.drive.record(identity).nb_frames_saved == 8


@pytest.mark.parametrize("state", ["prepared", "running"])
def test_we_are_refused_while_a_conductors_run_is_on(state):
    with driven(2) as job:
        job.write(None, nb_frames=0)
        job.control.build()
        job.control.prepare("of-a-conductor")
        if state == "running":
            job.drive.start()
        with pytest.raises(StateError, match="a conductor drives the run|cannot prepare while running"):
            job.prepare()
        assert not any(receiver.runs for receiver in job.receivers)
        job.drive.stop()
        until(lambda: all_idle(job))


def test_a_receiver_that_somebody_else_prepared_is_found_at_start():
    with driven(2) as job:
        job.write(None)
        job.prepare()
        other = job.receivers[1]
        other.build()
        other.prepared(other.prepare("of-another-client"))
        with pytest.raises(AgreementError, match=r"receiver 1 \(lab/receiver/1\): .*another client has used it"):
            job.start()
        assert job.control.machine.state is State.PREPARED
        assert job.complete().state == "done"


def test_the_next_run_goes_on_while_the_last_ones_processing_drains(tmp_path):
    with driven(2) as job:
        job.write(tmp_path)
        job.ranks[1].unfinished = True
        first = job.acquire()
        assert job.control.machine.wait(State.IDLE, timeout=BOUND)
        assert job.drive.record(first).state == "processing"
        run = job.run
        job.write(None)
        second = job.acquire()
        assert job.control.machine.wait(State.IDLE, timeout=BOUND)
        assert job.drive.record(first).state == "processing"
        assert [record.uuid for record in job.drive.records()] == [second, first]
        job.ranks[1].unfinished = False
        assert run.ended.wait(BOUND)
        assert job.drive.record(first).files[0].endswith("lima2_master.h5")
        assert job.run.ended.wait(BOUND)


def test_the_processing_of_the_last_two_runs_is_kept():
    with driven(2) as job:
        job.write(None, nb_frames=4)
        made = [job.complete().uuid for _ in range(4)]
        assert [list(receiver.runs) for receiver in job.receivers] == [made[-2:]] * 2
        assert [record.uuid for record in job.drive.records()] == made[::-1]


def test_a_prepare_that_is_stopped_meanwhile_prepares_nothing():
    with driven(2) as job:
        job.write(None)
        gate = job.ranks[1].gates["prepare"] = Flag()
        thread, outcome = in_thread(job.prepare)
        assert job.ranks[1].busy.wait(BOUND)
        job.drive.stop()
        gate.set()
        thread.join(BOUND)
        assert "another client stopped this Prepare" in str(outcome[0])
        assert all_idle(job)
        assert not any(receiver.runs for receiver in job.receivers)


@pytest.mark.parametrize("command", ["prepare", "acquire"])
def test_a_second_client_is_refused_while_a_prepare_is_under_way(command):
    with driven(1) as job:
        job.write(None)
        gate = job.ranks[0].gates["prepare"] = Flag()
        thread, outcome = in_thread(job.prepare)
        assert job.ranks[0].busy.wait(BOUND)
        with pytest.raises(StateError, match="another client's Prepare or Start is under way"):
            getattr(job.drive, command)()
        gate.set()
        thread.join(BOUND)
        assert outcome == [job.run.uuid]
        assert job.control.machine.state is State.PREPARED


def test_of_two_clients_that_prepare_at_the_same_instant_the_one_that_came_last_succeeds():
    with driven(1) as job:
        job.write(None)
        built, go = Flag(), Flag()

        def first():
            job.drive.build()
            built.set()
            assert go.wait(BOUND)
            return job.drive.prepare()

        thread, outcome = in_thread(first)
        assert built.wait(BOUND)
        job.drive.build()
        go.set()
        identity = job.drive.prepare()
        thread.join(BOUND)
        assert "another client's Prepare" in str(outcome[0])
        assert job.run.uuid == identity


def test_a_prepare_with_bad_parameters_gives_up_what_was_prepared():
    with driven(2) as job:
        job.write(None)
        identity = job.prepare()
        job.write(None, trigger_mode="software", nb_frames_per_trigger=1)
        job.control.camera.prepare = lambda params: (_ for _ in ()).throw(ParamError("$.det", 0, "not today"))
        with pytest.raises(ParamError, match="not today"):
            job.prepare()
        assert all_idle(job)
        assert job.drive.record(identity).state == "stopped"


def test_an_existing_master_file_is_refused_before_a_receiver_is_asked(tmp_path):
    with driven(2) as job:
        (tmp_path / "lima2_master.h5").write_bytes(b"of last year")
        job.write(tmp_path)
        with pytest.raises(ParamError, match="lima2_master.h5"):
            job.prepare()
        assert all_idle(job)
        assert (tmp_path / "lima2_master.h5").read_bytes() == b"of last year"


def test_sums_of_frames_dealt_at_random_are_refused():
    with driven(2) as job:
        job.write(None, {"accumulation": {"enabled": True, "nb_frames": 2}}, det=RANDOM)
        with pytest.raises(ParamError, match=r"\$\.accumulation\.enabled"):
            job.prepare()


@pytest.mark.parametrize("dispatch", ["round_robin", "full_random"])
def test_every_frame_is_found_on_the_receiver_that_has_it(dispatch):
    with driven(2) as job:
        job.write(None, det={"dispatch_mode": dispatch}, nb_frames=20)
        job.complete()
        for command in ("getFrame", "getInputFrame"):
            found = [frame_of(serve.frame(job.drive.current(), command, index))[0] for index in (*range(20), -1)]
            assert found == [*range(20), 19]
        with pytest.raises(NotAvailableError, match="20"):
            serve.frame(job.drive.current(), "getFrame", 20)
        with pytest.raises(NotAvailableError, match="begin at 0"):
            serve.frame(job.drive.current(), "getFrame", -2)


def test_sums_are_found_by_their_own_number():
    with driven(2) as job:
        job.write(None, {"accumulation": {"enabled": True, "nb_frames": 2}}, nb_frames=12)
        assert job.complete().nb_frames_processed == 6
        assert [frame_of(serve.frame(job.drive.current(), "getFrame", index))[0] for index in range(6)] == list(
            range(6)
        )


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda drive: serve.frame(drive.current(), "getFrame", 0), "has driven no run yet"),
        (lambda drive: serve.rows(drive.current(), "popRoiStatistics"), "has driven no run yet"),
        (lambda drive: drive.record("x"), "no run 'x'"),
    ],
)
def test_before_the_first_run_everything_says_so(call, said):
    with driven(1) as job, pytest.raises(NotAvailableError, match=said):
        call(job.drive)


def test_a_pipeline_without_frames_says_so():
    with driven(1) as job:
        job.write(None, {"class_name": "LimaProcessingFailing"})
        job.complete()
        for call in (
            lambda: serve.frame(job.drive.current(), "getFrame", 0),
            lambda: serve.rows(job.drive.current(), "popRoiStatistics"),
        ):
            with pytest.raises(NotAvailableError, match="LimaProcessingFailing has no"):
                call()


def test_progress_tells_what_is_left_and_events_come_with_it():
    told = []
    with driven(2) as job:
        job.drive.on_progress.append(lambda: told.append(job.run.nb_frames_received))
        job.write(None, nb_frames=400, expo_time=2000)
        job.acquire()
        until(lambda: job.run.frame_rate > 0, "a rate")
        assert 0 < job.run.time_left < 60
        assert job.run.ended.wait(BOUND)
        assert job.run.time_left == 0
        assert told == sorted(told)
        assert told[-1] == 400


def test_without_receivers_a_prepare_is_refused():
    with driven(1) as job:
        job.drive._connect = list
        job.write(None)
        with pytest.raises(StateError, match="no receivers"):
            job.prepare()


def test_an_error_in_following_ends_the_run_in_fault():
    with driven(1) as job:
        job.write(None, **ENDLESS)
        job.acquire()
        job.ranks[0].breaks["processing"] = RuntimeError("unforeseen")
        assert job.run.ended.wait(BOUND)
        assert "unforeseen" in job.run.record().error
        assert job.control.machine.state is State.FAULT
        assert isinstance(job.control.error, Lima2Error)
        job.drive.reset()
        until(lambda: all_idle(job))
