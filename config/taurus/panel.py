"""A Taurus panel on one system: acquisition, live image, region values and receivers.

    python config/taurus/panel.py id00/limacontrol/simulator

It talks to the control device, and shows the receivers of the same name. Needs `pip install lima2_tango[taurus]`.
"""

import sys
from typing import Any

import numpy as np
import pyqtgraph
import tango
from taurus.external.qt import Qt
from taurus.qt.qtgui.application import TaurusApplication
from taurus.qt.qtgui.button import TaurusCommandButton
from taurus.qt.qtgui.panel import TaurusForm

ACQUISITION = (
    "acq_state",
    "nb_frames",
    "expo_time",
    "latency_time",
    "trigger_mode",
    "pipeline",
    "saving_directory",
    "saving_prefix",
    "nb_frames_acquired",
    "nb_frames_saved",
    "frame_rate",
    "last_error",
)
COMMANDS = ("Acquire", "Trigger", "Stop", "Abort")
RECEIVER = ("acq_state", "nb_frames_xferred", "nb_frames_lost", "last_error")
LOOKED_AT = ("last_image", "last_image_frame", "roi_history_frames", "roi_history", "roi_history_region")
"""Read in one call: what belongs together comes together."""
PERIOD_MS = 300
COLOURS = "viridis"
LOW, HIGH = 1.0, 99.8
"""Percentiles of the pixels where the colours begin and end [%]."""
PATIENCE_MS = 30_000
"""An Acquire prepares all receivers; the first one compiles."""


class Looker(Qt.QThread):
    """Reads the image and the regions beside the window's own thread, and only while they are seen."""

    looked = Qt.pyqtSignal(dict)

    def __init__(self, control: str, parent: Qt.QObject) -> None:
        super().__init__(parent)
        self._control = control

    def run(self) -> None:
        device = tango.DeviceProxy(self._control)
        while not self.isInterruptionRequested():
            try:
                read = device.read_attributes(list(LOOKED_AT))
            except tango.DevFailed:
                read = []
            self.looked.emit({each.name: each.value for each in read if is_valid(each)})
            self.msleep(PERIOD_MS)


def is_valid(read: tango.DeviceAttribute) -> bool:
    return not read.has_failed and read.quality != tango.AttrQuality.ATTR_INVALID and read.value is not None


class LiveImage(pyqtgraph.PlotWidget):
    """The newest frame; the pixel in the upper left corner is the first."""

    def __init__(self) -> None:
        super().__init__()
        self.image = pyqtgraph.ImageItem(axisOrder="row-major")
        self.addItem(self.image)
        self.bar = self.addColorBar(self.image, colorMap=COLOURS)
        self.setAspectLocked(True)
        self.invertY(True)
        self.setTitle("no frame yet")

    def show_frame(self, pixels: np.ndarray, number: int) -> None:
        low, high = np.nanpercentile(pixels, (LOW, HIGH))
        self.image.setImage(pixels, autoLevels=False)
        self.bar.setLevels((low, max(high, low + 1.0)))
        self.setTitle(f"frame {number}")


class RegionPlot(pyqtgraph.PlotWidget):
    """Sums of one region over the newest frames."""

    def __init__(self) -> None:
        super().__init__()
        self.setLabel("bottom", "frame")
        self.setLabel("left", "sum", units="count")
        self.curve = self.plot(pen=pyqtgraph.mkPen("#1f77b4", width=2), symbol="o", symbolSize=4)
        self.setTitle("no region yet: SetRoi of the control makes some")

    def show_region(self, frames: np.ndarray, sums: np.ndarray, region: int) -> None:
        if len(frames) == len(sums):
            self.curve.setData(frames, sums)
            self.setTitle(f"region {region}")


class Panel(Qt.QWidget):
    """The whole window."""

    def __init__(self, control: str) -> None:
        super().__init__()
        self.setWindowTitle(control)
        self.image, self.regions = LiveImage(), RegionPlot()
        self.acquisition = form([f"{control}/{name}" for name in ACQUISITION])
        self.buttons = {name: button(control, name) for name in COMMANDS}
        self.receivers = Qt.QTabWidget()
        for receiver in receivers_of(control):
            shown = form([f"{receiver}/{name}" for name in RECEIVER], buttons=False)
            self.receivers.addTab(shown, receiver.rsplit("/", 1)[-1])
        self._lay_out()
        self.looker = Looker(control, self)
        self.looker.looked.connect(self.show_looked)

    def _lay_out(self) -> None:
        row, left, right = Qt.QHBoxLayout(), Qt.QVBoxLayout(), Qt.QSplitter(Qt.Qt.Vertical)
        for each in self.buttons.values():
            row.addWidget(each)
        left.addWidget(self.acquisition, 3)
        left.addLayout(row)
        left.addWidget(self.receivers, 1)
        right.addWidget(self.image)
        right.addWidget(self.regions)
        right.setSizes([520, 300])
        both = Qt.QHBoxLayout(self)
        both.addLayout(left, 1)
        both.addWidget(right, 1)
        self.resize(1280, 860)

    def show_looked(self, values: dict[str, Any]) -> None:
        if "last_image" in values:
            self.image.show_frame(values["last_image"], values.get("last_image_frame", -1))
        if len(values.get("roi_history", ())):
            self.regions.show_region(values["roi_history_frames"], values["roi_history"], values["roi_history_region"])

    def showEvent(self, event: Qt.QShowEvent) -> None:  # noqa: N802 - Qt's name
        self.looker.start()
        super().showEvent(event)

    def hideEvent(self, event: Qt.QHideEvent) -> None:  # noqa: N802 - Qt's name
        self.looker.requestInterruption()
        self.looker.wait()
        super().hideEvent(event)


def form(names: list[str], buttons: bool = True) -> TaurusForm:
    made = TaurusForm(withButtons=buttons)
    made.model = names
    return made


def button(control: str, command: str) -> TaurusCommandButton:
    made = TaurusCommandButton(command=command, text=command, timeout=PATIENCE_MS / 1000)
    made.setModel(control)
    return made


def receivers_of(control: str) -> list[str]:
    """Receivers that go by the name of the control, in order."""
    device = tango.DeviceProxy(control)
    database = tango.Database(device.get_db_host(), int(device.get_db_port()))
    pattern = device.dev_name().replace("limacontrol", "limareceiver") + "*"
    start = f"tango://{device.get_db_host()}:{device.get_db_port()}/"
    return [start + name for name in sorted(database.get_device_exported(pattern))]


def main() -> int:
    if len(sys.argv) != 2:
        sys.exit("name one control device: python config/taurus/panel.py id00/limacontrol/simulator")
    try:
        tango.DeviceProxy(sys.argv[1]).ping()
    except tango.DevFailed as error:
        reason = " ".join(error.args[-1].desc.split())
        sys.exit(f"{sys.argv[1]} does not answer: {reason}; is TANGO_HOST that of `lima2 status`, and the system up?")
    pyqtgraph.setConfigOptions(background="w", foreground="k")
    app = TaurusApplication(sys.argv[:1], cmd_line_parser=None)
    panel = Panel(sys.argv[1])
    panel.show()
    return int(app.exec_())


if __name__ == "__main__":
    sys.exit(main())
