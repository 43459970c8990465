"""The page on finding peaks works as written."""

from pathlib import Path

import pytest
from pages import DOCS, blocks, follow

from lima2_tango.processing.pipelines.smx import SmxParams

PAGE = DOCS / "how-to/find-peaks.md"


def test_peaks_are_found_as_the_page_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert follow(PAGE, tmp_path, {}) == 1


def test_the_parameters_of_the_page_are_taken() -> None:
    (shown,) = [block.body for block in blocks(PAGE) if block.kind == "json"]
    assert SmxParams.parse(shown).fai.error_model == "azimuthal"


def test_every_parameter_of_the_table_exists() -> None:
    text = PAGE.read_text(encoding="utf-8")
    rows = [line.split("`")[1] for line in text.splitlines() if line.startswith("| `") and "fai." not in line]
    known = SmxParams().fai.model_dump()
    assert rows
    assert all(name in known for name in rows)
