"""The way from one rank to one receiver breaks in mid-run: no frame is saved twice or with parts of another."""

import numpy as np
import pytest
from test_acquisition import BOUND, finished, job
from test_topologies_runs import PARTIAL, SHARED, expected, indices, saved, write

from lima2_tango.control.feed import Windows
from lima2_tango.core.frame import FrameSpec
from lima2_tango.core.modules import Layout, Module, whole
from lima2_tango.core.pool import Pool
from lima2_tango.core.state import State
from lima2_tango.transport.outlet import SharedOutlet
from lima2_tango.transport.window import Address, attach

SPEC = FrameSpec(1, 4, 6, np.dtype("u2"))


def broken(monkeypatch, receiver, writer, first):
    """From this frame on, this writer cannot write into the window of a receiver."""
    put, free = SharedOutlet.put, receiver._windows._intake.memory.free

    def breaking(outlet, batch, which):
        free[1] = 4711  # a word that nobody uses: it says whose window this is, however it is mapped
        mine, free[1] = outlet._memory.free[1] == 4711, 0
        if mine and outlet._writer == writer and (batch.index[which] >= first).any():
            raise OSError("Bus error")
        return put(outlet, batch, which)

    monkeypatch.setattr(SharedOutlet, "put", breaking)


@pytest.mark.parametrize("det", [PARTIAL, SHARED], ids=["modules", "scattered"])
def test_what_the_others_save_is_exact_and_in_order_and_all_end(tmp_path, monkeypatch, det):
    with job(2) as j:
        write(j, tmp_path, det, {"frame_idx_enabled": True}, nb_frames=0, expo_time=6000)  # a frame is a block
        runs = j.prepare("u")
        broken(monkeypatch, j.receivers[1], 0, 21)
        j.start()
        assert finished(runs)
        assert j.control.machine.wait(State.IDLE, State.FAULT, timeout=BOUND)
        told = [indices(run).tolist() for run in runs]
        for rank, frames in enumerate(saved(tmp_path, 2)):
            assert told[rank] == list(range(rank, rank + 2 * len(frames), 2))
            assert all(np.array_equal(frame, expected(det, rank + 2 * k)) for k, frame in enumerate(frames))
        assert told[1][-1] == 19
        assert told[0][-1] >= 20
        assert "receiver 1 cannot be given frames" in str(j.receivers[1].error)


def test_a_window_is_kept_from_run_to_run_unless_a_writer_is_frozen_in_it():
    windows = Windows(Pool(64 << 20))
    first = windows.of(SPEC, whole(SPEC))
    first.open()
    memory = attach(Address.parse(first.address), SPEC)
    assert windows.of(SPEC, whole(SPEC)) is first
    memory.inside[1] = 1
    second = windows.of(SPEC, whole(SPEC))
    assert second is not first
    second.open()
    memory.frames[0] = 4711  # what the frozen writer still writes
    memory.written[1] = 3
    assert not second.memory.frames.any()
    assert not second.memory.written.any()
    windows.close()


def test_a_window_is_not_kept_where_modules_lie_elsewhere():
    windows = Windows(Pool(64 << 20))
    parts = [Layout(4, 6, tuple(Module(top, 0, 2, width, 0, top // 2, "$") for top in (0, 2))) for width in (6, 5)]
    first = windows.of(SPEC, whole(SPEC))
    assert windows.of(SPEC, parts[0]) is first, "without gaps every pixel is written"
    second = windows.of(SPEC, parts[1])
    assert second is not first
    assert windows.of(SPEC, parts[1]) is second
    assert windows.of(SPEC, parts[0]) is not second
    windows.close()
