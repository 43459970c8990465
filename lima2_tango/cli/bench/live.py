"""P8: how soon people see rows and frames, and how long they wait for the next run; each against a bare server.

The bare servers are processes of their own, as ours are: `python -m lima2_tango.cli.bench.live` is the bare device.
"""

import json
import sys
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tango
import tango.server
from lima2.client.exceptions import ConductorConnectionError
from lima2.client.services import AcquisitionSuccess, ConductorServices, init
from lima2.client.session import RetryHTTPAdapter
from lima2.common.devencoded import data_array
from lima2.conductor.webservice.benchmark_generators.rois import roi_stats_dtype, roi_stats_generator
from numpy.typing import NDArray
from requests import PreparedRequest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

from lima2_tango.cli.demo.acquire import CONDUCTOR_ERRORS
from lima2_tango.cli.process import Child, environment, free_port
from lima2_tango.cli.system import System
from lima2_tango.client.database import DeviceEntry, register, wait_for_devices
from lima2_tango.core.errors import DataLossError, Lima2Error

from .rig import READY, Json, configuration, folder_in_memory
from .row import Row, Tell
from .small import END, Devices, Images, acquisition, connected, misplaced, processing, proxy

REPEATS = 3
BARE = "lima2/bench/bare"
MADE = "lima2/bench/made"
SERVER, INSTANCE = "lima2_bench", "bare"
FIRST_ANSWER = 20.0
"""Within this a bare server answers after its start [s]."""


def measure(short: bool, tell: Tell) -> list[Row]:
    """Three rows on one system of two receivers: ROI rows, frames, and prepare with start."""
    with folder_in_memory(0) as folder:
        with System(configuration(), folder / "system") as system:
            system.wait_ready(READY)
            try:
                rows = [_streamed(system, short, tell)]
            except CONDUCTOR_ERRORS as error:
                raise Lima2Error(f"the conductor, or the app in its place, says: {error}") from error
            system.stop_conductor()  # from here on the devices are called directly
            with connected(system) as devices, bare_device(system) as bare:
                rows.append(_shown(devices, bare, short, tell))
                rows.append(_prepared(devices, bare, folder / "frames", short, tell))
    return rows


@dataclass(slots=True)
class Sides:
    """What was measured of ours and of the reference, turn by turn."""

    ours: list[float] = field(default_factory=list)
    reference: list[float] = field(default_factory=list)
    lost: int = 0

    def medians(self) -> tuple[float, float]:
        return float(np.median(self.ours)), float(np.median(self.reference))


# (a) rows of a region through the conductor

STREAMED = Images(256, 1024)
SHORT_ROWS, LONG_ROWS = (20_000, 6_000), (60_000, 16_000)
"""Of ours, and of the reference."""


def _streamed(system: System, short: bool, tell: Tell) -> Row:
    """From the start of a run flat out to its last row at the client, beside what the client reads of a bare app."""
    client, expected, sides = client_of(system.config.listen, system.conductor_port), STREAMED.rows(), Sides()
    frames, rows = SHORT_ROWS if short else LONG_ROWS
    parameters = acquisition(STREAMED, nb_frames=frames, expo_time=1, latency_time=0)
    with bare_app(system) as app:
        for turn in range(1 if short else REPEATS):
            tell(f"ROI rows, turn {turn + 1}")
            sent, speed = read_rows(app, str(rows), rows, time.monotonic())
            sides.reference.append(speed)
            sides.lost += abs(rows - len(sent))
            client.acquisition.prepare(control=parameters, receiver=parameters, processing=processing(STREAMED))
            begin = time.monotonic()
            client.acquisition.start()
            found, speed = read_rows(client, "current", frames, begin)
            sides.ours.append(speed)
            sides.lost += abs(frames - len(found)) + misplaced(found, expected)
            _check_end(client, frames)
    ours, reference = sides.medians()
    detail = f"runs of {frames} frames of 256x256 as fast as they come; the reference sends {rows} rows one by one"
    what = "ROI rows through the conductor"
    return Row("P8", what, ours, reference, "rows/s", ours / reference, 0.5, sides.lost, len(sides.ours), detail)


