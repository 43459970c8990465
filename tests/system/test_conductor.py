"""The unmodified conductor and client drive the server, in every topology of theirs."""

import time
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
import tango
from conducting import CHANGING, Conducted, error_of
from lima2.client.services import AcquisitionSuccess
from lima2.common.exceptions import Lima2BackendError, Lima2BadCommand, Lima2ValueError
from support import FAILING, conduct, launched, put
from watching import wait_for

from lima2_tango.cli.config import Topology
from lima2_tango.cli.system import System


@pytest.fixture(scope="module")
def whole_system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with launched(tmp_path_factory.mktemp("conducted"), "simulator") as running:
        yield running


@pytest.fixture(scope="module", params=list(Topology), ids=str)
def topology(whole_system: System, request: pytest.FixtureRequest) -> Conducted:
    """A conductor of its own for each topology; `single` uses one of the two receivers."""
    devices = whole_system.config.devices[1:]
    used = devices[:1] if request.param is Topology.SINGLE else devices
    conduct(whole_system, request.param, used)
    return Conducted.of(whole_system)


@pytest.fixture
def client(topology: Conducted) -> Iterator[Conducted]:
    yield topology
    topology.recover()


def assert_dealt_in_turn(frames: np.ndarray, images: int) -> None:
    """Frame i is image i mod `images`, and no two neighbours are equal."""
    for i in range(len(frames) - 1):
        assert not np.array_equal(frames[i], frames[i + 1]), f"frames {i} and {i + 1} are equal"
    assert np.array_equal(frames[images:], frames[:-images])


def test_every_frame_is_saved_once_and_in_order(client: Conducted, tmp_path: Path) -> None:
    client.run(client.acq({"acq.nb_frames": 31}), client.proc(tmp_path))
    frames = client.master()
    assert frames.shape == (31, 96, 64)
    assert_dealt_in_turn(frames, CHANGING["det.nb_prefetch_frames"])
    assert client.progress() == client.progress("frame") == client.progress("input_frame") == 31
    assert client.services.acquisition.nb_frames_xferred() == 31
    assert client.services.acquisition.nb_frames_acquired() == 31


def test_a_frame_is_the_same_from_memory_and_from_the_file(client: Conducted, tmp_path: Path) -> None:
    client.run(client.acq({"acq.nb_frames": 16}), client.proc(tmp_path))
    frames = client.master()
    for index in range(16):
        found = client.services.pipeline.get_frame(index, "frame")
        from_camera = client.services.pipeline.get_frame(index, "input_frame")
        assert found.idx == from_camera.idx == index
        assert np.array_equal(np.squeeze(found.data), frames[index])
        assert np.array_equal(from_camera.data[0, 960:1056, 992:1056], frames[index])
    last = client.services.pipeline.get_frame(-1, "frame")
    assert np.array_equal(np.squeeze(last.data), frames[last.idx])


def test_frames_can_be_looked_at_while_the_run_goes_on(client: Conducted, tmp_path: Path) -> None:
    client.prepare(client.acq({"acq.nb_frames": 0, "acq.expo_time": 5_000}), client.proc(tmp_path))
    client.start()
    wait_for(lambda: client.located(20), 10, "frame 20 located")
    for index in (0, 9, 20, -1):
        frame = client.services.pipeline.get_frame(index, "frame")
        assert index in {-1, frame.idx}
        assert np.squeeze(frame.data).shape == (96, 64)
    client.stop()
    client.wait_end()


@pytest.mark.parametrize("nb_frames", [0, 100_000], ids=["endless", "long"])
def test_a_stop_leaves_a_contiguous_series_and_a_master_file_of_it(
    client: Conducted, tmp_path: Path, nb_frames: int
) -> None:
    client.prepare(client.acq({"acq.nb_frames": nb_frames}), client.proc(tmp_path))
    client.start()
    client.wait_progress(40)
    client.stop()
    client.wait_end()
    client.check_success()
    frames = client.master()
    assert len(frames) == client.progress() == client.services.acquisition.nb_frames_xferred() >= 40
    assert_dealt_in_turn(frames, CHANGING["det.nb_prefetch_frames"])
    assert client.services.system_state()["state"] == "IDLE"


def test_a_stop_right_after_start_ends_the_run(client: Conducted, tmp_path: Path) -> None:
    client.prepare(client.acq({"acq.nb_frames": 0, "acq.trigger_mode": "software"}), client.proc(tmp_path))
    client.start()
    client.stop()
    client.wait_end(5)
    assert isinstance(client.services.acquisition.result(), AcquisitionSuccess)
    assert client.progress() == 0


