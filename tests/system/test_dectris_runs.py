"""A simulated Dectris detector through the unmodified conductor: triggers, what goes wrong, BLISS' parameters.

The sets of BLISS are those of the contract, in `bliss`, for two thresholds: each runs with its pipeline as it is, but
for what scans and beamlines set. There is no pipeline for photon correlation (Xpcs), so its set runs nowhere.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tango
from detecting import FAI, FRAMES, SETS, SMX, Case, Detectors, at, bliss, config
from lima2.common.exceptions import Lima2BackendError, Lima2ValueError
from support import CLASSES, FAILING, Json
from test_smx import BINS, SHAPE, Calibration
from watching import wait_for

from lima2_tango.cli.config import Topology
from lima2_tango.cli.system import System
from lima2_tango.processing.collect import Result
from lima2_tango.processing.offline import process
from lima2_tango.simulators.dectris.frames import gaps
from lima2_tango.simulators.dectris.models import find_model


@pytest.fixture(scope="module")
def detectors() -> Iterator[Detectors]:
    made = Detectors()
    yield made
    made.off()


@pytest.fixture(scope="module")
def whole_system(detectors: Detectors, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with System(config(detectors.now), tmp_path_factory.mktemp("dectris_runs")) as running:
        running.wait_ready()
        yield running


@pytest.fixture(scope="module")
def alone(whole_system: System, detectors: Detectors, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    yield from at(whole_system, detectors, 1, tmp_path_factory.mktemp("alone"))


@pytest.fixture
def one(alone: Case) -> Iterator[Case]:
    yield alone
    alone.client.recover()


def pulses(case: Case, count: int) -> None:
    """External triggers, each when the detector waits for it."""
    for number in range(count):
        wait_for(case.detector.detector.pulse, 5, f"the detector to wait for pulse {number}")


def triggers(case: Case, count: int) -> None:
    for _ in range(count):
        case.client.services.acquisition.trigger()


@pytest.mark.parametrize(
    ("mode", "per_trigger", "give", "changes"),
    [
        ("software", 1, triggers, {}),
        ("software", 4, triggers, {}),
        ("external", 1, pulses, {}),
        ("external", 4, pulses, {}),
        ("gate", 1, pulses, {}),
        ("gate", FRAMES, pulses, {"det__gate_mode": "extg"}),
    ],
)
def test_each_trigger_mode(
    one: Case, mode: str, per_trigger: int, give: Callable[[Case, int], None], changes: Json
) -> None:
    per = {} if mode == "gate" else {"acq__nb_frames_per_trigger": per_trigger}
    one.client.prepare(one.acq(acq__trigger_mode=mode, **per, **changes), one.proc())
    one.client.start()
    give(one, FRAMES // per_trigger)
    one.client.wait_end()
    one.client.check_success()
    one.check()


LONG = {"acq__nb_frames": 2000}
FAILURES: dict[str, tuple[Json, Json, str]] = {
    "an error of the detector": ({"error_at": 5}, LONG, "the detector is in state error"),
    "streams closed": ({"hang_up_at": 5}, LONG, r"frame \d has not come for 1 s"),
    "silence": ({"stall": (5, 10.0)}, LONG, "frame 5 has not come for [12] s, the detector is in state acquire"),
    "a frame lost": ({"drop": frozenset({3})}, {"det__overload": "abort"}, "frame 3 never came"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_is_told_within_a_bound_and_the_next_run_works(one: Case, name: str) -> None:
    faults, changes, told = FAILURES[name]
    with one.detectors.faulty(**faults):
        one.client.prepare(one.acq(**changes), one.proc())
        one.client.start()
        one.client.wait_end(15)
        check_failed(one, told)
    one.run_again()


def check_failed(case: Case, told: str) -> None:
    """With this sentence, and files that are closed and can be read."""
    sentences = " ".join(case.client.check_failure())
    assert re.search(told, sentences), sentences
    for path in case.saved.glob("*.h5"):
        with h5py.File(path) as file:
            file["/entry_0000/instrument/detector/data"][...]


def test_a_detector_that_is_gone_is_told_within_a_bound_and_works_when_it_is_back(one: Case) -> None:
    one.client.prepare(one.acq(**LONG), one.proc())
    one.client.start()
    one.client.wait_progress(3)
    one.detectors.off()
    try:
        one.client.wait_end(15)
        check_failed(one, "cannot be reached at")
    finally:
        one.detectors.on()
    one.run_again()


def test_a_trigger_that_is_refused_fails_the_start(whole_system: System, one: Case) -> None:
    """The conductor drops what Start says (contract R15): the control's status has it."""
    one.client.prepare(one.acq(), one.proc())
    with (
        one.detectors.faulty(rest_errors=frozenset({"command/trigger"})),
        pytest.raises(Lima2BackendError, match="Start command failed"),
    ):
        one.client.start()
    control = tango.DeviceProxy(f"tango://{whole_system.tango_host}/{whole_system.config.control.device}")
    assert control.state() == tango.DevState.FAULT
    assert "internal server error" in control.status()
    one.run_again()


