"""A simulated Dectris detector through the unmodified conductor: triggers, what goes wrong, BLISS' parameters."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import h5py
import pytest
import tango
from detecting import FAI, FRAMES, SMX, Case, Detectors, at, bliss, config
from lima2.common.exceptions import Lima2BackendError
from support import FAILING, Json
from test_smx import Calibration
from watching import wait_for

from lima2_tango.cli.system import System


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


@pytest.mark.parametrize("address", ["status/state", "config/nimages", "command/arm"])
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


@pytest.fixture(scope="module")
def calibration(tmp_path_factory: pytest.TempPathFactory) -> Calibration:
    return Calibration(tmp_path_factory.mktemp("dectris_calibration"))


@pytest.fixture(scope="module", params=[1, 2, 3], ids="{} receivers".format)
def shared(
    whole_system: System,
    detectors: Detectors,
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Case]:
    yield from at(whole_system, detectors, request.param, tmp_path_factory.mktemp("shared"))


def test_what_bliss_sends_is_exact_in_both_master_files(shared: Case) -> None:
    proc = shared.proc()
    shared.client.run(bliss(shared), proc)
    for source in ("raw_frame", "frame"):
        shared.check(source, channels=2)


@pytest.mark.parametrize("name", [FAI, SMX])
def test_what_integrates_takes_one_threshold_and_says_so(shared: Case, calibration: Calibration, name: str) -> None:
    files = {path: file for path, file in calibration.params.items() if name == SMX or "radius" not in path}
    changes = {"fai.acc_nb_frames_xfer": 6} if name == SMX else {}
    proc = shared.proc(name, files | changes)
    with pytest.raises(Lima2BackendError, match="frames of 2 channels cannot be integrated"):
        shared.client.prepare(bliss(shared), proc)
    shared.client.recover()
    shared.client.run(bliss(shared, **{"det.thresholds": [{"energy": 4020.5, "enabled": True}]}), proc)
    for source in ("raw_frame", "frame"):
        shared.check(source)
