"""`lima2 simulate beamline`: what it refuses before it starts anything."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from lima2_tango.cli.main import app


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--tango-host", "localhost:1"], "did not answer"),
        (["--tango-host", "here"], "give HOST:PORT"),
        (["--tango-host", "/a:3"], "give HOST:PORT"),
        (["--tango-host", "localhost:99999"], "HOST:PORT"),
        (["--family", "a b/c"], "domain/family"),
        (["--limits", "1", "1"], "lowest position"),
        (["--velocity", "0"], "above 0"),
        (["no_such_system"], "is not up"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_a_beamline_that_cannot_start_says_why(
    arguments: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIMA2_HOME", str(tmp_path))
    monkeypatch.delenv("TANGO_HOST", raising=False)
    result = CliRunner().invoke(app, ["simulate", "beamline", *arguments])
    assert result.exit_code == 1
    assert sentence in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_it_looks_for_a_running_system_before_tango_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIMA2_HOME", str(tmp_path))
    monkeypatch.setenv("TANGO_HOST", "localhost:1")
    assert "localhost:1 did not answer" in CliRunner().invoke(app, ["simulate", "beamline"]).stderr
    assert "simulator is not up" in CliRunner().invoke(app, ["simulate", "beamline", "simulator"]).stderr
