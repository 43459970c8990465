"""The page about `lima2 up` works as written."""

import re
from pathlib import Path

import pytest
from pages import DOCS, ROOT, blocks, shell

from lima2_tango.cli.config import RestartPolicy

PAGE = DOCS / "how-to/run-a-system.md"


def test_the_page_works_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIMA2_HOME", str(tmp_path / "home"))
    script = "\n".join(block.body for block in blocks(PAGE) if block.kind == "bash")
    end_what_is_left = "trap 'lima2 down lab > /dev/null 2>&1 || true' EXIT\n"
    printed = shell(end_what_is_left + script, tmp_path)
    assert "lab is up: lima2 status lab, lima2 down lab" in printed
    assert "ended: database, launcher, lab_ctl, lab_rcv1, lab_rcv2" in printed
    for pattern in re.findall(r"^\| `(logs/[\w.]+)`", PAGE.read_text(encoding="utf-8"), re.MULTILINE):
        assert (tmp_path / "home/lab" / pattern).is_file()


@pytest.mark.parametrize("policy", list(RestartPolicy))
def test_every_restart_policy_is_explained(policy: RestartPolicy) -> None:
    assert f"`policy: {policy}`" in PAGE.read_text(encoding="utf-8").replace("`always`", "`policy: always`")


def test_the_readme_starts_an_example() -> None:
    (config,) = re.findall(r"^\$ lima2 up (\S+)", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert (ROOT / config).is_file()
