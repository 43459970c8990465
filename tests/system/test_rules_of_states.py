"""Rules R1 to R5: what a poller of `acq_state` and a listener to `is_finished` must see in every run."""

import time
from threading import Event, Thread

import pytest
from support import FAILING, FAST, SMALL, Rig
from watching import CONDUCTOR_PERIOD, EventLog, StateWatch, stays, wait_for

from lima2_tango.core.state import State

FINE = 0.005
"""Poll period that shows what the conductor's 50 ms cannot [s]."""
IDLE, PREPARED, RUNNING, FAULT = State.IDLE, State.PREPARED, State.RUNNING, State.FAULT


def entries(story: list[State], *states: State) -> int:
    """How often the story goes into one of the states; where it begins is no entry."""
    return sum(state in states for state in story[1:])


def test_a_50_ms_poller_sees_every_ten_frame_run(rig: Rig) -> None:
    """R1: PREPARED, RUNNING, IDLE faster than the poll would hang the conductor."""
    acq, proc = rig.acq(FAST | SMALL | {"acq.nb_frames": 10}), rig.legacy()
    for _ in range(20):
        with StateWatch(rig.receivers, CONDUCTOR_PERIOD) as coarse, StateWatch(rig.receivers, FINE) as fine:
            rig.run(acq, proc)
            wait_for(lambda: all(coarse.story(r)[-1:] == [IDLE] for r in rig.receivers), 1, "poll after the run")
        for receiver in rig.receivers:
            assert entries(coarse.story(receiver), IDLE) == 1, coarse.story(receiver)
            assert fine.seconds_not_idle(receiver) >= 0.150
        assert not coarse.errors + fine.errors


def test_a_run_goes_from_prepared_over_running_to_idle_once(rig: Rig) -> None:
    """R1, R4: no spurious IDLE between Prepare and the end; each device enters IDLE once."""
    with StateWatch(rig.devices, FINE) as watch:
        rig.run(rig.acq({"acq.nb_frames": 20, "acq.expo_time": 20_000} | SMALL), rig.legacy())
        wait_for(lambda: all(watch.story(d)[-1] is IDLE for d in rig.devices), 2, "IDLE everywhere")
    for receiver in rig.receivers:
        assert watch.story(receiver) == [IDLE, PREPARED, RUNNING, IDLE]
    assert watch.story(rig.control)[1:3] == [PREPARED, RUNNING]


def test_state_is_answered_while_prepare_start_and_stop_execute(rig: Rig) -> None:
    """R2: 3.2 s without an answer is `offline, run failed`; a Prepare of 16 large images takes its time."""
    acq = rig.acq({
        "acq.nb_frames": 0,
        "det.nb_prefetch_frames": 16,
        "det.generator.pixel_type": "gray32",
        "det.generator.gauss.grow_factor": 0.1,
    })
    with StateWatch(rig.devices, FINE) as watch:
        begin = time.monotonic()
        rig.prepare(acq, rig.legacy())
        prepared = time.monotonic()
        rig.start()
        rig.wait_counted("nb_frames_source", 20)
        rig.stop()
        rig.wait_receivers(IDLE)
    assert not watch.errors
    assert watch.slowest() < 1.0
    for receiver in rig.receivers:
        during = [r for r in watch.readings[receiver.dev_name()] if begin < r.at < prepared]
        assert len(during) >= (prepared - begin) / 0.2, "the receiver fell silent during Prepare"


def finish_in(rig: Rig, ending: str) -> None:
    """Drive a prepared run to its end, as the conductor does: after a failure it calls Stop on all devices."""
    if ending == "stopped":
        rig.wait_counted("nb_frames_source", 4)
        rig.stop()
    elif ending == "camera failed":
        wait_for(lambda: FAULT in rig.states(), 5, "FAULT")
        rig.stop()
    elif ending == "processing failed":
        errors = [device.read_attribute for device in rig.processing()]
        wait_for(lambda: any("{" in read("last_error").value for read in errors), 5, "last_error")
        rig.stop()


