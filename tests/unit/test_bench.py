"""What a benchmark row is, and which there are."""

import io
import json
import re

import pytest
from rich.console import Console

from lima2_tango.cli.bench.row import Row, document, table
from lima2_tango.cli.bench.rows import ROWS, measure
from lima2_tango.core.errors import ParamError


def row(**changes):
    values = {"id": "P0", "what": "speed", "ours": 9.0, "reference": 10.0, "unit": "MB/s", "ratio": 0.9, "goal": 0.8}
    return Row(**{**values, "lost": 0, "runs": 3, **changes})


@pytest.mark.parametrize(
    ("changes", "met"), [({}, True), ({"ratio": 0.8}, True), ({"ratio": 0.79}, False), ({"lost": 1}, False)]
)
def test_a_goal_is_met_by_the_ratio_and_only_without_loss(changes, met):
    assert row(**changes).met is met


def test_the_document_holds_machine_and_rows():
    made = json.loads(json.dumps(document([row(), row(id="P1", lost=2)])))
    assert {"processor", "cores", "memory_gib", "python"} <= set(made["machine"])
    assert [(entry["id"], entry["met"], entry["lost"]) for entry in made["rows"]] == [("P0", True, 0), ("P1", False, 2)]
    assert {"what", "ours", "reference", "unit", "ratio", "goal", "runs"} <= set(made["rows"][0])


def test_the_table_shows_figures_with_their_reference():
    out = io.StringIO()
    Console(file=out, width=160).print(table([row(detail="three runs")]))
    shown = out.getvalue()
    assert all(text in shown for text in ("P0", "9 MB/s", "10 MB/s", "0.90", "yes", "three runs"))


def test_a_row_that_there_is_not_is_refused_before_anything_is_measured():
    with pytest.raises(ParamError, match="P11"):
        measure(["P99"], True, lambda text: None)


def measuring(_text):
    raise AssertionError("it is measured already")


def test_frames_that_are_none_are_refused_before_anything_is_measured(tmp_path):
    path = tmp_path / "frames.edf"
    path.write_text("no frames")
    with pytest.raises(ParamError, match=r"frames\.edf.*cannot be read"):
        measure(["P1b"], True, measuring, frames=[path])


def test_frames_for_a_row_that_takes_none_are_refused(tmp_path):
    with pytest.raises(ParamError, match="only the row P1b takes frames"):
        measure(["P1"], True, measuring, frames=[tmp_path / "frames.edf"])


@pytest.mark.parametrize(
    ("changes", "under"), [({}, False), ({"ratio": 0.4}, False), ({"ratio": 0.39}, True), ({"lost": 1}, True)]
)
def test_a_row_is_far_off_under_a_part_of_its_goal_or_with_losses(changes, under):
    assert row(**changes).falls_under(0.5) is under


def test_what_is_far_off_is_measured_once_more_and_then_counts(monkeypatch):
    ratios = iter([0.1, 0.7])
    monkeypatch.setitem(ROWS, "P0", lambda short, tell: [row(ratio=next(ratios))])
    assert [made.ratio for made in measure(["P0"], True, lambda text: None, least=0.5)] == [0.7]
    assert next(ratios, None) is None


def test_rows_have_the_names_of_the_goals_or_say_what_they_plan_or_show():
    assert {name for name in ROWS if not re.fullmatch(r"P\d+b?", name)} == {"Plan", "Web"}
