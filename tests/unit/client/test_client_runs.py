"""Runs as a script follows them, synchronous and asyncio, on a control that behaves."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import TypeVar

import numpy as np
import pytest
from fake_control import FakeControl, pixels, statistics

from lima2_tango.client import (
    AsyncClient,
    AsyncRun,
    Client,
    Frame,
    NotReadyError,
    RefusedError,
    Run,
    RunFailedError,
    RunState,
    SparseFrame,
    UnreachableError,
    aconnect,
    aio,
    streams,
)
from lima2_tango.client.link import by_frame
from lima2_tango.client.records import RunRecord
from lima2_tango.core import encoded
from lima2_tango.core.errors import DataLossError, NotAvailableError, StateError, WireError
from lima2_tango.core.state import Event, State

T = TypeVar("T")
REGIONS = [(0, 0, 2, 2), (1, 1, 2, 2)]


@pytest.fixture(params=["sync", "async"])
def collect(request: pytest.FixtureRequest):
    """All that a loop gives, by either surface: `collect(run, "frames", every=True)`."""

    async def gather(items: AsyncIterator[T]) -> list[T]:
        return [item async for item in items]

    def loop(run: Run, name: str, **options: object) -> list[object]:
        if request.param == "sync":
            found: Iterator[object] = getattr(run, name)(**options)
            return list(found)
        return asyncio.run(gather(getattr(AsyncRun(run), name)(**options)))

    return loop


def test_acquire_configures_prepares_and_starts(control: FakeControl, lima: Client) -> None:
    run = lima.acquire(nb_frames=5, expo_time=0.001)
    assert list(control.commands) == ["Acquire"]
    assert lima.state() is State.RUNNING
    assert control.acq.acq.expo_time == 1000
    assert run.uuid == "run-0"


def test_an_acquired_run_is_ones_own_whatever_others_do(
    control: FakeControl, lima: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another client may prepare before this one reads which run is the last."""
    monkeypatch.setattr(control, "_read_run_uuid", lambda: "somebody-elses", raising=False)
    assert lima.acquire(nb_frames=5).uuid == "run-0"
    control.current.state = "done"
    control.machine.fire(Event.DONE)
    assert lima.begin().uuid == "run-1"


def test_begin_takes_the_parameters_as_they_are(control: FakeControl, lima: Client) -> None:
    lima.configure(nb_frames=7, rois=REGIONS)
    assert lima.begin().wait(5).nb_frames == 7
    assert len(lima.proc_params()["statistics"]["rect_rois"]) == 2


def test_acquire_saves_and_reduces_nothing_that_is_not_asked_for(control: FakeControl, lima: Client) -> None:
    lima.configure(saving="/data", rois=REGIONS, expo_time=0.002)
    lima.acquire(nb_frames=5)
    assert control.acq.acq.expo_time == 2000
    params = lima.proc_params()
    assert not params["saving"]["enabled"]
    assert params["statistics"]["rect_rois"] == []


def test_another_pipeline_begins_with_its_defaults(lima: Client) -> None:
    lima.configure(pipeline="Legacy", changes={"buffers.nb_frames_buffer": 7})
    lima.configure(nb_frames=3)
    assert lima.proc_params()["buffers"]["nb_frames_buffer"] == 7
    lima.configure(pipeline="failing")
    lima.configure(pipeline="legacy")
    assert lima.proc_params()["buffers"]["nb_frames_buffer"] == 100


def test_a_refusal_is_the_devices_own_sentence_with_its_facts(lima: Client) -> None:
    with pytest.raises(RefusedError, match=r"\$\.acq\.expo_time = 0: ") as refusal:
        lima.acquire(expo_time=0.0)
    assert refusal.value.info["path"] == "$.acq.expo_time"
    lima.acquire(nb_frames=0)
    with pytest.raises(RefusedError, match="cannot prepare while running"):
        lima.prepare()


def test_prepare_takes_whole_parameter_sets(control: FakeControl, lima: Client) -> None:
    lima.prepare(acq={"acq": {"nb_frames": 8}}, proc={"class_name": "LimaProcessingLegacy"}).start()
    assert control.acq.acq.nb_frames == 8
    assert control.acq.acq.expo_time == 100_000, "what they leave out is default"


