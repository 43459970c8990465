"""Web: what many who look on cost a run that goes as fast as it can, and what the page itself costs."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from lima2_tango.cli.process import environment
from lima2_tango.cli.system import System
from lima2_tango.core.errors import Lima2Error

from .responsiveness import GOAL_MS, ROOM, SETTLED, check_room, flat_out, lost_in_files, polling
from .rig import Rig, configuration, folder_in_memory
from .row import Row, Tell

CROWD = 20
"""Pages over WebSockets, and as many Tango clients."""
GOAL_CORES = 0.5
"""Bound of what the page takes for ten pictures a second of 4 Mpixel [cores]."""
LARGE = {"width": 2048, "height": 2048}
PERIOD_US = 50_000
"""Between two frames where the page's own cost is measured: more than it shows [us]."""
SHORT, LONG = 8.0, 30.0
ELSEWHERE = ["nice", "-n", "19"]
"""Browsers are on other computers: here they have what the acquisition leaves of this one."""
START = 20.0
"""Until the page, and a browser, are there [s]."""
STARTED = 5.0
"""A browser that shows a page is busy with itself for so long [s]."""


def measure(short: bool, tell: Tell) -> list[Row]:
    """A run of the Simulator at full speed beside the crowd; then ten pictures a second of 4 Mpixel for one browser."""
    seconds = SHORT if short else LONG
    with folder_in_memory(ROOM) as folder, Rig.running(configuration(), folder) as rig:
        with page(rig.system) as (url, process):
            return [_crowd(rig, folder, seconds, url, tell), _cost(rig, folder, seconds, url, process, tell)]


def _crowd(rig: Rig, folder: Path, seconds: float, url: str, tell: Tell) -> Row:
    with browser(url) as name:
        tell(f"flat out for {seconds:g} s, {CROWD} pages, {CROWD} Tango clients and {name} look on")
        rig.client.acquisition.prepare(**flat_out(rig, folder))
        rig.client.acquisition.start()
        begin = time.monotonic()
        with looking_on(url, seconds, CROWD) as pictures, polling(rig.system, seconds, CROWD) as times:
            while time.monotonic() < begin + seconds:
                check_room(folder)
                time.sleep(0.2)
            taken, seen = times(), pictures()
        rig.client.acquisition.stop()
        took = time.monotonic() - begin
    rig.wait_end(time.monotonic())
    frames: int = rig.client.pipeline.progress()
    p99 = float(np.percentile(taken, 99))
    detail = (
        f"{len(taken)} reads, median {np.median(taken):.2f} ms, worst {taken.max():.1f} ms; "
        f"{frames / took:.0f} frames a second; "
        f"each page {min(seen) / seconds:.1f} to {max(seen) / seconds:.1f} pictures a second; {name}"
    )
    what = f"acq_state beside {CROWD} pages and {CROWD} clients, 99 %"
    lost = lost_in_files(rig.client, frames) + seen.count(0)  # who saw nothing did not look on
    return Row("Web", what, p99, GOAL_MS, "ms", GOAL_MS / p99, 1.0, lost, 1, detail)


def _cost(rig: Rig, folder: Path, seconds: float, url: str, process: psutil.Process, tell: Tell) -> Row:
    tell("what the page costs for 10 pictures a second of 4 Mpixel")
    parameters = rig.parameters(folder, 0, LARGE)
    parameters["processing"]["saving"]["enabled"] = False
    for side in ("control", "receiver"):
        parameters[side]["acq"]["expo_time"] = PERIOD_US
    rig.client.acquisition.prepare(**parameters)
    rig.client.acquisition.start()
    with looking_on(url, seconds, 1) as pictures:
        before, begin = sum(process.cpu_times()[:2]), time.monotonic()
        (seen,) = pictures()
        cores = (sum(process.cpu_times()[:2]) - before) / (time.monotonic() - begin)
    rig.client.acquisition.stop()
    rig.wait_end(time.monotonic())
    detail = f"{seen / seconds:.1f} pictures a second of 2048 x 2048 pixels, on a screen of 1024 x 1024"
    return Row(
        "Web",
        "processor of the page, 4 Mpixel at 10 Hz",
        cores,
        GOAL_CORES,
        "cores",
        GOAL_CORES / cores,
        1.0,
        0,
        1,
        detail,
    )


@contextmanager
def page(system: System) -> Generator[tuple[str, psutil.Process]]:
    """`lima2 web` of this system, on a free port: its address, and its process."""
    command = [str(Path(sys.executable).parent / "lima2"), "web", "--device", system.control, "--port", "0"]
    command += ["--tango-host", system.tango_host]
    for receiver in system.receivers:
        command += ["--receiver", receiver]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            if "http" not in line:
                raise Lima2Error(f"the page did not start: {' '.join(command)}")
            yield line.split()[-1], psutil.Process(process.pid)
        finally:
            process.terminate()


@contextmanager
def looking_on(url: str, seconds: float, clients: int) -> Generator["Pictures"]:
    """So many pages look on; what is given waits for them, and returns the pictures that each got."""
    command = [*ELSEWHERE, sys.executable, "-m", "lima2_tango.cli.bench.onlookers", url, str(seconds), str(clients)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment()) as process:
        try:
            yield Pictures(process, seconds)
        finally:
            process.kill()


class Pictures:
    """Of each page that looks on, once its time is over."""

    def __init__(self, process: "subprocess.Popen[bytes]", seconds: float) -> None:
        self._process, self._seconds = process, seconds

    def __call__(self) -> list[int]:
        told: list[int] = json.loads(self._process.communicate(timeout=self._seconds + SETTLED)[0])
        return told


@contextmanager
def browser(url: str) -> Generator[str]:
    """Chromium with the page open, without a window, where there is one; gives what looks on."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        yield "no Chromium is installed"
        return
    alone = ["--no-sandbox"] if os.geteuid() == 0 else []
    with tempfile.TemporaryDirectory(prefix="lima2_browser_", ignore_cleanup_errors=True) as profile:
        options = ["--headless=new", "--disable-gpu", f"--user-data-dir={profile}", "--remote-debugging-port=0", *alone]
        quiet = subprocess.DEVNULL
        with subprocess.Popen([*_without_privilege(), program, *options, url], stdout=quiet, stderr=quiet) as process:
            try:
                _wait_seen(url)
                time.sleep(STARTED)
                yield "one Chromium"
            finally:
                process.terminate()
                process.wait(START)


def _without_privilege() -> list[str]:
    """How a browser begins that stays as nice as it is told to be: that of root would make itself less nice."""
    dropping = ["setpriv", "--inh-caps=-sys_nice", "--bounding-set=-sys_nice"]
    return [*(dropping if os.geteuid() == 0 and shutil.which("setpriv") else []), *ELSEWHERE]


def _wait_seen(url: str) -> None:
    """Until somebody looks at the page; raises Lima2Error where nobody does in time."""
    end = time.monotonic() + START
    try:
        with connect(f"{url.replace('http', 'ws', 1)}live", open_timeout=START, max_size=None) as socket:
            while (left := end - time.monotonic()) > 0:
                message = socket.recv(left)
                if isinstance(message, str) and json.loads(message).get("watched", 0) > 1:  # somebody beside us
                    return
    except (OSError, WebSocketException, TimeoutError) as error:
        raise Lima2Error(f"the page does not say who looks at it: {error}") from error
    raise Lima2Error(f"Chromium did not show the page within {START:g} s")
