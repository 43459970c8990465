"""A client that knows only the control device: whole runs of all receivers, with plain PyTango and no conductor."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier, Lock
from typing import Any

import h5py
import hdf5plugin  # noqa: F401  (the filter that the files are compressed with)
import numpy as np
import psutil
import pytest
import tango
from support import Json, Rig, explained, launched, lima_error, payload_sentence, put, refused, rows
from watching import StateWatch, wait_for

from lima2_tango.cameras._images import Gauss, Generator, fill
from lima2_tango.cli.system import System
from lima2_tango.core.encoded import frame_of
from lima2_tango.core.state import State
from lima2_tango.processing.rows import ROI

IMAGES = 8
WIDTH, HEIGHT = 64, 96
PEAK = {"x0": 30.0, "y0": 40.0, "fwhm": 25.0, "max": 200.0}
DATA = "entry_0000/instrument/detector/data"
RECTANGLE = {"topleft": {"x": 5, "y": 7}, "dimensions": {"x": 21, "y": 33}}
BOUND = 15.0
ENDED = {"done", "stopped", "failed"}


def images() -> np.ndarray:
    """What the simulator shows, [image, row, column]: frame i is image i modulo 8."""
    made = np.empty((IMAGES, 1, HEIGHT, WIDTH), np.uint16)
    fill(Generator(gauss=Gauss.parse(json.dumps({"peaks": [PEAK], "grow_factor": 0.1}))), np.arange(IMAGES), made)
    return made[:, 0]


class Lima:
    """The control device, as a script uses it."""

    def __init__(self, tango_host: str, device: str) -> None:
        self.control = tango.DeviceProxy(f"tango://{tango_host}/{device}")
        self.control.set_timeout_millis(30_000)

    def write(self, folder: Path | None, acq: Json | None = None, proc: Json | None = None) -> None:
        generator = {"gauss": {"peaks": [PEAK], "grow_factor": 0.1}}
        det = {"width": WIDTH, "height": HEIGHT, "nb_prefetch_frames": IMAGES, "generator": generator}
        timing = {"nb_frames": 40, "expo_time": 500, "latency_time": 0}
        saving = {"enabled": False} if folder is None else {"base_path": str(folder), "nb_frames_per_file": 7}
        legacy = {"class_name": "LimaProcessingLegacy", "saving": saving}
        self.control.write_attribute("acq_params", json.dumps(put({"acq": timing, "det": det}, acq or {})))
        self.control.write_attribute("proc_params", json.dumps(put(legacy, proc or {})))

    def read(self, name: str) -> Any:
        return self.control.read_attribute(name).value

    def call(self, name: str, *arguments: Any) -> Any:
        return self.control.command_inout(name, *arguments)

    @property
    def state(self) -> State:
        return State(int(self.read("acq_state")))

    def record(self, uuid: str) -> Json:
        return dict(json.loads(self.call("Run", uuid)))

    def wait_end(self, uuid: str, timeout: float = BOUND) -> Json:
        """The record of a run that has ended."""
        wait_for(lambda: self.record(uuid)["state"] in ENDED, timeout, "the end of the run")
        return self.record(uuid)

    def acquire(self) -> Json:
        return self.wait_end(self.call("Acquire"))

    def recover(self) -> None:
        self.call("Abort")
        wait_for(lambda: all(json.loads(run)["state"] in ENDED for run in self.read("runs")), BOUND, "runs ended")


@pytest.fixture(scope="module")
def whole_system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with launched(tmp_path_factory.mktemp("driven"), "simulator") as running:
        yield running


@pytest.fixture(scope="module")
def rig(whole_system: System) -> Rig:
    """The devices behind the control, for what others do to them."""
    return Rig(whole_system.tango_host, whole_system.control, whole_system.receivers)


@pytest.fixture
def lima(whole_system: System) -> Iterator[Lima]:
    made = Lima(whole_system.tango_host, whole_system.control)
    yield made
    made.recover()


def frames_of(path: str) -> np.ndarray:
    with h5py.File(path) as file:
        return np.asarray(file[DATA][...])


def assert_exact(record: Json, nb_frames: int, receivers: int) -> None:
    """Every frame is in the master file where it belongs, and each row of a data file is a frame of its receiver."""
    shown = images()
    master, *data = record["files"]
    assert np.array_equal(frames_of(master), shown[np.arange(nb_frames) % IMAGES])
    counted = 0
    for path in data:
        rank = int(Path(path).stem.split("_")[1])
        with h5py.File(path) as file:
            detector = file["entry_0000/instrument/detector"]
            count = len(detector["data"])
            first = int(detector["receiver/first_frame"][()])
            index = detector["frame_idx"][...] if "frame_idx" in detector else first + receivers * np.arange(count)
            assert np.array_equal(detector["data"][...], shown[index % IMAGES]), f"{path} of receiver {rank}"
            counted += count
    assert counted == nb_frames


class Changes:
    """Change events of some attributes, in order."""

    def __init__(self, device: tango.DeviceProxy, names: tuple[str, ...]) -> None:
        self._device, self._names, self._lock = device, names, Lock()
        self.values: dict[str, list[Any]] = {name: [] for name in names}
        self._ids: list[int] = []

    def __enter__(self) -> "Changes":
        for name in self._names:
            self._ids.append(self._device.subscribe_event(name, tango.EventType.CHANGE_EVENT, self._recorder(name)))
        return self

    def __exit__(self, *_: object) -> None:
        for identity in self._ids:
            self._device.unsubscribe_event(identity)

    def _recorder(self, name: str) -> Any:
        def record(event: tango.EventData) -> None:
            if not event.err:
                with self._lock:
                    self.values[name].append(event.attr_value.value)

        return record


@pytest.mark.parametrize("dispatch", ["round_robin", "full_random"])
def test_a_run_is_saved_exactly_with_live_frames_and_rows(lima: Lima, tmp_path: Path, dispatch: str) -> None:
    acq = {"acq.nb_frames": 300, "acq.expo_time": 6000, "det.dispatch_mode": dispatch}
    lima.write(tmp_path, acq, {"statistics.rect_rois": [RECTANGLE]})
    shown, popped, live = images(), [], []
    lima.call("Prepare", "")
    identity = lima.read("run_uuid")
    assert lima.state is State.PREPARED
    lima.call("Start")

    def look() -> bool:
        popped.append(rows(lima.call("popRoiStatistics"), ROI))
        if lima.read("nb_frames_processed"):
            live.append(frame_of(lima.call("getFrame", -1)))
        return lima.record(identity)["state"] in ENDED

    wait_for(look, BOUND, "the end")
    popped.append(rows(lima.call("popRoiStatistics"), ROI))
    record = lima.record(identity)
    assert (record["state"], record["error"], lima.state) == ("done", "", State.IDLE)
    assert_exact(record, 300, 2)
    assert list(lima.read("files")) == record["files"]
    assert len({number for number, _ in live}) > 1
    assert all(np.array_equal(pixels[0], shown[number % IMAGES]) for number, pixels in live)
    table = np.concatenate(popped)
    assert table["frame_idx"].tolist() == list(range(300))
    region = shown[:, 7 : 7 + 33, 5 : 5 + 21].sum(axis=(1, 2), dtype=float)
    assert np.array_equal(table["sum"], region[np.arange(300) % IMAGES])


def test_progress_is_told_and_pushed(lima: Lima, tmp_path: Path) -> None:
    names = ("State", "acq_state", "run_uuid", "nb_frames_acquired", "nb_frames_saved", "last_error")
    lima.write(tmp_path, {"acq.nb_frames": 200, "acq.expo_time": 5000})
    with Changes(lima.control, names) as events:
        identity = lima.call("Acquire")
        wait_for(lambda: lima.read("frame_rate") > 0, BOUND, "a rate")
        assert 0 < lima.read("time_left") < 60
        lima.wait_end(identity)
        seen = events.values
        wait_for(lambda: seen["nb_frames_saved"][-1:] == [200], 3, "the last count")
        wait_for(lambda: seen["acq_state"][-1:] == [State.IDLE], 3, "the last state")
    assert seen["acq_state"] == [State.IDLE, State.PREPARED, State.RUNNING, State.IDLE]
    assert [str(state) for state in seen["State"]] == ["ON", "STANDBY", "RUNNING", "ON"]
    assert seen["run_uuid"][-1] == identity
    assert sorted(seen["nb_frames_saved"][1:]) == seen["nb_frames_saved"][1:]
    assert set(seen["last_error"]) == {"No error"}
    counts = ("nb_frames_acquired", "nb_frames_received", "nb_frames_processed", "nb_frames_saved")
    assert [lima.read(name) for name in counts] == [200] * 4
    assert lima.read("time_left") == 0


def test_state_is_answered_while_the_receivers_are_prepared(lima: Lima) -> None:
    large = {"det.width": 4096, "det.height": 4096, "det.nb_prefetch_frames": 16, "det.generator.pixel_type": "gray32"}
    lima.write(None, large)
    with StateWatch([lima.control], 0.005) as watch:
        lima.call("Prepare", "")
    assert not watch.errors
    assert watch.slowest() < 1.0


def test_refusals_name_the_receiver_or_the_parameter(lima: Lima, tmp_path: Path) -> None:
    lima.write(tmp_path, proc={"statistics.rect_rois": [put(RECTANGLE, {"topleft.x": 60})]})
    sentence = explained(lima.call, "Prepare", "")
    assert "receiver 0 (id00/limareceiver/simulator1)" in sentence
    assert "$.statistics.rect_rois[0]" in sentence
    lima.write(tmp_path, {"acq.trigger_mode": "external"})
    (tmp_path / "lima2_master.h5").write_bytes(b"of last year")
    assert "lima2_master.h5 exists" in explained(lima.call, "Acquire")
    assert "cannot start while idle" in refused(lima.call, "Start")
    assert "there is no run 'x'" in explained(lima.call, "Run", "x")
    assert lima.state is State.IDLE
    lima.write(None)
    lima.acquire()
    assert "frame 40" in explained(lima.call, "getFrame", 40)


def test_a_failure_names_receiver_and_frame_and_reset_clears_it(lima: Lima, tmp_path: Path) -> None:
    lima.write(tmp_path, {"det.failed_frame_idx": 21})
    record = lima.acquire()
    assert record["state"] == "failed"
    assert record["error"].startswith("receiver 1 (id00/limareceiver/simulator2): frame 21 failed")
    assert lima.state is State.FAULT
    assert lima.read("last_error") == record["error"]
    assert "allowed now: reset" in refused(lima.call, "Prepare", "")
    lima.call("Reset")
    assert (lima.state, lima.read("last_error")) == (State.IDLE, "No error")
    lima.write(None)
    assert lima.acquire()["state"] == "done"


@pytest.mark.parametrize("command", ["Stop", "Abort"])
def test_an_endless_run_ends_at_a_common_frame_and_keeps_its_data(lima: Lima, tmp_path: Path, command: str) -> None:
    lima.write(tmp_path, {"acq.nb_frames": 0, "acq.expo_time": 2000})
    identity = lima.call("Acquire")
    assert np.isnan(lima.read("time_left"))
    wait_for(lambda: lima.read("nb_frames_saved") > 20, BOUND, "saved frames")
    lima.call(command)
    record = lima.wait_end(identity)
    assert (record["state"], record["error"]) == ("stopped", "")
    wait_for(lambda: lima.state is State.IDLE, 3, "IDLE")
    assert_exact(record, record["nb_frames_acquired"], 2)


def test_triggers_reach_all_receivers(lima: Lima) -> None:
    lima.write(None, {"acq.nb_frames": 5, "acq.trigger_mode": "software"})
    identity = lima.call("Acquire")
    for _ in range(5):
        lima.call("Trigger")
    record = lima.wait_end(identity)
    assert (record["state"], record["nb_frames_processed"]) == ("done", 5)


def test_the_next_run_goes_on_while_the_last_one_is_processed(lima: Lima, tmp_path: Path) -> None:
    slow = {"saving.compression": "zip", "saving.filename_prefix": "slow"}
    big = {"det.width": 2048, "det.height": 2048, "det.generator.pixel_type": "gray32", "acq.nb_frames": 24}
    lima.write(tmp_path, big, slow)
    first = lima.call("Acquire")
    wait_for(lambda: lima.state is State.IDLE, BOUND, "the end of the acquisition")
    assert lima.record(first)["state"] == "processing"
    lima.write(tmp_path, {"acq.nb_frames": 20})
    second = lima.call("Acquire")
    assert lima.record(first)["state"] == "processing"
    assert lima.wait_end(second)["state"] == "done"
    before = lima.wait_end(first)
    assert (before["state"], before["nb_frames_saved"]) == ("done", 24)
    assert len(frames_of(before["files"][0])) == 24
    assert_exact(lima.record(second), 20, 2)


def test_conductor_and_control_do_not_mix_in_one_run(lima: Lima, rig: Rig) -> None:
    lima.write(None)
    lima.call("Prepare", "")
    identity = lima.read("run_uuid")
    assert f"this control drives the run {identity}" in explained(lima.call, "Prepare", "of-a-conductor")
    lima.call("Stop")
    rig.prepare(rig.acq({"acq.nb_frames": 0, "acq.trigger_mode": "software"}), rig.legacy())
    assert "a conductor drives the run" in explained(lima.call, "Prepare", "")
    rig.start()
    assert "cannot prepare while running" in refused(lima.call, "Acquire")
    rig.stop()
    rig.wait_receivers(State.IDLE)
    rig.close()
    lima.write(None)
    assert lima.acquire()["state"] == "done"


def test_a_receiver_that_somebody_else_prepared_is_named_at_start(lima: Lima, rig: Rig) -> None:
    lima.write(None)
    lima.call("Prepare", "")
    rig.receivers[1].command_inout("Prepare", "of-another-client")
    sentence = refused(lima.call, "Start")
    assert "receiver 1 (id00/limareceiver/simulator2)" in sentence
    assert "prepare again" in sentence
    assert lima.acquire()["state"] == "done"


def test_a_client_that_goes_away_changes_nothing(lima: Lima, whole_system: System, tmp_path: Path) -> None:
    lima.write(tmp_path, {"acq.nb_frames": 100, "acq.expo_time": 5000})
    name = f"tango://{whole_system.tango_host}/{whole_system.control}"
    code = f"import os, tango; tango.DeviceProxy({name!r}).Acquire(); os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", code], timeout=30, check=False)
    record = lima.wait_end(lima.read("run_uuid"))
    assert record["state"] == "done"
    assert_exact(record, 100, 2)


@pytest.mark.parametrize("nb_clients", [2, 4])
def test_of_clients_that_acquire_at_one_instant_one_gets_its_run_and_the_others_are_told_of_it(
    whole_system: System, lima: Lima, nb_clients: int
) -> None:
    clients = [Lima(whole_system.tango_host, whole_system.control) for _ in range(nb_clients)]

    def acquire(client: Lima, start: Barrier) -> str:
        start.wait(BOUND)
        client.write(None, {"acq.nb_frames": 0, "acq.expo_time": 10_000})  # its own: the last one's would be refused
        return str(client.call("Acquire"))

    for _ in range(10):
        start = Barrier(nb_clients)
        with ThreadPoolExecutor(nb_clients) as pool:
            answers = [pool.submit(acquire, client, start) for client in clients]
        errors = [answer.exception() for answer in answers]
        assert [a.result() for a in answers if a.exception() is None] == [lima.read("run_uuid")], errors
        on = f"the run {lima.read('run_uuid')} is on"
        for said in (payload_sentence(error.args[0].desc) for error in errors if error is not None):
            assert "another client" in said or on in said
        lima.recover()


def test_the_processing_of_the_last_two_runs_is_kept(lima: Lima, rig: Rig) -> None:
    lima.write(None, {"acq.nb_frames": 4})
    made = [lima.acquire()["uuid"] for _ in range(3)]
    assert [json.loads(run)["uuid"] for run in lima.read("runs")[:3]] == made[::-1]
    for receiver in rig.receivers:
        assert list(receiver.read_attribute("pipelines").value) == made[1:]


def server_of(system: System, instance: str) -> psutil.Process:
    """The process that runs a server instance of this system."""
    family = psutil.Process(system.job.pid).children(recursive=True)
    return next(process for process in family if instance in process.cmdline() and not process.children())


def test_a_receiver_that_hangs_is_named_and_the_other_ends_with_its_files(
    lima: Lima, whole_system: System, tmp_path: Path
) -> None:
    lima.write(tmp_path, {"acq.nb_frames": 0, "acq.expo_time": 5000})
    identity = lima.call("Acquire")
    wait_for(lambda: lima.read("nb_frames_saved") > 40, BOUND, "saved frames")
    hung = server_of(whole_system, "simulator_rcv2")
    hung.send_signal(signal.SIGSTOP)
    try:
        record = lima.wait_end(identity, 2 * BOUND)
        lima.call("Reset")
        lima.write(None)
        sentence = explained(lima.call, "Prepare", "")
        assert "Prepare failed on receiver 1 (id00/limareceiver/simulator2): no answer within 3 s" in sentence
    finally:
        hung.send_signal(signal.SIGCONT)
    assert record["state"] == "failed"
    assert "receiver 1 (id00/limareceiver/simulator2): it has not answered for 10 s" in record["error"]
    for path in record["files"]:
        with h5py.File(path) as file:
            assert len(file[DATA])
    wait_for(lambda: _works_again(lima), BOUND, "a run after it")


def _works_again(lima: Lima) -> bool:
    try:
        lima.call("Reset")
        lima.write(None)
        return bool(lima.acquire()["state"] == "done")
    except tango.DevFailed:
        return False


def test_one_process_that_is_control_and_receiver_drives_itself(tmp_path: Path) -> None:
    with launched(tmp_path / "system", "single") as system:
        lima = Lima(system.tango_host, system.control)
        lima.write(tmp_path / "data", {"acq.nb_frames": 100}, {"statistics.rect_rois": [RECTANGLE]})
        record = lima.acquire()
        assert (record["state"], record["error"]) == ("done", "")
        assert_exact(record, 100, 1)
        assert rows(lima.call("popRoiStatistics"), ROI)["frame_idx"].tolist() == list(range(100))
        lima.write(None, {"acq.nb_frames": 0})
        lima.call("Acquire")
        lima.call("Abort")
        assert lima.state is State.IDLE
        with pytest.raises(tango.DevFailed) as caught:
            lima.call("Start")
        assert "cannot start while idle" in lima_error(caught.value)
