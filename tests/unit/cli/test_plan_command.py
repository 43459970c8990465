"""`lima2 plan`: what it answers to people and programs, and what it refuses."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from lima2_tango.cli import rates
from lima2_tango.cli.main import app
from lima2_tango.control.scaling import Rates

RATES = Rates(
    compress=1e9, ratio=0.25, write=2e9, copy=5e9, copy_all=10e9, together=0.9, cores=2, disk=0.5e9, frame=0.25e-3
)
DETECTOR = ("--width", "4096", "--height", "4096", "--rate", "2000")
HOSTS = ("--cores", "64", "--memory", "512", "--nic", "100", "--disk", "4")
CONFIG = """
name: mine
camera: Simulator
receivers:
  - {device: id00/limareceiver/a, instance: a, properties: {workers: ["1"]}}
  - {device: id00/limareceiver/b, instance: b, properties: {workers: ["1"]}}
conductor: {topology: round_robin}
acq_params: {acq: {expo_time: 990, latency_time: 10}, det: {width: 1024, height: 512}}
"""


@pytest.fixture
def measured(tmp_path):
    file = tmp_path / "rates.json"
    file.write_text(json.dumps({"rates": rates.as_json(RATES)}))
    return ("--rates", str(file))


@pytest.fixture
def lima2():
    runner = CliRunner()
    return lambda *arguments: runner.invoke(app, ["plan", *map(str, arguments)])


@pytest.fixture
def config(tmp_path):
    def write(more="", **changes):
        text = CONFIG + more
        for old, new in changes.values():
            text = text.replace(old, new)
        file = tmp_path / "mine.yaml"
        file.write_text(text)
        return file

    return write


def answered(result):
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_the_table_marks_the_bottleneck_and_the_last_line_answers(lima2, measured):
    shown = lima2(*DETECTOR, *HOSTS, *measured)
    assert shown.exit_code == 0
    (marked,) = [line for line in shown.stdout.splitlines() if "│ bottleneck" in line]
    assert "network" in marked
    assert "It takes 6 receivers on 6 hosts; the bottleneck is network." in shown.stdout


def test_json_holds_the_question_and_the_answer(lima2, measured):
    told = answered(lima2(*DETECTOR, *HOSTS, *measured, "--json"))
    assert told["detector"]["bytes_per_second"] == 4096 * 4096 * 2 * 2000
    assert told["host"]["cores"] == 64
    assert (told["receivers"], told["hosts"], told["bottleneck"]) == (6, 6, "network")
    assert {need["resource"] for need in told["needs"]} >= {"cores", "compression", "memory", "network", "disk"}
    assert (told["configured"], told["enough"]) == (None, None)


def test_the_answer_is_rates_for_the_next_plan(lima2, measured, tmp_path):
    before = lima2(*DETECTOR, *HOSTS, *measured, "--json")
    (again := tmp_path / "plan.json").write_text(before.stdout)
    assert answered(lima2(*DETECTOR, *HOSTS, "--rates", again, "--json")) == answered(before)


def test_rates_are_found_in_the_document_of_the_benchmark(tmp_path):
    file = tmp_path / "bench.json"
    rows = [{"id": "P1"}, {"id": "P5", "figures": {}}, {"id": "Plan", "figures": rates.as_json(RATES)}]
    file.write_text(json.dumps({"machine": {}, "rows": rows}))
    assert rates.read_rates(file) == RATES


def test_a_configuration_says_detector_receivers_and_threads(lima2, measured, config):
    told = answered(lima2(config(), *measured, "--json"))
    detector, host = told["detector"], told["host"]
    assert (detector["width"], detector["height"], detector["pixel"]) == (1024, 512, "gray16")
    assert detector["rate"] == pytest.approx(1000)
    assert (host["receivers"], host["threads"], told["configured"]) == (2, 1, 2)
    assert told["enough"] is (told["receivers"] <= 2)


def test_a_configuration_with_too_few_receivers_is_told_so(lima2, measured, config):
    assert "The configuration has 2: too few." in lima2(config(), "--rate", 20_000, *measured).stdout
    assert "The configuration has 2: enough." in lima2(config(), "--rate", 1, *measured).stdout


def test_options_go_before_the_configuration(lima2, measured, config):
    told = answered(lima2(config(), "--width", 64, "--height", 32, "--pixel", "gray8", *measured, "--json"))
    assert told["detector"]["bytes_per_second"] == pytest.approx(64 * 32 * 1000)


def test_what_is_not_saved_needs_no_disk(lima2, measured, config):
    none = 'proc_params: {class_name: LimaProcessingLegacy, saving: {enabled: false, base_path: "/tmp"}}'
    told = answered(lima2(config(none), *measured, "--json"))
    assert "disk" not in {need["resource"] for need in told["needs"]}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "--width"),
        (("--width", "10", "--height", "10"), "--rate"),
        ((*DETECTOR[:4], "--rate", "0"), "above 0"),
        ((*DETECTOR[:4], "--rate", "nan"), "above 0"),
        ((*DETECTOR, "--nic", "-1"), "above 0"),
        ((*DETECTOR, "--compression", "zip"), "no rate of it is measured"),
        ((*DETECTOR, "--buffer", "inf"), "above 0"),
        ((*DETECTOR, "--folder", "/there/is/none"), "there is no such folder"),
        ((*DETECTOR, "--disk", "1", "--pixel", "gray8", "--photons", "1000"), "no room for so many"),
        ((*DETECTOR, "--rates", "/there/is/none"), "cannot be read"),
        (("/there/is/none.yaml",), "cannot be read"),
    ],
)
def test_bad_input_is_one_sentence(lima2, arguments, sentence):
    result = lima2(*arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert sentence in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "not JSON"),
        ("[]", "no rates are in it"),
        ('{"rows": 3}', "no rates are in it"),
        ('{"rates": {"compress": 1}}', "no rates are in it"),
        (json.dumps({"rates": {**rates.as_json(RATES), "copy": "fast"}}), "a rate is a number"),
        (json.dumps({"rates": {**rates.as_json(RATES), "write": -1}}), "a rate is a number"),
        (json.dumps({"rates": {**rates.as_json(RATES), "compress": 0}}), "measure again"),
        (json.dumps({"rates": {**rates.as_json(RATES), "frame": 0}}), "measure again"),
    ],
)
def test_a_file_without_rates_is_refused(lima2, tmp_path, text, sentence):
    (file := tmp_path / "rates.json").write_text(text)
    result = lima2(*DETECTOR, "--rates", file)
    assert result.exit_code == 2
    assert sentence in result.stderr


def test_a_camera_that_knows_its_frames_late_is_asked_for_by_options(lima2, measured, config):
    replay = config(camera=("camera: Simulator", "camera: Reader"), det=(", det: {width: 1024, height: 512}", ""))
    result = lima2(replay, *measured)
    assert result.exit_code == 2
    assert "--width, --height and --pixel" in result.stderr
    assert lima2(replay, "--width", 10, "--height", 10, *measured).exit_code == 0


def test_a_pipeline_whose_work_was_not_measured_is_refused(lima2, measured, config):
    result = lima2(config("proc_params: {class_name: LimaProcessingSmx}"), *measured)
    assert result.exit_code == 2
    assert "LimaProcessingSmx" in result.stderr


def test_rates_are_measured_with_the_frames_that_are_given(monkeypatch, tmp_path):
    monkeypatch.setattr(rates, "LEAST", 1e-3)
    monkeypatch.setattr(rates, "FILE_BYTES", 1 << 20)
    monkeypatch.setattr(rates, "FRAMES_BYTES", 1 << 16)
    frames, told = np.zeros((2, 64, 128), np.uint16), []
    found = rates.measure(frames, tmp_path, told.append)
    assert told[: len(rates.STEPS) - 1] == list(rates.STEPS[1:])
    assert 0 < found.ratio < 0.1
    assert 0 < found.together <= 1
    assert all(rate > 0 for rate in (found.compress, found.write, found.copy, found.copy_all, found.disk))
    assert list(tmp_path.iterdir()) == []


def test_noise_is_not_compressed():
    noise = np.random.default_rng(1).integers(0, 65535, (2, 64, 128), np.uint16)
    assert rates._chunk_bytes(noise) >= noise[0].nbytes