def test_every_frame_comes_once_and_in_order(lima: Client, collect) -> None:
    run = lima.acquire(nb_frames=20)
    frames = collect(run, "frames", every=True)
    assert [frame.index for frame in frames] == list(range(20))
    assert all(np.array_equal(frame.data, pixels(frame.index)) for frame in frames)
    assert frames[3].image.shape == (3, 4)


def test_newest_frames_leave_others_out_but_not_the_last(lima: Client, collect) -> None:
    numbers = [frame.index for frame in collect(lima.acquire(nb_frames=20), "frames")]
    assert numbers == sorted(set(numbers))
    assert numbers[-1] == 19
    assert len(numbers) < 20


def test_newest_frames_never_go_back_where_a_receiver_is_behind_the_others(
    control: FakeControl, lima: Client, collect, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, newest = [], control._getFrame

    def from_either(index: int) -> tuple[str, bytes]:
        """Every other question goes to a receiver that is four frames behind, until the run is over."""
        asked.append(index)
        behind = 4 if len(asked) % 2 == 0 and control.current.state == "running" else 0
        return newest(max(0, control.current.made - 1 - behind))

    monkeypatch.setattr(control, "_getFrame", from_either)
    numbers = [frame.index for frame in collect(lima.acquire(nb_frames=20), "frames")]
    assert len(asked) > len(numbers) > 1
    assert numbers == sorted(set(numbers))
    assert numbers[-1] == 19


def test_rows_of_a_receiver_that_was_slow_are_waited_for_when_the_run_is_over(
    control: FakeControl, lima: Client, collect, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = lima.acquire(nb_frames=20, rois=REGIONS)
    run.wait(5)
    made = control.current.made

    def in_pieces() -> tuple[str, bytes]:
        first, control.popped = control.popped, min(made, control.popped + 15)
        return encoded.rows(statistics(first, control.popped, 2).tobytes())

    monkeypatch.setattr(control, "_popRoiStatistics", in_pieces)
    assert [len(rows) for rows in collect(run, "roi_statistics")] == [15, 5]


def test_a_frame_that_is_gone_is_no_frame_left_out_in_silence(control: FakeControl, lima: Client, collect) -> None:
    control.keep = 2
    with pytest.raises(DataLossError, match="frame 0 is not held any more: read faster"):
        collect(lima.acquire(nb_frames=20), "frames", every=True)


def test_the_last_frames_too(control: FakeControl, lima: Client, collect) -> None:
    """Their memory was needed after the end: nothing newer than them says so."""
    run = lima.acquire(nb_frames=20)
    list(run.watch(0.0))
    control.keep = 0
    with pytest.raises(DataLossError, match="20 frames were made"):
        collect(run, "frames", every=True)


def test_rows_come_whole_and_in_order(control: FakeControl, lima: Client, collect) -> None:
    rows = np.concatenate(collect(lima.acquire(nb_frames=20, rois=REGIONS), "roi_statistics"))
    assert rows.shape == (20, 2)
    assert np.array_equal(rows.reshape(-1), statistics(0, 20, 2))


def test_progress_ends_with_the_run(lima: Client, collect) -> None:
    seen = collect(lima.acquire(nb_frames=10), "watch", period_s=0.0)
    assert seen[-1].state is RunState.DONE
    assert seen[-1].nb_frames_processed == seen[-1].nb_frames == 10
    assert seen[0].frame_rate == 50
    assert seen[0].time_left is None
    assert [now.nb_frames_saved for now in seen] == sorted(now.nb_frames_saved for now in seen)


@pytest.mark.parametrize("name", ["frames", "roi_statistics"])
def test_a_run_that_fails_gives_what_it_has_and_then_its_error(control: FakeControl, lima: Client, name: str) -> None:
    control.fail_at = 5
    found = getattr(lima.acquire(nb_frames=20), name)()
    items = []
    with pytest.raises(RunFailedError, match=r"run-0 failed: rank 1: frame 5 hurts"):
        items.extend(found)
    assert items, "what was made before is given first"
    assert lima.last_error() == "rank 1: frame 3 hurts"


def test_wait_returns_the_record(lima: Client) -> None:
    record = lima.acquire(nb_frames=10).wait(5)
    assert (record.state, record.nb_frames_saved, record.error) == (RunState.DONE, 10, "")
    assert record.begin < record.end


def test_wait_raises_what_made_the_run_fail_and_result_tells_it(control: FakeControl, lima: Client) -> None:
    control.fail_at = 2
    run = lima.acquire(nb_frames=10)
    with pytest.raises(RunFailedError, match="frame 2 hurts"):
        run.wait(5)
    assert run.result().error == "rank 1: frame 2 hurts"


def test_wait_has_a_bound(control: FakeControl, lima: Client) -> None:
    control.step = 0
    with pytest.raises(NotReadyError, match=r"not over after 0\.1 s: it is running"):
        lima.acquire(nb_frames=10).wait(0.1)


def test_a_loop_has_a_bound(control: FakeControl, lima: Client, collect) -> None:
    control.step = 0
    with pytest.raises(NotReadyError, match=r"nothing came from run run-0 for 0\.1 s"):
        collect(lima.acquire(nb_frames=10), "frames", timeout_s=0.1)


class Clock:
    """A clock that only waiting moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_the_time_that_a_caller_takes_is_its_own(
    control: FakeControl, lima: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(streams, "time", clock)
    frames = lima.acquire(nb_frames=0).frames(timeout_s=1.0)
    next(frames)
    clock.sleep(1000.0)
    control.step = 0
    begun = clock.now
    with pytest.raises(NotReadyError, match="nothing came"):
        list(frames)
    assert clock.now - begun > 1.0, "a whole patience from when it asked again"


def test_stop_ends_an_endless_run_and_returns_its_record(control: FakeControl, lima: Client) -> None:
    run = lima.acquire(nb_frames=0)
    next(run.frames())
    assert run.stop().state is RunState.STOPPED
    assert run.stop().nb_frames_saved == control.current.made, "safe twice"
    assert control.commands.count("Stop") == 1


def test_a_run_that_only_processes_is_not_stopped_but_awaited(control: FakeControl, lima: Client) -> None:
    """The detector may be somebody else's by now."""
    run = lima.acquire(nb_frames=0)
    control.current.state = "processing"
    with pytest.raises(NotReadyError, match="it is processing"):
        run.stop(timeout_s=0.1)
    assert "Stop" not in control.commands


def test_leaving_the_block_of_a_run_stops_it(control: FakeControl, lima: Client) -> None:
    with pytest.raises(KeyError), lima.acquire(nb_frames=0):
        raise KeyError
    assert control.current.state == "stopped"
    with lima.acquire(nb_frames=10) as run:
        run.wait(5)
    assert control.current.state == "done"


def test_live_data_of_a_run_are_never_those_of_another(control: FakeControl, lima: Client) -> None:
    old = lima.acquire(nb_frames=4)
    old.wait(5)
    lima.acquire(nb_frames=4).wait(5)
    assert old.result().uuid == "run-0"
    for call in (old.frame, lambda: list(old.roi_statistics()), old.start, old.trigger):
        with pytest.raises(StateError, match="run run-0 is not the last run"):
            call()
    old.stop()
    assert "Stop" not in control.commands, "it must not stop the other"
    assert old.progress().frame_rate == 0


def test_rows_that_came_with_a_change_of_run_are_not_given_away(control: FakeControl, lima: Client) -> None:
    run = lima.acquire(nb_frames=4, rois=REGIONS)
    run.wait(5)

    def another(name: str) -> None:
        if name == "popRoiStatistics":
            control.before = lambda _: None
            lima.prepare()

    control.before = another
    with pytest.raises(StateError, match="another was prepared since"):
        list(run.roi_statistics())


def test_sparse_frames_and_vectors_by_their_number(lima: Client) -> None:
    run = lima.acquire(nb_frames=5)
    run.wait(5)
    for sparse, vector in (
        (run.sparse_frame(3), run.vector(2)),
        asyncio.run(_both(AsyncRun(run))),
    ):
        assert (sparse.index, sparse.shape, sparse.pixels.tolist()) == (3, (3, 4), [3, 7])
        assert (sparse.intensity.tolist(), sparse.average.tolist()) == ([10, 20], [1, 2, 3])
        assert (vector.index, vector.data.tolist()) == (2, [2.0] * 5)
    with pytest.raises(NotAvailableError, match="sparse frame 9 is not made yet"):
        run.sparse_frame(9)


async def _both(run: AsyncRun) -> tuple[SparseFrame, Frame]:
    return await run.sparse_frame(3), await run.vector(2)


def test_a_frame_by_its_number(lima: Client) -> None:
    run = lima.acquire(nb_frames=0)
    run.progress()
    assert run.frame(1).index == 1
    with pytest.raises(NotAvailableError, match="frame 1000"):
        run.frame(1000)


def test_a_control_that_is_lost_is_said(control: FakeControl, lima: Client, collect) -> None:
    run = lima.acquire(nb_frames=0)
    control.before = lambda name: setattr(control, "gone", name == "getFrame")
    with pytest.raises(UnreachableError, match="does not answer"):
        collect(run, "frames")


def test_a_control_that_was_restarted_does_not_know_the_run(control: FakeControl, lima: Client) -> None:
    run = lima.acquire(nb_frames=0)
    control.log.clear()
    with pytest.raises(
        RunFailedError, match="does not know run run-0 any more: .*restarted, or more than 100 runs came since"
    ):
        run.wait(5)


def test_the_log_of_runs_is_typed_and_its_runs_can_be_taken_up(lima: Client) -> None:
    assert lima.runs() == []
    assert lima.last_run() is None
    for _ in range(3):
        lima.acquire(nb_frames=4).wait(5)
    assert [record.uuid for record in lima.runs()] == ["run-2", "run-1", "run-0"]
    assert lima.run("run-1").result() == lima.runs()[1]
    assert lima.last_run().uuid == "run-2"
    with pytest.raises(RefusedError, match="there is no run x"):
        lima.run("x")


def test_a_record_survives_json(lima: Client) -> None:
    record = lima.acquire(nb_frames=4).wait(5)
    assert RunRecord.parse(json.dumps(record.as_json())) == record


def test_a_record_knows_of_more_files_than_it_names(control: FakeControl, lima: Client) -> None:
    control.files = ["/data/a_0.h5"]
    run = lima.acquire(nb_frames=4)
    control.current.nb_files = 1500
    record = run.wait(5)
    assert (record.nb_files, record.nb_unnamed) == (1500, 1499)
    older = {key: value for key, value in record.as_json().items() if key != "nb_files"}
    assert RunRecord.parse(json.dumps(older)).nb_files == 1


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"uuid": 3}', "null"])
def test_a_record_of_another_kind_is_refused(text: str) -> None:
    with pytest.raises(WireError, match="not understood"):
        RunRecord.parse(text)


def test_rows_of_half_a_frame_are_refused() -> None:
    whole = statistics(4, 9, 3)
    assert by_frame(whole).shape == (5, 3)
    assert by_frame(whole[:3]).shape == (1, 3)
    assert by_frame(whole[:0]).shape == (0, 0)
    for broken in (whole[:-1], whole[1:], np.delete(whole, 4)):
        with pytest.raises(DataLossError, match="not complete"):
            by_frame(broken)


def test_a_cancelled_task_ends_soon_and_leaves_no_thread_for_long(control: FakeControl, lima: Client) -> None:
    control.step = 0

    async def watch_nothing() -> None:
        run = AsyncRun(lima.acquire(nb_frames=0))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(run.frames(timeout_s=1000)), 0.1)

    asyncio.run(asyncio.wait_for(watch_nothing(), 10))


