"""What people type."""

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from lima2_tango.cli.main import app
from lima2_tango.cli.output import print_json
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
    assert listed[-1]["class_name"] == "LimaProcessingFailing", "behind those that people want"
    assert "fails on purpose" in listed[-1]["what"]
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
from lima2_tango.cli.output import print_json
app(["cameras"], standalone_mode=False)
ignored = subprocess.check_output(["grep", "SigIgn", "/proc/self/status"], text=True).split()[1]
print("ignored by a child:", bool(int(ignored, 16) & 1 << signal.SIGINT - 1))
"""


def test_what_a_background_job_starts_can_be_interrupted() -> None:
    done = subprocess.run([sys.executable, "-c", BACKGROUND_JOB], capture_output=True, text=True, timeout=30)
    assert done.stdout.endswith("ignored by a child: False\n"), done.stdout + done.stderr


class TestGraphs:
    def test_a_graph_is_drawn_for_people_pages_and_programs(self, lima2):
        assert "└─ region" in lima2("pipelines", "legacy").output
        assert lima2("pipelines", "Legacy", "--mermaid").output.startswith("flowchart")
        document = json.loads(lima2("pipelines", "LimaProcessingLegacy", "--json").output)
        assert "accumulation" in {node["name"] for node in document["nodes"]}

    def test_a_graph_is_shown_as_parameters_make_it(self, lima2, tmp_path):
        body = json.loads(lima2("params", "Simulator", "Legacy").output)
        body["receiver"]["img"]["binning"] = {"x": 2, "y": 4}
        body["processing"]["accumulation"] = {"enabled": True, "nb_frames": 10}
        (tmp_path / "p.json").write_text(json.dumps(body))
        output = lima2(
            "pipelines", "Legacy", "--frames", "512x1024:uint16", "--params", str(tmp_path / "p.json")
        ).output
        assert "1 x 512 x 1024 uint16" in output
        assert "1 x 128 x 512 uint32, one for 10 of the camera" in output

    def test_processing_parameters_alone_will_do(self, lima2, tmp_path):
        (tmp_path / "p.json").write_text('{"accumulation": {"enabled": true, "nb_frames": 7}}')
        output = lima2(
            "pipelines", "Legacy", "--frames", "2x64x32:float32", "--params", str(tmp_path / "p.json")
        ).output
        assert "2 x 64 x 32 float32, one for 7 of the camera" in output

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["nothing"], "there is no such camera or pipeline"),
            (["Failing"], "declares no graph"),
            (["Legacy", "--frames", "512:uint16"], "--frames"),
            (["Legacy", "--frames", "512x512:uint64"], "--frames"),
            (["Legacy", "--params", "p.json"], "say for which frames"),
            (["Legacy", "--frames", "4x4:uint8", "--params", "/nowhere.json"], "not a JSON file"),
        ],
    )
    def test_what_cannot_be_drawn_is_refused_in_a_sentence(self, lima2, arguments, said):
        result = lima2("pipelines", *arguments)
        assert result.exit_code == 1
        assert said in result.stderr


@pytest.mark.parametrize("option", ["--json", "--plot"])
def test_a_place_that_cannot_hold_the_figures_is_refused_before_anything_is_measured(lima2, tmp_path, option):
    result = lima2("bench", "P1", option, str(tmp_path / "nowhere" / "figures"))
    assert result.exit_code != 0
    assert "nowhere does not exist" in result.output


def test_json_for_programs_has_no_nan(capsys):
    print_json({"rows": [{"mean": float("nan")}, (1.5, float("inf"))], "n": 1})
    assert json.loads(capsys.readouterr().out) == {"rows": [{"mean": None}, [1.5, None]], "n": 1}
