"""The panel of config/taurus, offscreen: a person sets the number of frames, acquires, sees an image and a curve."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from support import LEGACY, ROW, Rig, rows

from lima2_tango.cli.system import System
from lima2_tango.core.encoded import frame_of

DRIVER = Path(__file__).with_name("taurus_panel.py")
PANEL = Path(__file__).parents[2] / "config" / "taurus" / "panel.py"
FRAMES = 40
PEAK = {"x0": 60.0, "y0": 50.0, "fwhm": 40.0, "max": 1000.0}
"""Grows from frame to frame: the sums of a region over it are a curve."""
PNG = b"\x89PNG"
SMALLEST_PICTURE = 20_000
"""An empty window of this size is smaller [byte]."""


def test_the_panel_acquires_and_shows_image_and_regions(rig: Rig, system: System, tmp_path: Path) -> None:
    control = rig.control
    control.acq_params = json.dumps({"det": {"generator": {"gauss": {"peaks": [PEAK], "grow_factor": 0.05}}}})
    control.proc_params = json.dumps({"class_name": LEGACY, "saving": {"enabled": False}})
    control.det_width, control.det_height = 128, 96
    control.expo_time, control.latency_time = 0.002, 0.0
    picture = Path(os.environ.get("LIMA2_PICTURE", tmp_path / "panel.png"))
    name = f"tango://{system.tango_host}/{system.control}"
    environment = dict(os.environ, TANGO_HOST=system.tango_host, QT_QPA_PLATFORM="offscreen")
    command = [sys.executable, str(DRIVER), str(PANEL), name, str(picture)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    _, pixels = frame_of(control.getFrame(FRAMES - 1))
    assert (told["shape"], told["largest"]) == ([96, 128], float(pixels.max()))
    assert told["largest"] > 0
    popped = rows(control.popRoiStatistics(), ROW)
    np.testing.assert_array_equal(told["sums"], popped["sum"].reshape(FRAMES, 2)[:, 0])
    assert len(set(told["sums"])) > FRAMES // 4
    assert told["receivers"] == [receiver.rsplit("/", 1)[-1] for receiver in system.receivers]
    content = picture.read_bytes()
    assert content.startswith(PNG)
    assert len(content) > SMALLEST_PICTURE
