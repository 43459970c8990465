"""Two clients that ask the control for a run at the same instant: one gets it, the other is told whose run it is."""

from threading import Barrier
from threading import Event as Flag

import pytest
from driving import BOUND, driven, in_thread, until

from lima2_tango.control import follow
from lima2_tango.core.errors import ParamError, StateError
from lima2_tango.core.state import State

ENDLESS = {"nb_frames": 0, "expo_time": 2000}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(follow, "PERIOD", 0.01)


def under_way(job, call):
    """Another client's `call`, which waits for receiver 0 until the flag is set."""
    gate = job.ranks[0].gates["prepare"] = Flag()
    thread, outcome = in_thread(call)
    assert job.ranks[0].busy.wait(BOUND)
    return gate, thread, outcome


@pytest.mark.parametrize("command", ["prepare", "acquire"])
def test_parameters_of_a_late_client_do_not_take_the_run_of_the_first(command):
    with driven(1) as job:
        job.write(None, **ENDLESS)
        gate, thread, outcome = under_way(job, job.acquire)
        job.write(None, nb_frames=7)
        with pytest.raises(StateError, match="another client prepares a run of this control just now"):
            getattr(job, command)()
        gate.set()
        thread.join(BOUND)
        assert outcome == [job.run.uuid]
        assert job.control.machine.state is State.RUNNING
        assert job.run.plan.acq.acq.nb_frames == 0


def test_bad_parameters_of_a_late_client_do_not_end_the_run_of_the_first():
    with driven(1) as job:
        job.write(None, **ENDLESS)
        gate = job.ranks[0].gates["start"] = Flag()
        thread, outcome = in_thread(job.acquire)
        assert job.ranks[0].busy.wait(BOUND)
        arm = job.control.camera.prepare
        job.control.camera.prepare = lambda params: (_ for _ in ()).throw(ParamError("$.det", 0, "not today"))
        with pytest.raises(StateError, match="another client"):
            job.acquire()
        job.control.camera.prepare = arm
        gate.set()
        thread.join(BOUND)
        assert outcome == [job.run.uuid]


def test_who_comes_when_a_run_is_on_is_told_which():
    with driven(1) as job:
        job.write(None, **ENDLESS)
        identity = job.acquire()
        with pytest.raises(StateError, match=f"cannot prepare while running.*: the run {identity} is on") as refused:
            job.acquire()
        assert "this control drives" in str(refused.value)
        assert refused.value.info["state"] == "running"


@pytest.mark.parametrize("own", [True, False], ids=["own parameters", "the same parameters"])
def test_of_two_clients_at_the_same_instant_exactly_one_acquires(own):
    with driven(1) as job:
        job.write(None, **ENDLESS)
        for _ in range(10):
            gate = job.ranks[0].gates["prepare"] = Flag()
            together = Barrier(2)

            def client(together=together):
                together.wait(BOUND)
                if own:
                    job.write(None, **ENDLESS)
                return job.acquire()

            clients = [in_thread(client) for _ in range(2)]
            until(lambda clients=clients: any(outcome for _, outcome in clients), "a refusal")
            gate.set()  # the other has been refused while this one's receivers were prepared
            for thread, _ in clients:
                thread.join(BOUND)
            answers = [outcome[0] for _, outcome in clients]
            assert [answer for answer in answers if not isinstance(answer, StateError)] == [job.run.uuid], answers
            job.drive.abort()
