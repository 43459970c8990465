"""The how-to pages work as written."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from pages import DOCS, ROOT, blocks, follow, shell

from lima2_tango import cameras
from lima2_tango.cli.process import free_port
from lima2_tango.core.plugins import available
from lima2_tango.processing.pipelines.fai import FaiParams
from lima2_tango.testing.camera_rig import Rig, make_rig
from lima2_tango.testing.cameras import CameraContract

PORTS = ("10000", "58712")
"""Those of the page, which may be in use on this machine."""


class TestTheCameraOfThePage(CameraContract):
    @pytest.fixture
    def rig(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
        (file,) = [block.body for block in blocks(DOCS / "how-to/add-a-camera.md") if block.kind == "python"]
        (tmp_path / "counter.py").write_text(file, encoding="utf-8")
        monkeypatch.setattr(cameras, "__path__", [*cameras.__path__, str(tmp_path)])
        assert "counter" in available("cameras")
        rig = make_rig("counter", tmp_path)
        yield rig
        rig.close()

    def test_shows_the_number_of_each_frame(self, rig: Rig) -> None:
        (delivery,) = rig.run(nb_frames=5)
        assert all((frame == index).all() for index, frame in delivery.frames().items())


def test_a_system_can_be_run_by_hand(tmp_path: Path) -> None:
    script = "\n".join(block.body for block in blocks(DOCS / "how-to/run-by-hand.md") if block.kind == "bash")
    for port in PORTS:
        assert port in script
        script = script.replace(port, str(free_port("127.0.0.1")))
    (tmp_path / "config").symlink_to(ROOT / "config")
    stop_what_is_left = "trap 'kill $(jobs -p) 2> /dev/null || true' EXIT\n"
    assert shell(stop_what_is_left + script, tmp_path).endswith("IDLE\n"), _logs(tmp_path)


def _logs(folder: Path) -> str:
    return "\n".join(f"{log.name}:\n{log.read_text()[-2000:]}" for log in sorted(folder.glob("*.log")))


def test_the_options_of_the_page_are_those_of_the_server(tmp_path: Path) -> None:
    shown = shell("lima2_tango --help", tmp_path)
    page = (DOCS / "how-to/run-by-hand.md").read_text(encoding="utf-8")
    for option in ("--log-level", "--log-file-path", "--log-file-filename"):
        assert option in shown
        assert f"`{option}" in page
    assert os.linesep.join(["| Option | What |", "|---|---|"]) in page


def test_integration_works_as_the_page_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = DOCS / "how-to/integrate.md"
    assert follow(page, tmp_path, {}) == 2
    (shown,) = [block.body for block in blocks(page) if block.kind == "json"]
    params = FaiParams.parse(shown)
    assert params.fai.csr_path == "/data/calibration/csr.h5"
