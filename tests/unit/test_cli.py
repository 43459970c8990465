"""What people type."""

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from lima2_tango.cli.main import app
from lima2_tango.core.plugins import available, load

COMMANDS = ["up", "down", "status", "demo", "cameras", "pipelines", "params", "schema"]


@pytest.fixture
def lima2():
    """Runs a command line and returns its result."""
    runner = CliRunner()
    return lambda *arguments: runner.invoke(app, arguments)


def test_help_lists_every_command(lima2):
    result = lima2("--help")
    assert result.exit_code == 0
    assert all(command in result.output for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_has_an_example(lima2, command):
    result = lima2(command, "--help")
    assert result.exit_code == 0
    assert f"Example: lima2 {command}" in result.output


def test_cameras_are_listed_for_people_and_programs(lima2):
    assert "LimaSimulatorControl" in lima2("cameras").output
    listed = json.loads(lima2("cameras", "--json").output)
    assert {row["name"].lower() for row in listed} == set(available("cameras"))


def test_pipelines_are_listed_for_people_and_programs(lima2):
    assert "LimaProcessingLegacy" in lima2("pipelines").output
    listed = json.loads(lima2("pipelines", "--json").output)
    assert "LimaProcessingLegacy" in {row["class_name"] for row in listed}


@pytest.mark.parametrize("pipeline", ["Legacy", "legacy", "LimaProcessingLegacy"])
def test_params_are_what_prepare_takes(lima2, pipeline):
    body = json.loads(lima2("params", "Simulator", pipeline).output)
    plugin, legacy = load("cameras", "simulator"), load("processing.pipelines", "legacy")
    assert plugin.params.parse(json.dumps(body["receiver"])) == plugin.params()
    assert body["control"] == body["receiver"]
    assert body["processing"].pop("class_name") == "LimaProcessingLegacy"
    legacy.params.parse(json.dumps(body["processing"]))


def test_params_of_a_camera_alone_have_no_processing(lima2):
    assert set(json.loads(lima2("params", "Simulator").output)) == {"control", "receiver"}


@pytest.mark.parametrize(("name", "key"), [("Simulator", "det"), ("Legacy", "saving")])
def test_schema_has_defaults(lima2, name, key):
    schema = json.loads(lima2("schema", name).output)
    assert key in schema["properties"]


@pytest.mark.parametrize(
    "arguments", [("params", "Polaroid"), ("params", "Simulator", "Magic"), ("schema", "Polaroid")], ids=" ".join
)
def test_a_wrong_name_is_one_sentence_and_exit_code_1(lima2, arguments):
    result = lima2(*arguments)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert len(result.stderr.splitlines()) == 1
    assert "have: " in result.stderr


@pytest.mark.parametrize("arguments", [("nonsense",), ("params",), ("demo", "--frames", "1")], ids=" ".join)
def test_wrong_usage_is_exit_code_2(lima2, arguments):
    assert lima2(*arguments).exit_code == 2


BACKGROUND_JOB = """
import signal, subprocess
signal.signal(signal.SIGINT, signal.SIG_IGN)
from lima2_tango.cli.main import app
app(["cameras"], standalone_mode=False)
ignored = subprocess.check_output(["grep", "SigIgn", "/proc/self/status"], text=True).split()[1]
print("ignored by a child:", bool(int(ignored, 16) & 1 << signal.SIGINT - 1))
"""


def test_what_a_background_job_starts_can_be_interrupted() -> None:
    done = subprocess.run([sys.executable, "-c", BACKGROUND_JOB], capture_output=True, text=True, timeout=30)
    assert done.stdout.endswith("ignored by a child: False\n"), done.stdout + done.stderr
