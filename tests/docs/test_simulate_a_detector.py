"""The page on simulated detectors works as written."""

import json
import re
from pathlib import Path

from pages import DOCS, blocks, shell

from lima2_tango.simulators.dectris.models import find_model
from lima2_tango.simulators.dectris.options import Options
from lima2_tango.simulators.dectris.server import SimulatedDetector

PAGE = DOCS / "how-to/simulate-a-detector.md"
ADDRESS = "http://127.0.0.1:8080"


def test_an_acquisition_by_hand(tmp_path: Path) -> None:
    (script,) = [block.body for block in blocks(PAGE) if block.kind == "bash"]
    assert ADDRESS in script
    with SimulatedDetector(find_model("eiger2-1m"), Options(distinct=2)) as detector:
        told = shell(script.replace(ADDRESS, detector.url), tmp_path).splitlines()
        assert json.loads(told[-1])["value"] == "idle"
        assert detector.detector.series is not None
        assert detector.detector.series.exposed == 100


def test_the_options_of_the_page_are_those_of_the_command(tmp_path: Path) -> None:
    shown = shell("COLUMNS=200 lima2 simulate dectris --help; COLUMNS=200 lima2 doctor --help", tmp_path)
    named = set(re.findall(r"`(--[a-z-]+)", PAGE.read_text(encoding="utf-8")))
    assert len(named) > 15
    assert {option for option in named if option not in shown} == set()
