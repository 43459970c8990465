"""P4, small frames: rows of one region, popped from one receiver while frames come as fast as they are made."""

import json
import os
import time
import uuid
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import tango
from lima2.common.devencoded import structured_array
from lima2.conductor.processing.reduced_data import ROI_STATS_DTYPE
from numpy.typing import NDArray

from lima2_tango.cli.config import ConductorConfig, SystemConfig
from lima2_tango.cli.system import System
from lima2_tango.client.proxies import bounded
from lima2_tango.control.parameters import pipelines
from lima2_tango.core.errors import DataLossError, Lima2Error
from lima2_tango.core.params import Params
from lima2_tango.core.plugins import load
from lima2_tango.core.state import State

from .rig import READY, Json, folder_in_memory, pinned
from .row import Row, Tell

Rows = NDArray[np.void]

CONFIG = SystemConfig(name="bench", conductor=ConductorConfig(enabled=False))
"""Control and one receiver in one process."""
PIPELINE = "LimaProcessingLegacy"
REGION = 64
"""Side of the region [pixel]."""
INTERVAL = 0.05
"""From one pop to the next [s]."""
SHORT, LONG = 4.0, 10.0
"""How long a run takes at the rate that is the goal [s]."""
REPEATS = 3
END = 60.0
"""Within this a run has begun and ended [s]."""
CALL = 30_000
"""Within this a device answers; the first Prepare may wait for kernels to compile [ms]."""
PEAK, GROWTH = 20.0, 0.05
MEMORY = 256 << 20
"""Of the images that are shown again and again: no cache holds that much, as none holds a detector's frames [byte]."""
CHUNK = 512
"""Images whose statistics are computed at once."""


