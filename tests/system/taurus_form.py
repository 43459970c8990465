"""A Taurus form on the device that is named as the argument: prints what it shows as JSON, then writes two values."""

import json
import sys
from collections.abc import Callable

from taurus.external.qt import Qt
from taurus.qt.qtgui.application import TaurusApplication
from taurus.qt.qtgui.panel import TaurusForm

NAMES = ["nb_frames", "expo_time", "trigger_mode", "pipeline", "saving_directory", "saving_prefix", "acq_state"]
CHANGES = {"expo_time": 0.25, "saving_prefix": "taurus"}
LIMIT_MS = 30_000
PERIOD_MS = 50

app = TaurusApplication(["form"], cmd_line_parser=None)
form = TaurusForm()
form.model = [f"{sys.argv[1]}/{name}" for name in NAMES]
form.show()
rows = dict(zip(NAMES, form, strict=True))


def shown() -> dict[str, list[str]]:
    """Label and value of each row."""
    return {name: [row.labelWidget().text(), str(row.getModelObj().getValueObj().rvalue)] for name, row in rows.items()}


def complete() -> bool:
    return all(row.getModelObj().getValueObj() is not None for row in rows.values())


def written() -> bool:
    found = {name: rows[name].getModelObj().read(cache=False).rvalue for name in CHANGES}
    return found["saving_prefix"] == "taurus" and float(found["expo_time"].magnitude) == CHANGES["expo_time"]


def then(condition: Callable[[], bool], action: Callable[[], None]) -> None:
    """Ask until it is so, then act."""

    def look() -> None:
        if condition():
            timer.stop()
            action()

    timer = Qt.QTimer(form)
    timer.timeout.connect(look)
    timer.start(PERIOD_MS)


def edit() -> None:
    sys.stdout.write(json.dumps(shown()) + "\n")
    for name, value in CHANGES.items():
        rows[name].writeWidget().setValue(value)
    form.apply()
    then(written, lambda: app.exit(0))


then(complete, edit)
Qt.QTimer.singleShot(LIMIT_MS, lambda: app.exit(1))
sys.exit(app.exec_())
