"""Rules R6 to R9 and R16: processing devices, their life in the database, their counters and rows."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread

import numpy as np
import pytest
import tango
from support import FAST, INDEX_ROW, LEGACY, ROW, SMALL, Rig, launched, rows
from watching import EventLog, wait_for

from lima2_tango.cli.config import DatabaseKind
from lima2_tango.cli.system import System
from lima2_tango.core.state import State

RECTANGLE = {"topleft": {"x": 3, "y": 5}, "dimensions": {"x": 7, "y": 11}}
ARC = {"center": {"x": 32.0, "y": 48.0}, "r1": 5.0, "r2": 20.0, "a1": 10.0, "a2": 120.0}
REGIONS = {
    "statistics.enabled": True,
    "statistics.rect_rois": [RECTANGLE],
    "statistics.arc_rois": [ARC],
    "profiles.enabled": True,
    "profiles.rois": [RECTANGLE, RECTANGLE],
    "profiles.directions": ["vertical", "horizontal"],
}
BLOCKS = {"popRoiStatistics": 2, "popRoiProfiles": 11 + 7}
"""Rows of one frame."""


def test_processing_devices_answer_and_take_subscribers_when_prepare_returns(rig: Rig) -> None:
    """R6, R7: without retries, for both events."""
    rig.prepare(rig.acq(FAST | SMALL), rig.legacy())
    names = rig.processing_names()
    assert [name.rsplit("/", 1)[1] for name in names] == [f"{rig.uuid}@0", f"{rig.uuid}@1"]
    for device in rig.processing():
        commands = {info.cmd_name for info in device.command_list_query()}
        assert {"getFrame", "getInputFrame", "popFrameIdx", "popRoiStatistics", "popRoiProfiles"} <= commands
        assert rig.db.get_device_info(device.dev_name()).class_name == LEGACY
        assert device.read_attribute("last_frames").value
    with EventLog(rig.processing()):
        assert all(rig.uuid in r.read_attribute("pipelines").value for r in rig.receivers)


def test_frame_infos_are_final_when_prepare_returns(rig: Rig) -> None:
    """Contract section 4.1: they are read once, from device 0."""
    rig.prepare(rig.acq(FAST | SMALL | {"det.generator.pixel_type": "gray16"}), rig.legacy())
    before = [rig.processing()[0].read_attribute(f"{name}_frame_info").value for name in ("input", "processed")]
    sizes = ({"x": 2048, "y": 2048}, {"x": 64, "y": 96})
    for text, size in zip(before, sizes, strict=True):
        assert json.loads(text) == {"nb_channels": 1, "dimensions": size, "pixel_type": "gray16"}
    rig.start()
    rig.wait_receivers(State.IDLE)
    assert [rig.processing()[0].read_attribute(f"{n}_frame_info").value for n in ("input", "processed")] == before


def test_pipelines_reads_as_an_empty_sequence_without_any(rig: Rig) -> None:
    """Contract section 3.1: None would break the conductor's iteration."""
    assert [list(receiver.read_attribute("pipelines").value) for receiver in rig.receivers] == [[], []]


def test_an_erased_pipeline_leaves_device_and_database(rig: Rig) -> None:
    """Contract section 1.5; the pipeline after it keeps working."""
    acq = rig.acq(FAST | SMALL | {"acq.nb_frames": 4})
    old = rig.run(acq, rig.legacy())
    devices = rig.processing()
    new = rig.run(acq, rig.legacy())
    for receiver in rig.receivers:
        receiver.command_inout("erasePipeline", old)
        assert list(receiver.read_attribute("pipelines").value) == [new]
    assert rig.processing_names(old) == []
    for device in devices:
        with pytest.raises(tango.DevFailed):
            device.ping()
    assert [c["nb_frames_processed"] for c in rig.counters()] == [2, 2]