@pytest.mark.parametrize(
    "address", ["status/state", "config/nimages", pytest.param("command/arm", marks=pytest.mark.long)]
)
def test_an_error_of_the_interface_at_prepare_is_told_in_its_words(one: Case, address: str) -> None:
    with (
        one.detectors.faulty(rest_errors=frozenset({address})),
        pytest.raises(Lima2BackendError, match="internal server error"),
    ):
        one.client.prepare(one.acq(), one.proc())
    one.run_again()


def test_a_frame_that_is_lost_is_zero_and_the_run_goes_on(one: Case) -> None:
    with one.detectors.faulty(drop=frozenset({3, FRAMES - 1}), duplicate=frozenset({5}), reorder=frozenset({7})):
        one.client.prepare(one.acq(), one.proc())
        one.client.start()
        one.client.wait_end()
        shown, ring = one.client.master(), one.detector.detector.series.ring
    lost = {3, FRAMES - 1}
    assert all((frame == (0 if i in lost else ring.pixels(i, 0))).all() for i, frame in enumerate(shown))
    one.run_again()


def test_the_readings_are_attributes_with_units_and_alarms(whole_system: System, one: Case) -> None:
    control = tango.DeviceProxy(f"tango://{whole_system.tango_host}/{whole_system.config.control.device}")

    def told(name: str) -> tuple[Any, tango.AttrQuality]:
        found = control.read_attribute(name)
        return found.value, found.quality

    def is_told(value: Any, quality: tango.AttrQuality) -> Callable[[], bool]:
        return lambda: told("temperature") == (value, quality)

    assert control.get_attribute_config("temperature").unit == "degC"
    assert control.get_attribute_config("humidity").unit == "%"
    assert control.get_attribute_config("stream_dropped").alarms.max_alarm == "1"
    wait_for(is_told(22.5, tango.AttrQuality.ATTR_VALID), 5, "the temperature")
    assert told("high_voltage_state") == ("READY", tango.AttrQuality.ATTR_VALID)
    assert told("detector_state") == ("idle", tango.AttrQuality.ATTR_VALID)
    assert told("stream_dropped") == (0, tango.AttrQuality.ATTR_VALID)
    with one.detectors.faulty(high_temperature=True):
        wait_for(is_told(48.3, tango.AttrQuality.ATTR_ALARM), 5, "the alarm")
    config = control.get_attribute_config("temperature")
    config.alarms.max_alarm = "20"
    control.set_attribute_config(config)
    wait_for(is_told(22.5, tango.AttrQuality.ATTR_ALARM), 5, "the facility's own limit")


def test_what_bliss_sends_for_a_pipeline_that_fails_fails(one: Case) -> None:
    one.client.prepare(one.acq(), one.proc(FAILING, {"failed_frame_idx": 5}))
    one.client.start()
    one.client.wait_end()
    assert one.client.check_failure()
    one.run_again()


@dataclass(frozen=True)
class Files:
    """What a beamline gives to the pipelines that integrate: pyFAI's files, and the mask of the detector."""

    rings: Calibration
    masked: np.ndarray
    paths: Json

    @classmethod
    def written(cls, folder: Path) -> "Files":
        rings, masked = Calibration(folder), gaps(find_model("eiger2-500k"), SHAPE) != 0
        np.save(folder / "mask", masked)
        return cls(rings, masked, {**rings.params, "fai.mask_path": str(folder / "mask.npy")})

    def for_set(self, name: str) -> Json:
        """What is to be set in BLISS' parameters of a pipeline."""
        if name == "smx":
            return self.paths | {"fai.acc_nb_frames_xfer": 6}  # the conductor divides it by the number of receivers
        return {path: file for path, file in self.paths.items() if name == "fai" and "radius" not in path}

    def average(self, frames: np.ndarray) -> np.ndarray:
        """[frame, bin] of frames [frame, row, column], by numpy."""
        with h5py.File(self.paths["fai.csr_path"]) as file:
            bins = np.repeat(np.arange(BINS), np.diff(file["indptr"]))
            dense = np.zeros((BINS, self.masked.size))
            dense[bins, file["indices"]] = file["data"]
        dense[:, self.masked.reshape(-1)] = 0
        signal = frames.reshape(len(frames), -1).astype(float) @ dense.T
        return np.asarray(signal / (dense @ self.rings.solid_angle.reshape(-1)))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files.written(tmp_path_factory.mktemp("dectris_calibration"))


