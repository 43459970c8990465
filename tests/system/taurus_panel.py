"""Drives the panel of config/taurus offscreen: writes values, acquires by its button, prints what it shows as JSON."""

import importlib.util
import json
import sys
from collections.abc import Callable

import pyqtgraph
import tango
from taurus.external.qt import Qt
from taurus.qt.qtgui.application import TaurusApplication

PATH, CONTROL, PICTURE = sys.argv[1:]
FRAMES = 40
REGIONS = '{"rectangles": [[40, 30, 40, 40], [0, 0, 16, 16]]}'
LIMIT_MS = 45_000
PERIOD_MS = 100

spec = importlib.util.spec_from_file_location("panel", PATH)
panel_module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(panel_module)
pyqtgraph.setConfigOptions(background="w", foreground="k")
app = TaurusApplication(["panel"], cmd_line_parser=None)
control = tango.DeviceProxy(CONTROL)
control.SetRoi(REGIONS)
panel = panel_module.Panel(CONTROL)
panel.show()
rows = dict(zip(panel_module.ACQUISITION, panel.acquisition, strict=True))


def then(condition: Callable[[], bool], action: Callable[[], None]) -> None:
    """Ask until it is so, then act."""

    def look() -> None:
        if condition():
            timer.stop()
            action()

    timer = Qt.QTimer(panel)
    timer.timeout.connect(look)
    timer.start(PERIOD_MS)


def value(name: str) -> object:
    found = rows[name].getModelObj().getValueObj()
    return None if found is None else found.rvalue


def received() -> int:
    counts = [
        panel.receivers.widget(number)[1].getModelObj().getValueObj() for number in range(panel.receivers.count())
    ]
    return sum(count.rvalue.magnitude for count in counts)


def complete() -> bool:
    return all(value(name) is not None for name in rows)


def acquire() -> None:
    rows["nb_frames"].writeWidget().setValue(FRAMES)
    panel.acquisition.apply()
    then(lambda: control.nb_frames == FRAMES, panel.buttons["Acquire"].click)
    then(shown, report)


def shown() -> bool:
    frames, _ = panel.regions.curve.getData()
    image = panel.image.image.image
    done = frames is not None and len(frames) == FRAMES and image is not None
    done = done and received() == FRAMES
    return done and panel.image.plotItem.titleLabel.text == f"frame {FRAMES - 1}" and str(value("acq_state")) == "idle"


def report() -> None:
    frames, sums = panel.regions.curve.getData()
    panel.grab().save(PICTURE)
    told = {
        "shape": list(panel.image.image.image.shape),
        "largest": float(panel.image.image.image.max()),
        "frames": len(frames),
        "sums": [float(each) for each in sums],
        "receivers": [panel.receivers.tabText(number) for number in range(panel.receivers.count())],
    }
    sys.stdout.write(json.dumps(told) + "\n")
    panel.hide()
    app.exit(0)


def give_up() -> None:
    panel.hide()
    app.exit(1)


then(complete, acquire)
Qt.QTimer.singleShot(LIMIT_MS, give_up)
sys.exit(app.exec_())
