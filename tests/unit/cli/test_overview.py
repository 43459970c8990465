"""The command line as a newcomer meets it: what is listed where, and that commands answer in one style."""

import json
import re
from collections.abc import Callable

import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from lima2_tango.cli import output
from lima2_tango.cli.bench.row import Row, table
from lima2_tango.cli.main import GROUPS, app
from lima2_tango.core.params import Params
from lima2_tango.core.plugins import load

Lima2 = Callable[..., Result]
NAMES = [name for names in GROUPS.values() for name in names]


@pytest.fixture
def lima2() -> Lima2:
    return lambda *arguments: CliRunner().invoke(app, arguments)


def test_commands_are_listed_in_groups_as_a_newcomer_meets_them(lima2: Lima2) -> None:
    told = lima2("--help").output
    places = [told.index(f" {title} ") for title in GROUPS]
    assert places == sorted(places)
    listed = re.findall(r"^│ (\w+) {2,}", told, re.MULTILINE)
    assert listed == NAMES, "every command has its group"
    assert set(NAMES) == set(typer.main.get_command(app).commands)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "simulate"])
def test_every_command_has_an_example(lima2: Lima2, name: str) -> None:
    assert f"Example: lima2 {name}" in lima2(name, "--help").output


@pytest.mark.parametrize(
    "name", ["cameras", "pipelines", "params", "schema", "doctor", "bench", "view", "run", "status"]
)
def test_what_tells_something_tells_it_to_programs_too(lima2: Lima2, name: str) -> None:
    assert "--json" in lima2(name, "--help").output


@pytest.mark.parametrize("arguments", [("params", "Simulator", "Legacy"), ("schema", "Fai")], ids=" ".join)
def test_what_is_json_anyway_takes_the_option(lima2: Lima2, arguments: tuple[str, ...]) -> None:
    assert lima2(*arguments, "--json").output == lima2(*arguments).output


def leaves(values: object, path: str = "") -> dict[str, object]:
    """Values by their path; a set without members is a value."""
    if not isinstance(values, dict) or not values:
        return {path: values}
    return {
        place: value
        for name, child in values.items()
        for place, value in leaves(child, f"{path}.{name}" if path else name).items()
    }


def defaults(declared: type[Params]) -> dict[str, object]:
    return leaves(declared().model_dump(mode="json"))


def test_parameters_are_a_table_for_people(lima2: Lima2) -> None:
    lines = lima2("params", "Simulator", "Legacy", "--table").output.splitlines()
    shown = {line.split()[0]: line for line in lines[1:]}
    expected = defaults(load("cameras", "simulator").params) | defaults(load("processing.pipelines", "legacy").params)
    assert {path for path in expected if path not in shown} <= {"class_name"}
    assert "Exposure time of one frame [us]." in shown["acq.expo_time"]
    for path in ("acq.nb_frames", "acq.trigger_mode", "saving.nb_frames_per_file"):
        assert json.dumps(expected[path]) in shown[path]


def test_a_table_and_json_at_once_are_refused(lima2: Lima2) -> None:
    result = lima2("params", "Simulator", "--table", "--json")
    assert result.exit_code == 1
    assert "choose one" in result.stderr


def test_tables_take_texts_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    made = output.table("what", "found")
    output.add(made, "[red]brackets[/]", 7)
    output.print_table(made)
    assert "[red]brackets[/]  7" in capsys.readouterr().out


def test_a_pipe_gets_whole_lines(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_rows([{"long": "word " * 60, "short": "x"}], as_json=False)
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_figures_are_shown_in_the_same_look(capsys: pytest.CaptureFixture[str]) -> None:
    row = Row("P1", "frames [raw]", 10.0, 20.0, "1/s", 0.5, 0.4, 0, 3, "as [it] was")
    output.print_table(table([row]))
    told = capsys.readouterr().out
    assert "frames [raw]" in told
    assert "P1: as [it] was" in told