@pytest.fixture(scope="module")
def shared(
    whole_system: System,
    detectors: Detectors,
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Case]:
    """As many receivers as the test asks for, of one detector."""
    yield from at(whole_system, detectors, request.param, tmp_path_factory.mktemp("shared"))


def combinations() -> list[Any]:
    """(receivers, BLISS' set) of all pipelines that there are; what takes long is left to `make test-long`."""
    quick = {(1, name) for name in SETS} | {(3, "smx")}
    return [
        pytest.param(
            receivers,
            name,
            id=f"{receivers} receivers-{name}",
            marks=() if (receivers, name) in quick else pytest.mark.long,
        )
        for receivers in (1, 2, 3)
        for name in SETS
        if SETS[name]["processing"]["class_name"] in CLASSES
    ]


def test_there_is_a_pipeline_for_each_set_of_bliss_but_that_of_photon_correlation() -> None:
    assert {sent["processing"]["class_name"] for sent in SETS.values()} - set(CLASSES) == {"LimaProcessingXpcs"}


@pytest.mark.parametrize(("shared", "name"), combinations(), indirect=["shared"])
def test_what_bliss_sends_is_exact_in_both_master_files_and_in_what_is_reduced(
    shared: Case, files: Files, name: str
) -> None:
    acq, proc = bliss(shared, name, files.for_set(name))
    if name == "failing" and shared.client.topology is Topology.DYNAMIC:  # the conductor's own refusal
        with pytest.raises(Lima2ValueError, match="failing pipeline with dynamic dispatch"):
            shared.client.prepare(acq, proc)
        shared.client.recover()
        return
    shared.client.run(acq, proc)
    shared.check("raw_frame", channels=2)
    if name != "failing":
        shared.check(channels=2)
        check_reduced(shared, files, proc)


def check_reduced(case: Case, files: Files, proc: Json) -> None:
    """What was made of the frames is what the offline twin makes of them, bit for bit."""
    frames = case.client.master()
    twin = list(process(frames, proc["class_name"], proc))
    assert [made.index for made in twin] == list(range(FRAMES))
    if proc["class_name"] == FAI:
        vectors = case.client.master("fai_averint")
        assert vectors.tobytes() == np.array([made.data["fai_averint"] for made in twin]).tobytes()
        assert np.allclose(vectors, files.average(frames[:, proc["fai"].get("channel", 0)]), rtol=1e-5)
    if proc["class_name"] == SMX:
        check_sparse(case, frames, twin, files.masked.reshape(-1))


def check_sparse(case: Case, frames: np.ndarray, twin: list[Result], masked: np.ndarray) -> None:
    """Peaks and background of the first threshold, and the sums of all receivers."""
    for number, made in enumerate(twin):
        found, expected = case.client.services.pipeline.get_frame(number, "sparse_frame"), made.data["sparse_frame"]
        assert np.array_equal(found.index, expected.pixels)
        assert not masked[found.index].any()
        assert np.array_equal(found.intensity, frames[number, 0].reshape(-1)[found.index])
        assert found.background_avg.tobytes() == expected.average.tobytes()
        assert found.background_std.tobytes() == expected.deviation.tobytes()
    assert any(len(made.data["sparse_frame"].pixels) for made in twin)
    assert case.client.rows("nb_peaks", 0)["nb_peaks"].tolist() == [
        len(made.data["sparse_frame"].pixels) for made in twin
    ]
    for block, name in {
        "saving_accumulation_corrected": "acc_corrected",
        "saving_accumulation_peak": "acc_peaks",
    }.items():
        total = sum(last_row(path) for path in case.saved.glob(f"{block}_[0-2]_00000.h5"))
        assert np.allclose(total, twin[-1].data[name], rtol=1e-6)


def last_row(path: Path) -> np.ndarray:
    with h5py.File(path) as file:
        return np.asarray(file["entry_0000/instrument/detector/data"][-1])


@pytest.mark.parametrize("shared", [1], indirect=True)
def test_another_threshold_is_integrated_where_that_is_asked_for(shared: Case, files: Files) -> None:
    acq, proc = bliss(shared, "fai", files.for_set("fai") | {"fai.channel": 1})
    shared.client.run(acq, proc)
    shared.check(channels=2)
    check_reduced(shared, files, proc)
    (path,) = shared.saved.glob("saving_fai_0_00000.h5")
    with h5py.File(path) as file:
        told = file["entry_0000/instrument/detector/params/processing"][()]
    assert json.loads(told)["fai"]["channel"] == 1
    with pytest.raises(Lima2BackendError, match=r"\$.fai.channel.*no such channel, the frames have 2: give 0 to 1"):
        shared.client.prepare(*bliss(shared, "fai", files.for_set("fai") | {"fai.channel": 2}))
    shared.client.recover()
