"""The client library against a real system: frames, rows and files agree, and what goes wrong is said in time."""

import asyncio
import re
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from support import LEGACY, Json, launched
from watching import wait_for

from lima2_tango.cli.system import System
from lima2_tango.client import (
    Client,
    NotReadyError,
    RefusedError,
    Run,
    RunFailedError,
    RunState,
    UnreachableError,
    aconnect,
    connect,
)
from lima2_tango.client.files import open_run
from lima2_tango.core.errors import ParamError, StateError
from lima2_tango.core.roi import Arc, Position
from lima2_tango.core.state import State

REGIONS = [(0, 0, 64, 96), Arc(center=Position(x=32.0, y=40.0), r2=10.0)]
SMALL: Json = {
    "img.roi": {"topleft": {"x": 992, "y": 960}, "dimensions": {"x": 64, "y": 96}},
    "det.generator.gauss.grow_factor": 0.1,
}
"""Small frames that differ from one to the next."""
FAILING: Json = {"failed_frame_idx": 20}


@pytest.fixture
def lima(system: System) -> Iterator[Client]:
    with connect(system.control, system.tango_host) as client:
        client.replace(acq={}, proc={"class_name": LEGACY, "saving": {"enabled": False}})
        yield client
        client.stop()
        client.reset()
        for run in client.runs()[:2]:
            wait_for(lambda uuid=run.uuid: client.run(uuid).result().over, 20, "the end of the run")


def check(run: Run, frames: list, rows: list, count: int) -> None:
    """What was seen of a run while it went on is what it has saved."""
    assert [frame.index for frame in frames] == list(range(count))
    merged = np.concatenate(rows)
    assert merged.shape == (count, 2)
    assert (merged["frame_idx"] == np.arange(count)[:, None]).all()
    with run.read() as saved:
        assert saved.index.tolist() == list(range(count))
        images = saved.array()
        assert saved.parameters()["processing"]["class_name"] == LEGACY
    assert images.shape == (count, 96, 64)
    assert not any(np.array_equal(image, following) for image, following in pairwise(images))
    for frame, image in zip(frames, images, strict=True):
        assert np.array_equal(frame.image, image)
    assert np.array_equal(merged["sum"][:, 0], images.sum(axis=(1, 2), dtype=np.float64))


def test_frames_rows_and_files_agree(lima: Client, tmp_path: Path) -> None:
    saving = {"base_path": tmp_path, "nb_frames_per_file": 10}
    run = lima.acquire(nb_frames=45, expo_time=0.002, latency_time=0.0, saving=saving, rois=REGIONS, changes=SMALL)
    frames = list(run.frames(every=True))
    rows = list(run.roi_statistics())
    record = run.wait(20)
    assert (record.state, record.nb_frames_acquired, record.nb_frames_saved) == (RunState.DONE, 45, 45)
    assert record.files[0] == tmp_path / "lima2_master.h5"
    assert sorted(record.files) == sorted(tmp_path.glob("*.h5"))
    check(run, frames, rows, 45)
    with open_run(*record.files[1:]) as parts, run.read() as whole:
        assert np.array_equal(parts.array(), whole.array())
    assert lima.state() is State.IDLE
    assert lima.runs()[0] == record


def test_the_same_with_asyncio_side_by_side(system: System, lima: Client, tmp_path: Path) -> None:
    async def acquire() -> tuple[Run, list, list, list]:
        async with aconnect(system.control, system.tango_host) as client:
            run = await client.acquire(
                nb_frames=45, expo_time=0.002, latency_time=0.0, saving=tmp_path, rois=REGIONS, changes=SMALL
            )

            async def gather(items) -> list:
                return [item async for item in items]

            loops = (run.frames(every=True), run.roi_statistics(), run.watch(0.05))
            found = await asyncio.gather(*(gather(loop) for loop in loops))
            assert (await run.wait(20)).state is RunState.DONE
            return (Run(lima.run(run.uuid).link), *found)

    run, frames, rows, seen = asyncio.run(acquire())
    check(run, frames, rows, 45)
    assert seen[-1].over
    assert seen[-1].nb_frames_saved == 45


def test_newest_frames_and_progress_of_an_endless_run_until_it_is_stopped(lima: Client, tmp_path: Path) -> None:
    with lima.acquire(nb_frames=0, expo_time=0.002, latency_time=0.0, saving=tmp_path, changes=SMALL) as run:
        frames = run.frames()
        numbers = [next(frames).index for _ in range(5)]
        assert numbers == sorted(set(numbers))
        seen = wait_for(lambda: (now := run.progress()).frame_rate > 0 and now, 5, "a rate")
        assert seen.state is RunState.RUNNING
        assert seen.time_left is None
        record = run.stop()
    assert record.state is RunState.STOPPED
    assert record.nb_frames_saved > numbers[-1]
    with run.read() as saved:
        assert saved.index.tolist() == list(range(record.nb_frames_saved))


