"""The tutorials on processing files do what they say, and their pictures are those that they draw."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from pages import DOCS, follow

ALIKE = 0.05
"""Mean difference of two pictures of 0 to 1 that fonts of another version make at most."""


@pytest.mark.parametrize(
    ("name", "outputs"), [("process-offline", 6), ("integrate-offline", 6), ("find-peaks-offline", 6)]
)
def test_the_tutorial_works_as_shown(name: str, outputs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert follow(DOCS / f"tutorials/{name}.md", tmp_path, {}) == outputs
    drawn, shown = imread(tmp_path / f"{name}.png"), imread(DOCS / f"images/{name}.png")
    assert drawn.shape == shown.shape
    assert np.abs(drawn - shown).mean() < ALIKE