ENDINGS = {
    "success": {},
    "stopped": {"acq.nb_frames": 0},
    "camera failed": {"det.failed_frame_idx": 5},
    "processing failed": {},
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_is_finished_is_pushed_once_by_each_device_however_a_run_ends(rig: Rig, ending: str) -> None:
    """R3: none hangs the conductor, a second one counts as a second device; within 100 ms a subscriber may miss it."""
    acq = rig.acq({"acq.nb_frames": 30, "acq.expo_time": 5_000} | SMALL | ENDINGS[ending])
    proc = rig.proc({"failed_frame_idx": 5}, FAILING) if ending == "processing failed" else rig.legacy()
    rig.prepare(acq, proc)
    names = [device.dev_name() for device in rig.processing()]
    with EventLog(rig.processing()) as events:
        started = time.monotonic()
        rig.start()
        finish_in(rig, ending)
        wait_for(events.finished, 10, "is_finished from every device")
        stays(lambda: sum(events.pushes().values()) == len(names), 0.5, "no second push")
        assert events.pushes() == dict.fromkeys(names, 1)
        assert min(a.at for a in events.arrivals if a.attribute == "is_finished") - started >= 0.1


def test_data_and_counters_are_final_when_is_finished_comes(rig: Rig) -> None:
    """R3: whoever reads after the event reads everything."""
    acq = rig.acq(FAST | SMALL | {"acq.nb_frames": 40})
    rig.prepare(acq, rig.legacy())
    with EventLog(rig.processing()) as events:
        rig.start()
        wait_for(events.finished, 10, "is_finished from every device")
        first = rig.counters()
        assert [c["nb_frames_source"] for c in first] == [20, 20]
        assert [c["nb_frames_processed"] for c in first] == [20, 20]
        stays(lambda: rig.counters() == first, 0.3, "counters final")


def test_a_receiver_in_fault_stays_there_until_reset(rig: Rig) -> None:
    """R4: FAULT then IDLE would be counted as two finished receivers."""
    acq = rig.acq({"acq.nb_frames": 40, "acq.expo_time": 5_000, "det.failed_frame_idx": 5} | SMALL)
    with StateWatch(rig.receivers, FINE) as watch:
        rig.prepare(acq, rig.legacy())
        rig.start()
        wait_for(lambda: FAULT in rig.states(), 5, "FAULT")
        rig.stop()
        wait_for(lambda: set(rig.states()[1:]) <= {IDLE, FAULT}, 5, "every receiver done")
        stays(lambda: FAULT in rig.states(), 1.0, "FAULT until Reset")
    for receiver in rig.receivers:
        assert entries(watch.story(receiver), IDLE, FAULT) == 1, watch.story(receiver)
    failed = [r for r, state in zip(rig.receivers, rig.states()[1:], strict=True) if state is FAULT]
    assert all(r.read_attribute("last_error").value != "No error" for r in failed)
    rig.reset()
    rig.wait_receivers(IDLE, 2)
    assert {r.read_attribute("last_error").value for r in rig.receivers} == {"No error"}


def test_last_error_is_there_before_fault_is_seen(rig: Rig) -> None:
    """The conductor reads `last_error` the moment it sees FAULT (contract section 11.3)."""
    acq = rig.acq({"acq.nb_frames": 40, "acq.expo_time": 5_000, "det.failed_frame_idx": 5} | SMALL)
    seen: dict[str, str] = {}
    done = Event()

    def look() -> None:
        while len(seen) == 0 and not done.wait(0.001):
            for receiver in rig.receivers:
                if int(receiver.read_attribute("acq_state").value) == FAULT:
                    seen[receiver.dev_name()] = receiver.read_attribute("last_error").value

    rig.prepare(acq, rig.legacy())
    looker = Thread(target=look)
    looker.start()
    rig.start()
    looker.join(5)
    done.set()
    assert seen
    assert all(text.startswith("{") for text in seen.values()), seen


@pytest.mark.parametrize("begun", [False, True], ids=["prepared", "running"])
def test_stop_leads_to_idle_and_never_rests_in_stopped(rig: Rig, begun: bool) -> None:
    """R5: the conductor has no handler for STOPPED."""
    rig.prepare(rig.acq({"acq.nb_frames": 0, "acq.expo_time": 2_000} | SMALL), rig.legacy())
    with StateWatch(rig.receivers, FINE) as watch:
        if begun:
            rig.start()
            rig.wait_counted("nb_frames_source", 10)
        rig.stop()
        rig.wait_receivers(IDLE, 2)
        stays(lambda: set(rig.states()) == {IDLE}, 0.3, "IDLE after Stop")
    for receiver in rig.receivers:
        assert entries(watch.story(receiver), IDLE) <= 1
        assert watch.story(receiver)[-1] is IDLE


@pytest.mark.parametrize("state", ["idle", "prepared", "running", "fault"])
def test_stop_and_reset_are_accepted_in_every_state(rig: Rig, state: str) -> None:
    """The conductor calls both whenever it likes; FAULT stays FAULT at Stop (contract section 3.2)."""
    failing = {"det.failed_frame_idx": 3} if state == "fault" else {}
    if state != "idle":
        rig.prepare(rig.acq({"acq.nb_frames": 0, "acq.expo_time": 2_000} | SMALL | failing), rig.legacy())
    if state in {"running", "fault"}:
        rig.start()
    if state == "fault":
        wait_for(lambda: FAULT in rig.states(), 5, "FAULT")
    rig.stop()
    rig.stop()
    wait_for(lambda: set(rig.states()) <= {IDLE, FAULT}, 3, "every device done")
    assert (FAULT in rig.states()) == (state == "fault")
    rig.reset()
    wait_for(lambda: set(rig.states()) == {IDLE}, 2, "IDLE after Reset")
    rig.run(rig.acq(FAST | SMALL | {"acq.nb_frames": 4}), rig.legacy())
    assert sum(rig.xferred()) == 4