def test_profiles_raw_frames_and_triggers(lima: Client) -> None:
    changes = SMALL | {"img.binning": {"x": 2, "y": 2}, "img.roi": {}}
    profiles = [((0, 0, 30, 20), "horizontal"), ((4, 4, 5, 6), "vertical")]
    changes["img.roi"] = {"topleft": {"x": 496, "y": 480}, "dimensions": {"x": 32, "y": 48}}
    lima.configure(nb_frames=3, expo_time=0.001, trigger_mode="software", profiles=profiles, changes=changes)
    run = lima.prepare()
    run.start()
    for number in range(3):
        run.trigger()
        wait_for(lambda number=number: run.progress().nb_frames_processed > number, 5, "a frame")
    run.wait(10)
    assert np.concatenate(list(run.profiles())).shape == (3, 30 + 6)
    assert run.frame(2).data.shape == (1, 48, 32)
    assert run.frame(2, raw=True).data.shape == (1, 2048, 2048)


REFUSED: dict[str, tuple[Json, str]] = {
    "exposure of nothing": ({"expo_time": 0.0}, "$.acq.expo_time = 0"),
    "a wrong type": ({"changes": {"acq.nb_frames": "many"}}, "$.acq.nb_frames"),
    "a region outside the image": ({"rois": [(5000, 0, 4, 4)]}, "$.statistics.rect_rois[0]"),
    "a folder that is none": ({"saving": "data"}, "$.saving.base_path"),
    "an unknown key of the saving": ({"saving": {"base_path": "/tmp", "suffix": "x"}}, "$.saving.suffix"),
    "an unknown pipeline": ({"pipeline": "Magic"}, "LimaProcessingMagic"),
    "an unknown trigger": ({"trigger_mode": "sometimes"}, "$.acq.trigger_mode"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused_with_its_path_and_leaves_the_control_idle(lima: Client, case: str) -> None:
    settings, path = REFUSED[case]
    with pytest.raises((RefusedError, ParamError), match=re.escape(path)):
        lima.acquire(**settings)
    assert lima.state() is State.IDLE


def test_a_second_client_is_refused_while_a_run_is_on(system: System, lima: Client) -> None:
    with lima.acquire(nb_frames=0, expo_time=0.01) as run, connect(system.control, system.tango_host) as other:
        with pytest.raises(RefusedError, match="running"):
            other.acquire(nb_frames=1)
        assert other.last_run().uuid == run.uuid
        assert next(other.last_run().frames()).index >= 0
        other.stop()
        assert run.wait(10).state is RunState.STOPPED


def test_a_run_that_is_prepared_and_left_is_given_up(lima: Client) -> None:
    with lima.prepare() as run:
        assert run.result().state is RunState.PREPARED
    assert run.result().state is RunState.STOPPED
    assert lima.state() is State.IDLE


def test_live_data_are_of_the_last_run_and_files_of_each(lima: Client, tmp_path: Path) -> None:
    first = lima.acquire(nb_frames=5, expo_time=0.001, saving=tmp_path, changes=SMALL)
    first.wait(10)
    lima.acquire(nb_frames=5, expo_time=0.001).wait(10)
    with pytest.raises(StateError, match="not the last run"):
        first.frame()
    with first.read() as saved:
        assert len(saved) == 5
    existing = {"base_path": tmp_path}
    with pytest.raises(RefusedError, match="overwrite"):
        lima.acquire(nb_frames=5, saving=existing)
    lima.acquire(nb_frames=5, expo_time=0.001, saving=existing | {"file_exists_policy": "overwrite"}).wait(10)


def test_a_run_that_fails_says_so_to_whoever_follows_it(lima: Client) -> None:
    run = lima.acquire(pipeline="Failing", nb_frames=200, expo_time=0.001, changes=FAILING)
    with pytest.raises(RunFailedError, match="receiver"):
        list(run.frames())
    with pytest.raises(RunFailedError, match="receiver"):
        run.wait(10)
    assert run.result().state is RunState.FAILED
    assert run.result().error


def test_waiting_has_a_bound(lima: Client) -> None:
    run = lima.acquire(nb_frames=5, trigger_mode="software")
    with pytest.raises(NotReadyError, match="not over"):
        run.wait(0.2)
    with pytest.raises(NotReadyError, match="triggered"):
        next(run.frames(timeout_s=0.2))


def test_a_device_that_does_not_exist_is_a_sentence(system: System) -> None:
    with pytest.raises(UnreachableError, match="is not defined in this Tango database"):
        connect("id00/limacontrol/nobody", system.tango_host)
    with pytest.raises(UnreachableError, match="domain/family/member"):
        connect("no/body", system.tango_host)


def test_a_server_that_dies_in_mid_run_is_told_in_time_and_the_next_run_works(tmp_path: Path) -> None:
    with launched(tmp_path, "single") as own, connect(own.control, own.tango_host) as lima:
        run = lima.acquire(nb_frames=0, expo_time=0.005)
        next(run.frames())
        own.kill_job()
        begin = time.monotonic()
        with pytest.raises(UnreachableError, match="does not answer"):
            list(run.frames())
        assert time.monotonic() - begin < 20
        own.start_job()
        own.wait_ready()
        with pytest.raises(RunFailedError, match="does not know run"):
            run.wait(10)
        assert lima.acquire(nb_frames=3, expo_time=0.001).wait(20).nb_frames_processed == 3
