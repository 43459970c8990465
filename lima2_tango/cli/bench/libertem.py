"""PyPI's `libertem-dectris`, the second reference of P2, in an environment of its own."""

import subprocess
import sys
from pathlib import Path
from threading import Timer

from lima2_tango.core.errors import Lima2Error

from .simulated import END, LEGACY, Detector, Load

INSTALL = 120.0
"""For its environment [s]."""
PEER = Path(__file__).with_name("libertem_peer.py")
"""Not to be imported: it runs in that environment."""


def install(folder: Path) -> Path | None:
    """An interpreter of its own that has it, or None where it is not to be had."""
    home = folder / "libertem"
    commands = (
        [sys.executable, "-m", "venv", str(home)],
        [str(home / "bin" / "pip"), "install", "--quiet", "libertem-dectris", "numpy"],
    )
    try:
        for command in commands:
            subprocess.run(command, check=True, capture_output=True, timeout=INSTALL)
    except (subprocess.SubprocessError, OSError):
        return None
    return home / "bin" / "python"


def receive(detector: Detector, load: Load, python: Path, runs: int, handle: Path) -> list[tuple[int, float]]:
    """Images and seconds of so many series, one after the other; its memory is its own, and touched in the first."""
    most = str(load.model.full.width * load.model.full.height)  # of two bytes a pixel, compressed to a half
    command = [str(python), str(PEER), detector.streams[LEGACY], most, str(handle), str(runs)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as peer:
        ended = Timer(END * (runs + 1), peer.kill)  # what hangs ends, and the pipe with it
        ended.start()
        try:
            return [_series(detector, peer) for _ in range(runs)]
        finally:
            ended.cancel()
            peer.kill()
            handle.unlink(missing_ok=True)


def _series(detector: Detector, peer: "subprocess.Popen[str]") -> tuple[int, float]:
    assert peer.stdout is not None
    if peer.stdout.readline().strip() != "ready":
        raise Lima2Error("libertem-dectris did not begin to listen")
    detector.expose()
    count, _, seconds = peer.stdout.readline().partition(" ")
    if not seconds:
        raise Lima2Error("libertem-dectris did not receive the series")
    return int(count), float(seconds)
