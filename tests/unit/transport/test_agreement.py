"""Ranks of one job start together, stop at one common frame, and hear of failures."""

import time
from contextlib import contextmanager
from threading import Event, Thread

import pytest

from lima2_tango.core.acquisition import Acq, TriggerMode
from lima2_tango.core.errors import AgreementError, ParamError
from lima2_tango.core.series import Series
from lima2_tango.testing.worlds import memory_job
from lima2_tango.transport import agreement
from lima2_tango.transport.agreement import Coordinator
from lima2_tango.transport.participant import Participant
from lima2_tango.transport.roster import Roster
from lima2_tango.transport.topology import RoundRobin

RUN = "a-run"


class Job:
    """A control on rank 0 and receivers on the ranks after it."""

    def __init__(self, receivers, *, control=True, ranks=None):
        self.channels = memory_job(receivers + control)
        self.rosters = [Roster(channel) for channel in self.channels]
        self.coordinators = [Coordinator(c, r) for c, r in zip(self.channels, self.rosters, strict=True)]
        pairs = zip(self.channels, self.rosters, self.coordinators, strict=True)
        self.participants = [Participant(*pair) for pair in list(pairs)[int(control) :]]
        self.over, self.errors = Event(), []
        for channel in self.channels:
            channel.open()
        for n, roster in enumerate(self.rosters):
            is_control = control and n == 0
            number = -1 if is_control or ranks is None else ranks[n - control]
            roster.announce(control=is_control, receiver=not is_control, receiver_rank=number)
        for roster in self.rosters:
            roster.wait(5)

    @property
    def coordinator(self):
        return self.coordinators[0]

    def start(self):
        self.coordinator.start(RUN, self._is_over)

    def _is_over(self, errors):
        self.errors = errors
        self.over.set()

    def agree_all(self):
        """All participants arm; what each of them got, or the error it met."""
        results = [None] * len(self.participants)

        def agree(n, participant):
            try:
                results[n] = participant.agree(RUN)
            except AgreementError as error:
                results[n] = error

        threads = [Thread(target=agree, args=pair) for pair in enumerate(self.participants)]
        for thread in threads:
            thread.start()
        self.start()
        for thread in threads:
            thread.join(10)
        return results

    def close(self):
        for channel in self.channels:
            assert channel.close()


@contextmanager
def job(*args, **kwargs):
    made = Job(*args, **kwargs)
    try:
        yield made
    finally:
        made.close()


def series_of(participant, rank, receivers, **acq):
    series = Series(Acq(expo_time=1, latency_time=0, **acq), RoundRobin(receivers), rank)
    participant.attach(series)
    return series


def until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("receivers", [1, 2, 5])
def test_all_prepared_receivers_start_together(receivers):
    with job(receivers) as j:
        for participant in j.participants:
            participant.prepared(RUN)
        goes = j.agree_all()
        assert {go.receivers for go in goes} == {receivers}
        assert len({go.seed for go in goes}) == 1


def test_a_receiver_that_was_not_prepared_is_not_waited_for():
    with job(2) as j:
        j.participants[0].prepared(RUN)
        j.participants = j.participants[:1]
        (go,) = j.agree_all()
        assert go.receivers == 1


def test_receivers_that_leave_out_number_zero_are_refused():
    with job(2) as j:
        j.participants[1].prepared(RUN)
        j.participants = j.participants[1:]
        (error,) = j.agree_all()
        assert "receivers [1] are prepared" in str(error)


def test_a_receiver_that_is_not_started_is_named(monkeypatch):
    monkeypatch.setattr(agreement, "START_TIMEOUT", 0.2)
    with job(2) as j:
        for participant in j.participants:
            participant.prepared(RUN)
        j.participants = j.participants[:1]
        (error,) = j.agree_all()
        assert "receiver 1 did not start within" in str(error)
        assert j.over.wait(5)


def test_a_control_that_is_not_started_is_named(monkeypatch):
    monkeypatch.setattr(agreement, "START_TIMEOUT", 0.1)
    with job(1) as j:
        j.participants[0].prepared(RUN)
        with pytest.raises(AgreementError, match="control was not started"):
            j.participants[0].agree(RUN)


def test_without_a_control_the_first_receiver_coordinates():
    with job(1, control=False) as j:
        j.participants[0].prepared(RUN)
        assert j.participants[0].agree(RUN).receivers == 1


