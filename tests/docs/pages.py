"""Pages of documentation as their reader works through them: every block in order, every shown output compared."""

import io
import os
import re
import subprocess
import sys
import tempfile
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
FENCE = re.compile(r"^```(?P<kind>\w*)\n(?P<body>.*?)^```$", re.DOTALL | re.MULTILINE)
SHELL_TIMEOUT = 90.0
"""Of all bash blocks between two Python blocks [s]."""


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: `python` and `bash` are run, `text` is the output of the block before, others are only read."""

    kind: str
    body: str
    line: int


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(found["kind"], found["body"], text.count("\n", 0, found.start()) + 2) for found in FENCE.finditer(text)
    ]


def shell(script: str, folder: Path) -> str:
    """What a bash script prints in `folder`; fails with its errors where it fails."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    result = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=SHELL_TIMEOUT,
        check=False,
    )
    assert result.returncode == 0, f"{script}\n{result.stdout}\n{result.stderr}"
    return result.stdout


def follow(page: Path, folder: Path, names: dict[str, Any]) -> int:
    """Run all blocks of a page, Python's in one namespace; returns how many outputs were compared.

    Temporary folders that a page makes are in `folder`, so that they go with it.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(folder))
        return _follow(page, folder, names)


def _follow(page: Path, folder: Path, names: dict[str, Any]) -> int:
    printed, compared = "", 0
    for block in blocks(page):
        if block.kind == "python":
            output = io.StringIO()
            code = compile("\n" * (block.line - 1) + block.body, str(page), "exec")
            with redirect_stdout(output):
                exec(code, names)
            printed = output.getvalue()
        elif block.kind == "bash":
            printed = shell(block.body, folder)
        elif block.kind == "text":
            assert printed == block.body, f"{page.name}, line {block.line}: prints {printed!r}"
            compared += 1
    return compared
