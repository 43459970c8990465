"""The tutorial does what it says, word for word."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pages import DOCS, ROOT, follow


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