@pytest.mark.parametrize("asked_by", ["control", "receiver"])
def test_a_stop_cuts_all_receivers_at_one_common_frame(asked_by):
    with job(2) as j:
        for participant in j.participants:
            participant.prepared(RUN)
        j.agree_all()
        fast, slow = (series_of(p, rank, 2, nb_frames=0) for rank, p in enumerate(j.participants))
        for index in range(0, 20, 2):
            assert fast.wait_for(index)
        assert slow.wait_for(1)
        if asked_by == "control":
            j.coordinator.stop()
        else:
            j.participants[1].request_stop(RUN)
        counts = [deliver_rest(fast, 0, 20), deliver_rest(slow, 1, 3)]
        for number, participant in enumerate(j.participants):
            participant.done(RUN, counts[number], "")
        assert j.over.wait(5)
        total = sum(counts)
        assert total >= 19
        assert counts == [(total + 1) // 2, total // 2]
        assert j.coordinator.nb_frames == total


def deliver_rest(series, rank, index):
    """Deliver until the series ends; how many frames this receiver has delivered in all."""
    while series.wait_for(index):
        index += 2
    return (index - rank) // 2


def test_the_failure_of_one_receiver_stops_the_others_and_is_reported():
    with job(2) as j:
        for participant in j.participants:
            participant.prepared(RUN)
        j.agree_all()
        survivor = series_of(j.participants[1], 1, 2, nb_frames=0)
        assert survivor.wait_for(1)
        j.participants[0].done(RUN, 0, "receiver 0: the cable is out")
        index = 3
        while survivor.wait_for(index):
            index += 2
        j.participants[1].done(RUN, index // 2, "")
        assert j.over.wait(5)
        assert j.errors == ["receiver 0: the cable is out"]


def test_triggers_before_the_start_is_agreed_are_not_lost():
    with job(1) as j:
        j.participants[0].prepared(RUN)
        j.start()
        j.coordinator.grant(2)
        j.participants[0].agree(RUN)
        series = series_of(j.participants[0], 0, 1, nb_frames=3, trigger_mode=TriggerMode.SOFTWARE)
        assert series.wait_for(0)
        assert series.wait_for(1)
        j.coordinator.stop()
        assert not series.wait_for(2)


def test_a_stop_before_the_start_is_agreed_ends_the_run_at_once():
    with job(1) as j:
        j.participants[0].prepared(RUN)
        j.start()
        j.coordinator.stop()
        j.participants[0].agree(RUN)
        assert not series_of(j.participants[0], 0, 1, nb_frames=0).wait_for(0)


def test_a_control_alone_runs_until_it_is_stopped():
    with job(0) as j:
        j.start()
        assert not j.over.wait(0.2)
        j.coordinator.stop()
        assert j.over.wait(5)


def test_the_property_rank_orders_the_receivers():
    with job(2, ranks=[1, 0]) as j:
        assert j.rosters[0].receivers() == [2, 1]
        assert j.rosters[1].receiver_rank() == 1


def test_two_ranks_with_one_device_are_refused_by_all():
    with job(3) as j:
        for roster in j.rosters[1:]:
            roster.announce(control=False, receiver=True, device="id00/limareceiver/a1")
        for roster, coordinator in zip(j.rosters, j.coordinators, strict=True):
            until(lambda roster=roster: [h.device for h in roster._hellos.values()].count("id00/limareceiver/a1") == 3)
            with pytest.raises(AgreementError, match="MPI ranks 1 and 2 both serve id00/limareceiver/a1"):
                coordinator.check()


def test_ranks_that_contradict_each_other_are_refused():
    with job(2, ranks=[0, 0]) as j, pytest.raises(ParamError, match="need 0 to 1"):
        j.rosters[0].receivers()


def test_a_process_that_never_reports_is_named():
    channels = memory_job(2)
    roster = Roster(channels[0])
    channels[0].open()
    roster.announce(control=True, receiver=False)
    try:
        with pytest.raises(AgreementError, match=r"MPI ranks \[1\] of 2"):
            roster.wait(0.2)
    finally:
        channels[0].close()


def test_a_stop_counts_what_a_receiver_that_is_done_has_delivered():
    with job(2) as j:
        for participant in j.participants:
            participant.prepared(RUN)
        j.agree_all()
        ready, slow = (series_of(p, rank, 2, nb_frames=100) for rank, p in enumerate(j.participants))
        assert deliver_rest(ready, 0, 0) == 50
        j.participants[0].done(RUN, 50, "")
        assert slow.wait_for(1)
        j.coordinator.stop()
        assert deliver_rest(slow, 1, 3) >= 49
        j.participants[1].done(RUN, 50, "")
        assert j.over.wait(5)


def test_a_receiver_that_does_not_answer_a_stop_is_named(monkeypatch):
    monkeypatch.setattr(agreement, "STOP_TIMEOUT", 0.2)
    with job(2) as j:
        for participant in j.participants:
            participant.prepared(RUN)
        j.agree_all()
        survivor = series_of(j.participants[0], 0, 2, nb_frames=0)
        monkeypatch.setattr(j.participants[1], "_run", "deaf")
        j.coordinator.stop()
        deliver_rest(survivor, 0, 0)
        j.participants[0].done(RUN, 1, "")
        assert j.over.wait(5)
        assert "receiver 1 did not answer the stop" in j.errors[0]


def test_a_stop_before_a_start_that_does_not_come_ends_without_an_error(monkeypatch):
    monkeypatch.setattr(agreement, "START_TIMEOUT", 0.1)
    with job(1) as j:
        j.participants[0].prepared(RUN)
        results = []
        waiting = Thread(target=lambda: results.append(j.participants[0].agree(RUN)))
        waiting.start()
        while not results and waiting.is_alive():
            j.participants[0].request_stop(RUN)
            waiting.join(0.05)
        assert results == [None]


def test_a_run_that_is_being_stopped_is_waited_for():
    with job(1) as j:
        j.participants[0].prepared(RUN)
        j.agree_all()
        assert j.coordinator.settle()
        series = series_of(j.participants[0], 0, 1, nb_frames=0)
        j.coordinator.stop()
        ending = Thread(target=lambda: j.participants[0].done(RUN, deliver_rest(series, 0, 0), ""))
        ending.start()
        assert j.coordinator.settle()
        assert j.over.wait(5)
        ending.join()