@pytest.mark.parametrize(("nb_frames", "per_trigger"), [(13, 1), (12, 4), (10, 3)])
def test_software_triggers_expose_the_frames_asked_for(
    client: Conducted, tmp_path: Path, nb_frames: int, per_trigger: int
) -> None:
    mode = {"acq.trigger_mode": "software", "acq.nb_frames_per_trigger": per_trigger}
    client.prepare(client.acq(mode | {"acq.nb_frames": nb_frames}), client.proc(tmp_path))
    client.start()
    for _ in range(-(-nb_frames // per_trigger)):
        client.services.acquisition.trigger()
    client.wait_end(5)
    client.check_success()
    assert len(client.master()) == nb_frames


def test_each_trigger_releases_the_next_point_of_a_scan(client: Conducted) -> None:
    """BLISS waits for the awaited frame's count before it triggers the next (contract section 10.4)."""
    client.prepare(client.acq({"acq.trigger_mode": "software", "acq.nb_frames": 5}), client.proc())
    assert client.services.acquisition.nb_frames_acquired() == client.services.acquisition.nb_frames_xferred() == 0
    client.start()
    for point in range(5):
        assert client.progress() == point
        client.services.acquisition.trigger()
        wait_for(lambda point=point: client.progress() == point + 1, 3, f"frame {point}")
    client.wait_end(5)


def test_accumulated_frames_are_exact_sums_in_round_robin_order(client: Conducted, tmp_path: Path) -> None:
    """Number m*N + r is the m-th sum of receiver r, of its own consecutive frames (contract section 9)."""
    if client.topology is Topology.DYNAMIC:
        dealing = {"det.dispatch_mode": "round_robin"}
    else:
        dealing = {}
    client.run(client.acq({"acq.nb_frames": 8} | dealing), client.proc(tmp_path / "images"))
    images = client.master().astype(np.int64)
    depth, receivers = 3, client.receivers
    summed = {"accumulation.enabled": True, "accumulation.nb_frames": depth}
    client.run(client.acq({"acq.nb_frames": 24} | dealing), client.proc(tmp_path / "sums", summed))
    frames = client.master()
    assert len(frames) == client.progress() == 8
    for number, frame in enumerate(frames):
        local, rank = divmod(number, receivers)
        sources = [(local * depth + k) * receivers + rank for k in range(depth)]
        assert np.array_equal(frame, sum(images[i % 8] for i in sources)), f"accumulated frame {number}"
        assert np.array_equal(np.squeeze(client.services.pipeline.get_frame(number, "frame").data), frame)


def test_existing_files_are_kept_unless_overwriting_was_asked_for(client: Conducted, tmp_path: Path) -> None:
    client.run(client.acq({"acq.nb_frames": 31}), client.proc(tmp_path))
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    assert isinstance(
        error_of(client.prepare, client.acq(), client.proc(tmp_path)), Lima2BackendError | Lima2ValueError
    )
    (tmp_path / "lima2_master.h5").unlink()
    error = error_of(client.prepare, client.acq(), client.proc(tmp_path))
    assert isinstance(error, Lima2BackendError)
    assert "$.saving" in str(error)
    assert "overwrite" in str(error)
    assert all(file.read_bytes() == before[file] for file in tmp_path.iterdir())
    overwrite = {"saving.file_exists_policy": "overwrite"}
    client.run(client.acq({"acq.nb_frames": 9}), client.proc(tmp_path, overwrite))
    assert len(client.master()) == 9


def test_an_overwriting_prepare_that_is_not_started_destroys_nothing(client: Conducted, tmp_path: Path) -> None:
    client.run(client.acq({"acq.nb_frames": 9}), client.proc(tmp_path))
    client.prepare(client.acq(), client.proc(tmp_path, {"saving.file_exists_policy": "overwrite"}))
    with h5py.File(tmp_path / "lima2_master.h5", "r") as h5:
        assert h5["entry_0000/measurement/data"][...].any(axis=(1, 2)).all()


def test_a_second_prepare_replaces_the_first(client: Conducted, tmp_path: Path) -> None:
    first = client.prepare(client.acq(), client.proc(tmp_path))
    second = client.prepare(client.acq({"acq.nb_frames": 5}), client.proc(tmp_path))
    client.start()
    client.wait_end()
    client.check_success()
    assert len(client.master()) == 5
    assert first not in [str(uuid) for uuid in client.services.pipeline.uuids()]
    assert second == str(client.services.pipeline.current_pipeline())


def test_after_a_refused_prepare_the_next_one_works(client: Conducted) -> None:
    bad = put(client.services.pipeline.default_params(FAILING), {"failed_on_prepare": True})
    if client.topology is not Topology.DYNAMIC:  # the conductor itself refuses this class there
        assert isinstance(error_of(client.prepare, client.acq(), bad), Lima2BackendError)
    outside = {"statistics.enabled": True, "statistics.rect_rois": [rectangle(60, 0, 20, 4)]}
    assert isinstance(error_of(client.prepare, client.acq(), client.proc(changes=outside)), Lima2BackendError)
    client.run(client.acq({"acq.nb_frames": 3}), client.proc())


def rectangle(x: int, y: int, width: int, height: int) -> dict[str, dict[str, int]]:
    return {"topleft": {"x": x, "y": y}, "dimensions": {"x": width, "y": height}}


def test_a_failed_run_says_why_and_the_next_works_after_reset(client: Conducted, tmp_path: Path) -> None:
    client.prepare(client.acq({"acq.nb_frames": 400, "det.failed_frame_idx": 20}), client.proc(tmp_path))
    client.start()
    client.wait_end(10)
    assert client.services.acquisition.failed()
    assert any("20" in message for message in client.check_failure())
    client.reset()
    client.run(client.acq({"acq.nb_frames": 3}), client.proc(tmp_path / "next"))


OVERLOAD = {
    "acq.expo_time": 1,
    "det.nb_buffered_frames": 1,
    "img.roi": {"topleft": {"x": 0, "y": 0}, "dimensions": {"x": 0, "y": 0}},
}
"""A million whole frames a second, which no pipeline takes, and a camera that keeps one."""
SHORT_QUEUE = {"fifo.nb_fifo_frames": 1}


def frames_of(file: Path) -> np.ndarray:
    with h5py.File(file) as h5:
        return np.asarray(h5["entry_0000/instrument/detector/data"])


def test_lost_frames_are_counted_and_stand_as_zeros_where_the_camera_counts_them(
    client: Conducted, whole_system: System, tmp_path: Path
) -> None:
    nb_frames = 60
    counting = {"acq.nb_frames": nb_frames, "det.overload": "count"}
    client.run(client.acq(OVERLOAD | counting), client.proc(tmp_path, SHORT_QUEUE))
    receivers = [tango.DeviceProxy(f"tango://{whole_system.tango_host}/{name}") for name in whole_system.receivers]
    lost = sum(receiver.read_attribute("nb_frames_lost").value for receiver in receivers)
    saved = [frame for file in tmp_path.glob("lima2_[01]_*.h5") for frame in frames_of(file)]
    assert len(saved) == nb_frames
    assert 0 < lost == sum(not frame.any() for frame in saved)


def test_a_lost_frame_fails_the_run_where_the_camera_aborts(client: Conducted, tmp_path: Path) -> None:
    client.prepare(
        client.acq(OVERLOAD | {"acq.nb_frames": 10_000, "det.overload": "abort"}), client.proc(tmp_path, SHORT_QUEUE)
    )
    client.start()
    client.wait_end()
    assert any("is lost" in message for message in client.check_failure())


@pytest.mark.parametrize("state", ["idle", "prepared", "ended", "failed"])
def test_reset_leads_to_idle_from_every_state_that_allows_it(client: Conducted, state: str) -> None:
    if state != "idle":
        failing = {"det.failed_frame_idx": 2} if state == "failed" else {}
        client.prepare(client.acq(failing), client.proc())
    if state in {"ended", "failed"}:
        client.start()
        client.wait_end()
    client.reset()
    assert client.services.system_state()["state"] == "IDLE"
    client.run(client.acq({"acq.nb_frames": 3}), client.proc())


def test_reset_while_running_is_refused_and_harms_nothing(client: Conducted) -> None:
    client.prepare(client.acq({"acq.nb_frames": 200, "acq.expo_time": 5_000}), client.proc())
    client.start()
    assert isinstance(error_of(client.reset), Lima2BadCommand)
    client.wait_end()
    client.check_success()
    assert client.progress() == 200


def test_a_run_takes_the_time_of_its_exposures(client: Conducted) -> None:
    """The README promises 2.4 s for 120 frames of 20 ms."""
    client.prepare(client.acq({"acq.nb_frames": 60, "acq.expo_time": 20_000}), client.proc())
    begin = time.monotonic()
    client.start()
    client.wait_end()
    assert 1.15 <= time.monotonic() - begin <= 2.2


def test_the_server_may_restart_between_two_runs(client: Conducted, whole_system: System, tmp_path: Path) -> None:
    client.run(client.acq({"acq.nb_frames": 4}), client.proc(tmp_path / "before"))
    whole_system.stop_job()
    wait_for(lambda: client.services.system_state()["state"] == "DISCONNECTED", 5, "DISCONNECTED")
    whole_system.start_job()
    wait_for(client.services.operational, 15, "devices back online")
    wait_for(lambda: "OFFLINE" not in str(client.services.system_state()), 5, "all polled again")
    client.run(client.acq({"acq.nb_frames": 6}), client.proc(tmp_path / "after"))
    assert len(client.master()) == 6