def read_rows(client: ConductorServices, run: str, most: int, begin: float) -> tuple[NDArray[np.void], float]:
    """The first region's rows in order, and how many came a second from `begin` (monotonic) to the last one.

    Raises Lima2Error where they are more than `most`, or not complete within `END`.
    """
    chunks, rows, last = [], 0, begin
    for chunk in client.pipeline.reduced_data("roi_stats", 0, uuid=run):
        chunks.append(chunk)
        rows, last = rows + len(chunk), time.monotonic()
        if rows > most or last - begin > END:
            raise Lima2Error(f"{rows} rows of {most} were read in {last - begin:.0f} s, and they have not ended")
    if not rows:
        raise DataLossError("the stream of ROI statistics ended before its first row")
    return np.concatenate(chunks), rows / (last - begin)


def _check_end(client: ConductorServices, frames: int) -> None:
    """Raises Lima2Error where the run does not end well, DataLossError where it counts other frames."""
    deadline = time.monotonic() + END
    while client.acquisition.running() or client.pipeline.running():
        if time.monotonic() > deadline:
            raise Lima2Error(f"the run had not ended {END:g} s after its last row")
        time.sleep(0.02)
    if not isinstance(result := client.acquisition.result(), AcquisitionSuccess):
        raise Lima2Error(f"the run failed: {result}")
    if (counted := client.pipeline.progress()) != frames:
        raise DataLossError(f"the run had {frames} frames, and {counted} are counted")


def rows_app() -> Starlette:
    """What the client asks a conductor for when it reads ROI rows, from the generator of its own benchmark."""

    def channels(request: Request) -> JSONResponse:
        return JSONResponse({"roi_stats": [{"dtype": roi_stats_dtype.descr, "shape": ()}]})

    def rows(request: Request) -> StreamingResponse:
        made = roi_stats_generator(num_frames=request.path_params["rows"], num_rois=1, seed=1)
        return StreamingResponse(made, media_type="application/octet-stream")

    run = "/pipeline/{rows:int}/reduced_data"
    return Starlette(routes=[Route(run, channels), Route(run + "/roi_stats/0", rows)])


@contextmanager
def bare_app(system: System) -> Generator[ConductorServices]:
    """A client of `rows_app`, which runs meanwhile."""
    host = system.config.listen
    port = free_port(host)
    app = [f"{__name__}:rows_app", "--factory", "--host", host, "--port", str(port)]
    command = [sys.executable, "-m", "uvicorn", *app]
    child = Child("the bare app", command, environment(), system.folder / "logs" / "bare_app.log")
    try:
        client = client_of(host, port)
        _await(child, client)
        yield client
    finally:
        child.stop()


def _await(child: Child, client: ConductorServices) -> None:
    deadline = time.monotonic() + FIRST_ANSWER
    while True:
        try:
            client.pipeline.reduced_data_channels(uuid="0")
            return
        except ConductorConnectionError as error:
            child.check()
            if time.monotonic() > deadline:
                raise Lima2Error(f"{child.name} did not answer within {FIRST_ANSWER:g} s: see {child.log}") from error
            time.sleep(0.05)


class Impatient(RetryHTTPAdapter):
    """Gives up where a server says nothing for `END`; the client alone would wait for ever."""

    def send(self, request: PreparedRequest, *args: Any, **kwargs: Any) -> Any:
        return super().send(request, *args, **{**kwargs, "timeout": END})


def client_of(host: str, port: int) -> ConductorServices:
    """The client's services, none of which waits for ever."""
    client = init(host, port)
    client.session.session.mount("http://", Impatient())
    return client


# (b) frames, as soon as they are made

SHOWN = Images(512, 64)
PERIOD = 0.01
"""From one trigger to the next [s]."""
SLACK = 5e-3
"""What ours may take longer than the bare device and one period [s]."""
EXPOSURE = 1
"""A frame is complete this long after its trigger [us]."""
UNTIMED = 5
"""Frames that belong to the start of a run."""
LATEST = 10.0
"""A frame that has not come this long after its trigger is lost [s]."""
PAUSE = 1e-3
"""Between a frame that is not there yet and the next question [s]."""
SHORT_FRAMES, LONG_FRAMES = 150, 500