@pytest.fixture(params=list(DatabaseKind)[:2], ids=str)
def crashing(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[System]:
    with launched(tmp_path, "simulator", request.param) as system:
        yield system


def leftovers(rig: Rig) -> list[str]:
    """Processing devices that the database still defines for our receivers."""
    servers = [rig.db.get_device_info(receiver.dev_name()).ds_full_name for receiver in rig.receivers]
    return [name for server in servers for name in rig.db.get_device_name(server, LEGACY)]


def test_a_restarted_server_forgets_the_devices_of_a_killed_one(crashing: System) -> None:
    """R8: Tango would create them again, without a pipeline behind."""
    rig = Rig(crashing.tango_host, crashing.control, crashing.receivers)
    rig.prepare(rig.acq({"acq.nb_frames": 0} | SMALL), rig.legacy())
    rig.start()
    rig.wait_counted("nb_frames_source", 4)
    assert len(leftovers(rig)) == 2
    crashing.kill_job()
    crashing.start_job()
    crashing.wait_ready()
    assert leftovers(rig) == []
    assert [list(receiver.read_attribute("pipelines").value) for receiver in rig.receivers] == [[], []]
    rig.run(rig.acq(FAST | SMALL | {"acq.nb_frames": 6}), rig.legacy())
    assert rig.xferred() == [3, 3]


def pop_until_finished(rig: Rig, commands: dict[str, np.dtype], events: EventLog) -> dict[str, list[np.ndarray]]:
    """All rows by `command@rank`: popped each 20 ms, until one round after the end is empty."""
    devices, pause = rig.processing(), Event()
    popped: dict[str, list[np.ndarray]] = {f"{c}@{r}": [] for c in commands for r in range(len(devices))}
    while True:
        ended = events.finished()
        batch = {f"{c}@{r}": rows(d.command_inout(c), t) for c, t in commands.items() for r, d in enumerate(devices)}
        for key, found in batch.items():
            if found.size:
                popped[key].append(found)
        if ended and not any(found.size for found in batch.values()):
            return popped
        pause.wait(0.02)


@pytest.mark.parametrize("stop_at", [None, 300], ids=["complete", "stopped"])
def test_rows_are_whole_frames_in_order_without_holes(rig: Rig, stop_at: int | None) -> None:
    """R9: contiguous from local index 0, whole frames per pop, numbered as the conductor's table is."""
    nb_frames = 0 if stop_at else 1001
    rig.prepare(rig.acq(FAST | SMALL | {"acq.nb_frames": nb_frames}), rig.legacy(changes=REGIONS))
    with EventLog(rig.processing()) as events:
        rig.start()
        if stop_at:
            rig.wait_counted("nb_frames_source", stop_at)
            rig.stop()
        popped = pop_until_finished(rig, dict.fromkeys(BLOCKS, ROW), events)
    counted = [counters["nb_frames_source"] for counters in rig.counters()]
    for command, length in BLOCKS.items():
        for rank in range(2):
            chunks = popped[f"{command}@{rank}"]
            assert all(chunk.size % length == 0 for chunk in chunks), "a pop cut a frame in two"
            blocks = np.concatenate(chunks).reshape(-1, length)
            assert len(blocks) == counted[rank]
            expected = np.arange(counted[rank]) * 2 + rank
            assert np.array_equal(blocks["frame_idx"], np.repeat(expected[:, None], length, axis=1))
            assert set(blocks["recv_idx"].ravel()) == {rank}


def test_a_stop_cuts_all_receivers_at_one_frame(rig: Rig) -> None:
    """Contract section 9: counts form a contiguous prefix of the series."""
    for _ in range(5):
        rig.prepare(rig.acq(FAST | SMALL | {"acq.nb_frames": 0}), rig.legacy())
        with EventLog(rig.processing()) as events:
            rig.start()
            rig.wait_counted("nb_frames_source", 50)
            rig.stop()
            wait_for(events.finished, 5, "is_finished")
        counted = [counters["nb_frames_source"] for counters in rig.counters()]
        total = sum(counted)
        assert counted == [(total + 1) // 2, total // 2]
        assert rig.xferred() == counted


def test_who_polls_the_counts_has_the_final_ones_before_the_finished_event(rig: Rig, tmp_path: Path) -> None:
    """R14: the conductor ends its table of frames at that event with what it has read, and places files by it."""
    pause, finished, seen = Event(), Event(), []
    mode = {"acq.trigger_mode": "software", "acq.nb_frames": 13}
    rig.prepare(rig.acq(FAST | SMALL | mode), rig.legacy(tmp_path))

    def poll() -> None:
        while not finished.is_set():
            counts = [counters["nb_frames_source"] for counters in rig.counters()]
            seen.append((time.monotonic(), counts))
            pause.wait(0.03)

    with EventLog(rig.processing()) as events:
        rig.start()
        poller = Thread(target=poll)
        poller.start()
        for count in range(1, 14):
            rig.trigger()
            rig.wait_counted("nb_frames_source", count)
        wait_for(events.finished, 5, "is_finished")
        finished.set()
        poller.join(5)
    last = max(arrival.at for arrival in events.arrivals)
    assert [counts for read, counts in seen if read < last][-1] == [7, 6]


def test_dynamic_rows_tell_where_each_frame_went(rig: Rig) -> None:
    """Contract section 9: `popFrameIdx` rows are in local order and cover the series."""
    acq = rig.acq(FAST | SMALL | {"acq.nb_frames": 42, "det.dispatch_mode": "predictive_random"})
    rig.prepare(acq, rig.legacy(changes={"frame_idx_enabled": True}))
    with EventLog(rig.processing()) as events:
        rig.start()
        popped = pop_until_finished(rig, {"popFrameIdx": INDEX_ROW}, events)
    dealt = {rank: np.concatenate(popped[f"popFrameIdx@{rank}"])["frame_idx"] for rank in range(2)}
    pattern = [0, 0, 0, 1, 1, 0, 1, 1]
    for rank in range(2):
        assert list(dealt[rank]) == [i for i in range(42) if pattern[i % 8] == rank]


def test_the_pressure_of_a_saving_run_is_readable(rig: Rig, tmp_path: Path) -> None:
    """What a person looks at when a pipeline cannot keep up; bytes are those of the images in the files."""
    changes = {"saving.compression": "none"}
    rig.run(rig.acq(FAST | SMALL | {"acq.nb_frames": 40}), rig.legacy(tmp_path, changes))
    for device in rig.processing():
        assert device.read_attribute("bytes_saved").value == 20 * 64 * 96 * 2
        assert device.read_attribute("blocks_queued").value == 0
        assert device.read_attribute("most_blocks_queued").value >= 1
        assert device.read_attribute("queue_waits").value >= 0
        assert device.read_attribute("saving_rate").value >= 0
        assert device.get_attribute_config("saving_rate").unit == "byte/s"


def test_pops_answer_empty_after_the_run_until_the_pipeline_is_erased(rig: Rig) -> None:
    """Contract section 4.4, rules 1 and 9."""
    rig.run(rig.acq(FAST | SMALL | {"acq.nb_frames": 4}), rig.legacy())
    for device in rig.processing():
        for command in ("popRoiStatistics", "popRoiProfiles"):
            assert rows(device.command_inout(command), ROW).size == 0
        assert rows(device.command_inout("popFrameIdx"), INDEX_ROW).size == 0


def test_counters_are_readable_while_getters_and_pops_are_busy(rig: Rig) -> None:
    """R16: one failed read ends the conductor's table and hangs the run; values never decrease, keys never change."""
    large = {"det.generator.pixel_type": "gray32", "det.generator.nb_channels": 4, "det.nb_prefetch_frames": 2}
    rig.prepare(rig.acq({"acq.nb_frames": 0, "acq.expo_time": 50_000} | large), rig.legacy())
    stop = Event()
    failures: list[str] = []

    def pull(name: str) -> None:
        device = rig.device(name)
        while not stop.is_set():
            for call, argument in (("getInputFrame", -1), ("popRoiStatistics", None), ("getFrame", -1)):
                try:
                    device.command_inout_raw(call, argument) if argument else device.command_inout(call)
                except tango.DevFailed as error:
                    if "API_CommandTimedOut" in str(error):
                        failures.append(call)

    pullers = [Thread(target=pull, args=(name,)) for name in rig.processing_names() for _ in range(2)]
    rig.start()
    for puller in pullers:
        puller.start()
    try:
        slowest, history = watch_counters(rig, seconds=5.0)
    finally:
        stop.set()
        for puller in pullers:
            puller.join()
    rig.stop()
    rig.wait_receivers(State.IDLE)
    assert not failures
    assert slowest < 2.0, "Tango gives up after 3.2 s"
    for old, new in zip(history, history[1:], strict=False):
        assert all(a.keys() == b.keys() for a, b in zip(old, new, strict=True))
        assert all(b[key] >= a[key] for a, b in zip(old, new, strict=True) for key in a)


def watch_counters(rig: Rig, seconds: float) -> tuple[float, list[list[dict[str, int]]]]:
    """Counters each 50 ms; the slowest read [s], and all that was read."""
    devices, slowest, history, pause = rig.processing(), 0.0, [], Event()
    end = time.monotonic() + seconds
    while (begin := time.monotonic()) < end:
        history.append([json.loads(device.read_attribute("progress_counters").value) for device in devices])
        slowest = max(slowest, time.monotonic() - begin)
        pause.wait(0.05)
    return slowest, history