def test_two_loops_of_asyncio_run_side_by_side(lima: Client) -> None:
    async def both() -> tuple[list[int], int]:
        async with AsyncRun(lima.acquire(nb_frames=30, rois=REGIONS)) as run:

            async def numbers() -> list[int]:
                return [frame.index async for frame in run.frames(every=True)]

            async def rows() -> int:
                return sum([len(chunk) async for chunk in run.roi_statistics()])

            found = await asyncio.gather(numbers(), rows())
            assert (await run.wait(5)).state is RunState.DONE
            return found[0], found[1]

    assert asyncio.run(both()) == (list(range(30)), 30)


@pytest.mark.parametrize(("sync", "asynchronous"), [(Client, AsyncClient), (Run, AsyncRun)])
def test_asyncio_has_all_that_there_is_without_it(sync: type, asynchronous: type) -> None:
    """But for what the block and the constructor of the client do."""
    missing = {name for name in vars(sync) if not name.startswith("_")} - set(vars(asynchronous))
    assert missing <= {"close", "name"}


def test_parameters_are_replaced_in_asyncio_too(
    control: FakeControl, lima: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aio, "connect", lambda device, host: lima)

    async def acquire() -> RunRecord:
        async with aconnect(FakeControl.name) as client:
            await client.replace(acq={"acq": {"nb_frames": 8}}, proc={"class_name": "LimaProcessingLegacy"})
            return await (await client.begin()).wait(5)

    assert asyncio.run(acquire()).nb_frames == 8