def _shown(devices: Devices, bare: Any, short: bool, tell: Tell) -> Row:
    """From before the call of Trigger, when the frame cannot exist, to its pixels at the client."""
    sides, images = Sides(), np.concatenate([SHOWN.pixels(np.array([k])) for k in range(SHOWN.count)])
    count = UNTIMED + (SHORT_FRAMES if short else LONG_FRAMES)
    parameters = acquisition(SHOWN, nb_frames=count, expo_time=EXPOSURE, trigger_mode="software")
    for turn in range(1 if short else REPEATS):
        tell(f"frames, turn {turn + 1}")
        devices.prepare(parameters, processing(SHOWN))
        devices.start()
        getters = devices.processing()
        shown = [_show(devices.control, getters[index % len(getters)], index, images) for index in paced(count)]
        bare.command_inout("keep", getters[0].command_inout("getFrame", -1))
        sides.lost += abs(count - counted(getters))
        devices.finish()
        sides.ours.append(_p99(shown))
        sides.reference.append(_p99([_fetch(bare, index) for index in paced(count)]))
    ours, reference = sides.medians()
    allowed = reference + (PERIOD + SLACK) * 1e3
    detail = f"from Trigger to the pixels of 512x512 gray16, {count - UNTIMED} frames a run; with a period of "
    detail += f"{PERIOD * 1e3:g} ms and {SLACK * 1e3:g} ms more the reference allows {allowed:.1f} ms"
    what = "frame made to getFrame, 99 %"
    return Row("P8", what, ours, reference, "ms", allowed / ours, 1.0, sides.lost, len(sides.ours), detail)


def paced(count: int) -> Iterator[int]:
    """Numbers from 0 on, one each `PERIOD`; one that comes late does not delay the next."""
    begin = time.monotonic()
    for index in range(count):
        time.sleep(max(0.0, begin + index * PERIOD - time.monotonic()))
        yield index


def _show(control: Any, getter: Any, index: int, images: NDArray[np.uint16]) -> float:
    """How long a frame takes from its trigger to us [s]; raises DataLossError where it does not come as it must."""
    begin = time.monotonic()
    control.command_inout("Trigger")
    encoded = _frame(getter, index, begin + LATEST)
    seconds = time.monotonic() - begin - EXPOSURE * 1e-6
    check_frame(encoded, index, images)
    return seconds


def _frame(getter: Any, index: int, deadline: float) -> tuple[str, bytes]:
    while True:
        try:
            encoded: tuple[str, bytes] = getter.command_inout("getFrame", index)
            return encoded
        except tango.DevFailed as error:  # not made yet
            if time.monotonic() > deadline:
                raise DataLossError(f"frame {index} was triggered and never came: {error.args[0].desc}") from error
            time.sleep(PAUSE)


def check_frame(encoded: tuple[str, bytes], index: int, images: NDArray[np.uint16]) -> None:
    """Raises DataLossError for a frame that is not number `index` with the pixels of its image."""
    frame = data_array.decode(encoded)
    if frame.idx != index or not np.array_equal(frame.data[0], images[index % len(images)]):
        raise DataLossError(f"asked for frame {index}, the device gave frame {frame.idx} or other pixels")


def counted(devices: Sequence[Any]) -> int:
    """Frames that the processing devices of a run have counted."""
    return sum(json.loads(each.read_attribute("progress_counters").value)["nb_frames_processed"] for each in devices)


def _fetch(bare: Any, index: int) -> float:
    begin = time.monotonic()
    bare.command_inout("getFrame", index)
    return time.monotonic() - begin


def _p99(seconds: Sequence[float]) -> float:
    """99 % of all but the untimed are faster than this [ms]."""
    return float(np.percentile(seconds[UNTIMED:], 99)) * 1e3


# (c) the next run

