"""What the helper of these tests does with a page."""

import tempfile
from pathlib import Path

import pytest
from pages import follow

PAGE = """
```python
from tempfile import mkdtemp

folder = mkdtemp(prefix="lima2_page_")
print("made")
```

```text
{shown}
```
"""


def page(folder: Path, shown: str) -> Path:
    path = folder / "page.md"
    path.write_text(PAGE.format(shown=shown), encoding="utf-8")
    return path


def test_temporary_folders_of_a_page_go_with_the_folder_of_its_test(tmp_path: Path) -> None:
    before, names = tempfile.gettempdir(), {}
    assert follow(page(tmp_path, "made"), tmp_path, names) == 1
    assert Path(names["folder"]).parent == tmp_path
    assert tempfile.gettempdir() == before


def test_another_output_than_the_page_shows_fails(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"page.md, line 10: prints 'made"):
        follow(page(tmp_path, "lost"), tmp_path, {})
