"""A receiver freezes in mid-run, in every topology: the control names it, and nobody else waits for it."""

from contextlib import contextmanager
from threading import Event

import pytest
from test_acquisition import BOUND, finished, job
from test_topologies_runs import EVERY, PARTIAL, SHARED, indices, write

from lima2_tango.core.state import State
from lima2_tango.transport import far, pulse, reach

FROZEN = 1
SILENCE = 0.5
NAMED = f"receiver {FROZEN} has given no sign of life"
TOPOLOGIES = {
    "full": EVERY["full"],
    "scattered": SHARED,
    "scattered by the frozen one": {**SHARED, "acquisition_rank": FROZEN},
    "modules": PARTIAL,
}


@pytest.fixture(autouse=True, params=["one host", "a host each"])
def hosts(request, monkeypatch):
    """Ranks have memory in common, or only messages; silence is short."""
    monkeypatch.setattr(pulse, "SILENCE", SILENCE)
    monkeypatch.setattr(pulse, "BEAT", 0.05)
    monkeypatch.setattr(far, "BEAT", 0.05)
    monkeypatch.setattr(far, "SILENCE", 6 * SILENCE)  # the first frames may come late on a busy computer
    if request.param == "a host each":
        monkeypatch.setattr(reach, "is_near", lambda fabric, rank: rank == fabric.rank)


@contextmanager
def frozen(j, run, monkeypatch):
    """Neither messages nor frames leave this receiver, and its pipeline takes none."""
    gate, receiver = Event(), j.receivers[FROZEN]

    def held(original):
        def call(*arguments):
            gate.wait(2 * BOUND)
            return original(*arguments)

        return call

    for camera in (receiver._camera, receiver._acquirer._camera):
        monkeypatch.setattr(camera, "read", held(camera.read))
    monkeypatch.setattr(run.pipeline, "put", held(run.pipeline.put))
    monkeypatch.setattr(far.Pump, "_write", only_of_others(far.Pump._write, gate, receiver))
    j.channels[FROZEN + 1].close()
    try:
        yield
    finally:
        gate.set()


def only_of_others(write, gate, receiver):
    """Streams to the frozen receiver stand still too."""

    def call(pump, element):
        if pump._outlet._memory is receiver._windows._intake.memory:
            gate.wait(2 * BOUND)
        write(pump, element)

    return call


@pytest.mark.parametrize("det", TOPOLOGIES.values(), ids=TOPOLOGIES)
def test_it_is_named_and_the_others_end(tmp_path, monkeypatch, det):
    with job(3) as j:
        write(j, tmp_path, det, {"frame_idx_enabled": True}, nb_frames=0)
        runs = j.prepare("u")
        j.start()
        while min(run.nb_frames for run in runs) < 10:
            assert not runs[0].finished.wait(0.01)
        others = [run for rank, run in enumerate(runs) if rank != FROZEN]
        with frozen(j, runs[FROZEN], monkeypatch):
            for run in others:
                assert run.acquired.wait(BOUND)
                assert run.join(BOUND)
            assert j.control.machine.wait(State.IDLE, State.FAULT, timeout=BOUND)
            assert NAMED in str(j.control.error)
            errors = [j.receivers[rank].error for rank in (0, 2)]
            told = {rank: indices(runs[rank]).tolist() for rank in (0, 2)}
        if det in (EVERY["full"], SHARED):  # all that the others have to deliver, they can
            assert errors == [None, None]
            end = 1 + max(max(frames) for frames in told.values())
            assert told == {rank: list(range(rank, end, 3)) for rank in told}
        else:
            assert all("no sign of life" in str(error) for error in errors), errors


@pytest.mark.parametrize("det", [EVERY["full"], SHARED, PARTIAL], ids=["full", "scattered", "modules"])
def test_one_that_is_slow_is_waited_for(tmp_path, det):
    with job(3) as j:
        write(j, tmp_path, det, {"frame_idx_enabled": True}, nb_frames=30)
        runs = j.prepare("u")
        stalled, put = Event(), runs[FROZEN].pipeline.put

        def slow(block):
            stalled.wait(0 if stalled.is_set() else 3 * SILENCE)
            stalled.set()
            put(block)

        runs[FROZEN].pipeline.put = slow
        j.start()
        assert finished(runs)
        assert j.wait_idle()
        assert j.control.error is None
        assert [indices(run).tolist() for run in runs] == [list(range(rank, 30, 3)) for rank in range(3)]