PREPARED = Images(256, 16)
RUN = 10
"""Frames of a run."""
PINGS = 20
LATER = 20.0
"""What ours may take longer than the reference [ms]."""
SHORT_TURNS, LONG_TURNS = 5, 25


def _prepared(devices: Devices, bare: Any, folder: Path, short: bool, tell: Tell) -> Row:
    """Prepare and Start of runs that are not the first, beside what only Tango's part of one device takes."""
    sides, parameters, turns = Sides(), processing(PREPARED), (SHORT_TURNS if short else LONG_TURNS)
    tell(f"prepare and start, {turns} turns")
    for turn in range(turns + 1):
        parameters["saving"] |= {"enabled": True, "base_path": str(folder), "filename_prefix": f"run{turn}"}
        ours, lost = _prepare_and_start(devices, parameters)
        reference = _make_and_delete(bare)
        if turn:  # the first run makes the images, and loads what is loaded at first use
            sides.ours.append(ours * 1e3)
            sides.reference.append(reference * 1e3)
        sides.lost += lost
    ours, reference = sides.medians()
    detail = (
        f"control and {len(devices.receivers)} receivers, which save, worst {max(sides.ours):.1f} ms; the reference "
    )
    detail += f"makes and deletes one device and pings it {PINGS} times, and {LATER:g} ms more are allowed"
    what = "prepare and start, second run"
    return Row("P8", what, ours, reference, "ms", (reference + LATER) / ours, 1.0, sides.lost, turns, detail)


def _prepare_and_start(devices: Devices, parameters: Json) -> tuple[float, int]:
    """Seconds, and frames that the run lost."""
    begin = time.monotonic()
    devices.prepare(acquisition(PREPARED, nb_frames=RUN, expo_time=1000), parameters)
    devices.start()
    seconds = time.monotonic() - begin
    devices.wait_end()
    lost = abs(RUN - counted(devices.processing()))
    devices.finish()
    return seconds, lost


def _make_and_delete(bare: Any) -> float:
    """Seconds."""
    begin = time.monotonic()
    bare.command_inout("make", MADE)
    bare.command_inout("delete", MADE)
    for _ in range(PINGS):
        bare.ping()
    return time.monotonic() - begin


class Bare(tango.server.Device):  # type: ignore[misc]  # pytango has no types
    """The least that a device can do: hand out bytes that it was given, make and delete devices."""

    kept: tuple[str, bytearray] = ("", bytearray())

    @tango.server.command(dtype_in="DevEncoded")  # type: ignore[untyped-decorator]
    def keep(self, encoded: tuple[str, bytes]) -> None:
        kind, data = encoded
        self.kept = (kind, bytearray(data))  # pytango hands a bytearray on without a copy more

    @tango.server.command(dtype_in=int, dtype_out="DevEncoded")  # type: ignore[untyped-decorator]
    def getFrame(self, index: int) -> tuple[str, bytearray]:  # noqa: N802 - as ours is called
        return self.kept

    @tango.server.command(dtype_in=str)  # type: ignore[untyped-decorator]
    def make(self, name: str) -> None:
        tango.Util.instance().create_device("Bare", name)

    @tango.server.command(dtype_in=str)  # type: ignore[untyped-decorator]
    def delete(self, name: str) -> None:
        tango.Util.instance().delete_device("Bare", name)


@contextmanager
def bare_device(system: System) -> Generator[Any]:
    """A proxy of a bare device in the system's database, which runs meanwhile."""
    register(system.tango_host, [DeviceEntry(BARE, "Bare", f"{SERVER}/{INSTANCE}")])
    command = [sys.executable, "-m", __name__, "-ORBendPoint", f"giop:tcp:{system.config.listen}:"]
    surroundings = environment(TANGO_HOST=system.tango_host)
    child = Child("the bare device", command, surroundings, system.folder / "logs" / "bare_device.log")
    try:
        wait_for_devices(system.tango_host, [BARE], FIRST_ANSWER, child.check)
        yield proxy(system.tango_host, BARE)
    finally:
        child.stop()


if __name__ == "__main__":
    tango.server.run((Bare,), args=[SERVER, INSTANCE, *sys.argv[1:]])
