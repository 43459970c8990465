"""The tutorials do what they say, word for word."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pages import DOCS, ROOT, follow, shell


@pytest.fixture
def names() -> Iterator[dict[str, Any]]:
    """The reader's Python session; whatever it started is stopped, also where the page fails half-way."""
    session: dict[str, Any] = {}
    yield session
    if "system" in session:
        session["system"].stop()


def test_the_first_acquisition_works_as_shown(
    tmp_path: Path, names: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config").symlink_to(ROOT / "config")
    monkeypatch.chdir(tmp_path)
    assert follow(DOCS / "tutorials/first-acquisition.md", tmp_path, names) >= 6


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Folder of the systems that the page starts; what it leaves running is ended."""
    monkeypatch.setenv("LIMA2_HOME", str(tmp_path / "home"))
    yield tmp_path / "home"
    shell("lima2 down simulator || true", tmp_path)


def test_acquiring_from_scripts_works_as_shown(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not home.exists()
    (tmp_path / "config").symlink_to(ROOT / "config")
    monkeypatch.chdir(tmp_path)
    assert follow(DOCS / "tutorials/scripts.md", tmp_path, {}) >= 10
