"""The tutorial notebook runs from its first cell to its last, and its checks come out true."""

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from pages import DOCS

NOTEBOOK = DOCS / "tutorials/notebook.ipynb"
CELL_LIMIT = 90
"""Of one cell [s]."""


def results(notebook: Any) -> list[str]:
    """What each cell of code gave as its value, as text; without those that gave none."""
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    return [output["data"]["text/plain"] for output in outputs if output.output_type == "execute_result"]


def test_the_notebook_is_stored_without_results() -> None:
    cells = [cell for cell in nbformat.read(NOTEBOOK, 4).cells if cell.cell_type == "code"]
    assert cells
    assert not any(cell.outputs or cell.execution_count for cell in cells)


def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    notebook = nbformat.read(NOTEBOOK, 4)
    NotebookClient(notebook, timeout=CELL_LIMIT, resources={"metadata": {"path": str(tmp_path)}}).execute()
    gave = results(notebook)
    assert gave[1] == "('done', 60, 59, (60, 1))"
    assert gave[-3:] == ["True", "True", "True"]
    pictures = [
        output
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if output.output_type == "display_data" and "image/png" in output["data"]
    ]
    assert len(pictures) == 2