@dataclass(frozen=True, slots=True)
class Images:
    """What the Simulator shows: a peak in the middle, higher from image to image; no two have the same sum."""

    side: int
    """[pixel]"""
    count: int
    """Frame i shows image i modulo this."""

    def parameters(self) -> Json:
        """The camera's own."""
        middle = self.side / 2
        peak = {"x0": middle, "y0": middle, "fwhm": float(REGION), "max": PEAK}
        generator = {"pixel_type": "gray16", "gauss": {"peaks": [peak], "grow_factor": GROWTH}}
        return {"width": self.side, "height": self.side, "nb_prefetch_frames": self.count, "generator": generator}

    def region(self) -> Json:
        """The pixels in the middle."""
        corner = (self.side - REGION) // 2
        return {"topleft": {"x": corner, "y": corner}, "dimensions": {"x": REGION, "y": REGION}}

    def pixels(self, numbers: NDArray[np.int64], first: int = 0, size: int = 0) -> NDArray[np.uint16]:
        """Images as [image, row, column]: the square of `size` pixels from (first, first) on, 0 is the whole image."""
        distance = np.arange(first, first + (size or self.side)) - self.side / 2
        profile = np.exp(-4 * np.log(2) / REGION**2 * distance**2)
        intensity = (PEAK * profile)[:, np.newaxis] * profile
        scale = 1.0 + GROWTH * numbers[:, np.newaxis, np.newaxis]
        made: NDArray[np.uint16] = np.floor(intensity * scale + 0.5).clip(max=np.iinfo(np.uint16).max).astype(np.uint16)
        return made

    def rows(self) -> Rows:
        """Statistics of the region in each image."""
        made = np.empty(self.count, ROI_STATS_DTYPE)
        for start in range(0, self.count, CHUNK):
            numbers = np.arange(start, min(start + CHUNK, self.count))
            part = self.pixels(numbers, (self.side - REGION) // 2, REGION).reshape(len(numbers), -1)
            rows = made[start : start + CHUNK]
            rows["min"], rows["max"], rows["sum"] = part.min(axis=1), part.max(axis=1), part.sum(axis=1)
            rows["avg"], rows["std"] = part.mean(axis=1), part.std(axis=1)
        return made


def misplaced(found: Rows, expected: Rows) -> int:
    """How many rows are not those of frames 0, 1, ... in this order; raises DataLossError for one of no image."""
    shown = np.searchsorted(expected["sum"], found["sum"]).clip(max=len(expected) - 1)
    for name in ("min", "max", "avg", "std", "sum"):
        wrong = np.flatnonzero(~np.isclose(found[name], expected[name][shown], rtol=1e-5, atol=0.0))
        if wrong.size:
            raise DataLossError(f"{name} of row {wrong[0]} is {found[name][wrong[0]]}, which no image of the run has")
    return int(np.count_nonzero(shown != np.arange(len(found)) % len(expected)))


class Devices:
    """The devices of one system, called directly and in the conductor's order (contract section 11.1)."""

    def __init__(self, control: Any, receivers: Sequence[Any], threads: ThreadPoolExecutor) -> None:
        self.control, self.receivers = control, receivers
        self._threads = threads
        self._uuid = ""

    def prepare(self, acquisition: Json, processing: Json) -> None:
        """Parameters and Prepare of a new run on all devices at once."""
        self._uuid = str(uuid.uuid1())
        text = json.dumps(acquisition).encode()
        jobs = [partial(self._prepare, self.control, {"acq_params": text})]
        for rank, receiver in enumerate(self.receivers):
            own = json.dumps({**processing, "saving": {**processing["saving"], "filename_rank": rank}}).encode()
            jobs.append(partial(self._prepare, receiver, {"acq_params": text, "proc_params": own}))
        self._at_once(jobs)

    def start(self) -> None:
        """Start on all devices at once."""
        self._at_once([partial(device.command_inout, "Start") for device in (self.control, *self.receivers)])

    def processing(self) -> list[Any]:
        """The processing devices of the run, one for each receiver."""
        where = [receiver.dev_name().split("/")[0] for receiver in self.receivers]
        return [self._proxy(f"{domain}/limaprocessing/{self._uuid}@{rank}") for rank, domain in enumerate(where)]

    def wait_end(self) -> None:
        """Return once all counts of the run are final; raises Lima2Error where it failed or does not end."""
        processing = self.processing()
        wait_for(lambda: all(device.read_attribute("is_finished").value for device in processing), "to finish")
        wait_for(lambda: {self._state(receiver) for receiver in self.receivers} == {State.IDLE}, "to be idle")
        for device in (*self.receivers, *processing):
            if (error := device.read_attribute("last_error").value) != "No error":
                raise Lima2Error(f"the run failed: {error}")

    def finish(self) -> None:
        """Forget the run, after its end; raises as `wait_end` does."""
        self.wait_end()
        self.control.command_inout("Close")
        for receiver in self.receivers:
            receiver.command_inout("erasePipeline", self._uuid)

    def _prepare(self, device: Any, attributes: dict[str, bytes]) -> None:
        device.ping()
        for name, text in attributes.items():
            device.write_attribute(name, text)
        device.command_inout("Prepare", self._uuid)

    def _proxy(self, name: str) -> Any:
        return proxy(f"{self.control.get_db_host()}:{self.control.get_db_port()}", name)

    def _at_once(self, jobs: Sequence[Callable[[], object]]) -> None:
        for future in [self._threads.submit(job) for job in jobs]:
            future.result()

    @staticmethod
    def _state(device: Any) -> State:
        return State(int(device.read_attribute("acq_state").value))


@contextmanager
def connected(system: System) -> Generator[Devices]:
    """The devices of a running system; what they refuse meanwhile is raised as Lima2Error."""
    control, *receivers = (proxy(system.tango_host, name) for name in (system.control, *system.receivers))
    with ThreadPoolExecutor(len(receivers) + 1, "bench-devices") as threads:
        try:
            yield Devices(control, receivers, threads)
        except tango.DevFailed as error:
            raise Lima2Error(f"a device refused: {error.args[0].desc}") from error


def proxy(tango_host: str, name: str) -> Any:
    return bounded(tango.DeviceProxy(f"tango://{tango_host}/{name}"), CALL)


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Return once the condition holds; raises Lima2Error where that takes longer than `END`."""
    deadline = time.monotonic() + END
    while not condition():
        if time.monotonic() > deadline:
            raise Lima2Error(f"the benchmark waited {END:g} s for the devices {what}, in vain: look at their logs")
        time.sleep(0.01)


def defaults(params: Params) -> Json:
    """A parameter set as clients send it: complete."""
    values: Json = json.loads(params.json_text())
    return values


def acquisition(images: Images, **acq: object) -> Json:
    """All parameters of the Simulator, as clients send them."""
    made = defaults(load("cameras", "simulator").params())
    made["acq"] |= acq
    made["det"] |= images.parameters()
    return made


def processing(images: Images) -> Json:
    """All parameters of the Legacy pipeline: one region, nothing saved."""
    made = defaults(pipelines()[PIPELINE].params())
    made["statistics"]["rect_rois"] = [images.region()]
    made["saving"]["enabled"] = False
    return made


@dataclass(frozen=True, slots=True)
class Case:
    side: int
    """Of a frame [pixel]."""
    goal: int
    """[frame/s]"""

    @property
    def images(self) -> Images:
        return Images(self.side, MEMORY // (2 * self.side**2))


CASES = (Case(256, 20_000), Case(64, 60_000))


def measure(short: bool, tell: Tell) -> list[Row]:
    """Two rows: frames of 256x256 and of 64x64 pixels, three runs of each (one in short form), on two cores."""
    repeats = 1 if short else REPEATS
    with folder_in_memory(0) as folder, pinned(2):
        with System(CONFIG, folder / "system") as system:
            system.wait_ready(READY)
            with connected(system) as devices:
                benches = [Bench(case, case.images.rows(), devices) for case in CASES]
                for turn in range(repeats):
                    for bench in benches:
                        tell(f"frames of {bench.case.side}x{bench.case.side}, run {turn + 1} of {repeats}")
                        bench.run(SHORT if short else LONG)
    return [bench.row() for bench in benches]


class Bench:
    """The runs of one case."""

    def __init__(self, case: Case, expected: Rows, devices: Devices) -> None:
        self.case, self.lost = case, 0
        self._expected, self._devices = expected, devices
        self._rates: list[float] = []
        self._gaps: list[float] = []
        """From one pop to the next [s]."""

    def run(self, seconds: float) -> None:
        """As many frames as the goal asks for in this time."""
        frames, devices = int(self.case.goal * seconds), self._devices
        images = self.case.images
        devices.prepare(acquisition(images, nb_frames=frames, expo_time=1, latency_time=0), processing(images))
        (device,) = devices.processing()
        begin = time.monotonic()
        devices.start()
        moments, chunks = zip(*_pops(device, frames), strict=True)
        self._rates.append(sum(map(len, chunks)) / (moments[-1] - begin))
        self._gaps += np.diff([begin, *moments]).tolist()
        devices.wait_end()
        rows = np.concatenate([*chunks, _pop(device)])  # a frame that came twice would still be there
        self.lost += _uncounted(device, devices.receivers[0], frames) + lost_rows(rows, frames, self._expected)
        devices.finish()

    def row(self) -> Row:
        rate, goal, side = float(np.median(self._rates)), self.case.goal, self.case.side
        what = f"frames/s with one region, {side}x{side}"
        cores = len(os.sched_getaffinity(0))
        detail = (
            f"{side}x{side} on {min(cores, 2)} cores: {', '.join(f'{each:.0f}' for each in self._rates)} frames/s, "
        )
        detail += f"popped each {np.median(self._gaps) * 1e3:.0f} ms, at most {max(self._gaps) * 1e3:.0f} ms apart; "
        detail += "the reference is the goal itself"
        return Row("P4", what, rate, goal, "frames/s", rate / goal, 1.0, self.lost, len(self._rates), detail)


def _pops(device: Any, frames: int) -> Iterator[tuple[float, Rows]]:
    """When a pop was answered (monotonic) and what it brought, until all frames are there or no more can come."""
    got, due = 0, time.monotonic()
    deadline = due + END
    while got < frames:
        if (now := time.monotonic()) > deadline:
            raise Lima2Error(f"only {got} of {frames} rows came within {END:g} s")
        due = max(due + INTERVAL, now)
        time.sleep(due - now)
        last = bool(device.read_attribute("is_finished").value)  # asked before the pop: what comes after it is complete
        rows = _pop(device)
        got += len(rows)
        yield time.monotonic(), rows
        if last:
            return


def _pop(device: Any) -> Rows:
    rows: Rows = structured_array.decode(device.command_inout("popRoiStatistics"), ROI_STATS_DTYPE)
    return rows


def lost_rows(rows: Rows, frames: int, expected: Rows) -> int:
    """Rows missing, doubled or out of order; raises DataLossError where one holds other values than it must."""
    numbered = np.count_nonzero(rows["frame_idx"] != np.arange(len(rows)))
    return abs(frames - len(rows)) + max(int(numbered), misplaced(rows, expected))


def _uncounted(device: Any, receiver: Any, frames: int) -> int:
    """By how much the device's counts differ from the frames that were asked for."""
    counts = json.loads(device.read_attribute("progress_counters").value)
    taken = [counts[f"nb_frames_{name}"] for name in ("source", "input", "processed")]
    return sum(abs(count - frames) for count in (*taken, int(receiver.read_attribute("nb_frames_xferred").value)))
