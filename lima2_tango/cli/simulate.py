"""`lima2 simulate`: a detector that is not there."""

import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from lima2_tango.core.errors import ParamError
from lima2_tango.core.units import bytes_text

from .process import LaunchError

if TYPE_CHECKING:
    from lima2_tango.simulators.dectris.frames import Source
    from lima2_tango.simulators.dectris.server import SimulatedDetector

EXAMPLES = """Example: lima2 simulate dectris

Example: lima2 simulate dectris --model eiger2-16m --port 8080 --flat-out

Example: lima2 simulate dectris --model pilatus4-1m --rate 500 --drop 10,20-22 --no-end

Example: lima2 simulate dectris --frames scan_master.h5 --frames more.cbf
"""
LOOK = 1.0
"""Between two looks at the counts [s]."""
VERSIONS = ("1.6.0", "1.7.0", "1.8.0")

app = typer.Typer(no_args_is_help=True, help="Simulate a detector over its own protocol, or a beamline.")

Model = Annotated[str, typer.Option(help="eiger2-500k, -1m, -4m, -9m, -16m, or pilatus4-1m, -2m, -4m.")]
Address = Annotated[str, typer.Option(help="Where to listen; 0.0.0.0 lets other computers in, and nobody is asked.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="REST interface; 80 on a real detector. 0 takes a free one.")]
StreamPort = Annotated[int, typer.Option(min=0, max=65535, help="Stream 2 (CBOR).")]
LegacyPort = Annotated[int, typer.Option(min=0, max=65535, help="Legacy stream.")]
Version = Annotated[str, typer.Option("--api-version", help=f"Version in the paths: {', '.join(VERSIONS)}.")]
Rate = Annotated[float, typer.Option(min=0, help="Images a second; 0 goes by the parameter frame_time.")]
FlatOut = Annotated[bool, typer.Option("--flat-out", help="Images as fast as receivers take them.")]
Mean = Annotated[float, typer.Option(min=0.01, max=200, help="Photons in a pixel, where no frames are given.")]
Frames = Annotated[
    list[Path] | None, typer.Option(help="Images to show: HDF5, CBF, EDF or TIFF; may be repeated. Sets the size.")
]
Distinct = Annotated[int, typer.Option(min=1, help="Different images, made before the first is sent.")]
BitDepth = Annotated[int, typer.Option(help="8, 16 or 32 bits a pixel; 0 goes by the frame time, as a detector does.")]
Pulses = Annotated[float, typer.Option(min=0, help="Seconds between external triggers, where they are awaited; or 0.")]
Buffer = Annotated[int, typer.Option(min=0, help="Images that wait before more are dropped; 0 drops none.")]
Drop = Annotated[str, typer.Option(metavar="IMAGES", help="Numbers in each series, as 3,7-9: never sent.")]
Duplicate = Annotated[str, typer.Option(metavar="IMAGES", help="Sent twice.")]
Reorder = Annotated[str, typer.Option(metavar="IMAGES", help="Sent after the next.")]
WrongSeries = Annotated[str, typer.Option(metavar="IMAGES", help="Sent as of the series before.")]
Stall = Annotated[str, typer.Option(metavar="IMAGE:SECONDS", help="Send nothing for a while before an image.")]
NoEnd = Annotated[bool, typer.Option("--no-end", help="Never send the end of a series.")]
ErrorAt = Annotated[int, typer.Option(metavar="IMAGE", help="Break with this image: the state is error. -1: never.")]
HangUpAt = Annotated[
    int, typer.Option(metavar="IMAGE", help="Close the streams before this image; the next arm opens them. -1: never.")
]
RestErrors = Annotated[
    str, typer.Option("--rest-errors", metavar="ADDRESSES", help="Answered with HTTP 500, as command/arm,status/state.")
]
HighTemperature = Annotated[bool, typer.Option("--high-temperature", help="Be too warm.")]


@app.callback()
def simulate() -> None:
    """Simulate a detector that is not there, over the real one's protocol, or a beamline."""


@app.command(epilog=EXAMPLES)
def dectris(
    model: Model = "eiger2-1m",
    address: Address = "127.0.0.1",
    port: Port = 8080,
    stream_port: StreamPort = 31001,
    legacy_port: LegacyPort = 9999,
    api_version: Version = "1.8.0",
    rate: Rate = 0.0,
    flat_out: FlatOut = False,
    mean: Mean = 1.0,
    frames: Frames = None,
    distinct: Distinct = 16,
    bit_depth: BitDepth = 0,
    pulse_period: Pulses = 0.1,
    buffer: Buffer = 0,
    drop: Drop = "",
    duplicate: Duplicate = "",
    reorder: Reorder = "",
    wrong_series: WrongSeries = "",
    stall: Stall = "",
    no_end: NoEnd = False,
    error_at: ErrorAt = -1,
    hang_up_at: HangUpAt = -1,
    rest_errors: RestErrors = "",
    high_temperature: HighTemperature = False,
) -> None:
    """An EIGER2 or PILATUS4: the SIMPLON REST interface, the stream 2 and the legacy stream.

    It begins in state na, as a detector that was just switched on: initialize it, enable its stream, arm, trigger. Its
    images are rings of powder with the noise of photons, or those of files. Ctrl-C ends it.
    """
    try:
        from lima2_tango.simulators.dectris.faults import Faults, keys_of, numbers_of, stall_of
        from lima2_tango.simulators.dectris.models import find_model
        from lima2_tango.simulators.dectris.options import Options
        from lima2_tango.simulators.dectris.server import SimulatedDetector
    except ModuleNotFoundError as error:
        raise LaunchError(f"the simulator needs {error.name}: pip install 'lima2_tango[dectris]'") from error
    _check(api_version, bit_depth)
    faults = Faults(
        drop=numbers_of("--drop", drop),
        duplicate=numbers_of("--duplicate", duplicate),
        reorder=numbers_of("--reorder", reorder),
        wrong_series=numbers_of("--wrong-series", wrong_series),
        stall=stall_of(stall),
        no_end=no_end,
        error_at=error_at if error_at >= 0 else None,
        hang_up_at=hang_up_at if hang_up_at >= 0 else None,
        rest_errors=keys_of("--rest-errors", rest_errors),
        high_temperature=high_temperature,
    )
    options = Options(api_version, distinct, rate, flat_out, pulse_period, buffer, bit_depth, faults)
    source, console = _source(frames or [], mean, distinct), Console(stderr=True)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with SimulatedDetector(find_model(model), options, address, port, (stream_port, legacy_port), source) as it:
            _introduce(it)
            _watch(it, console)
    except KeyboardInterrupt:
        console.print("ended")


def _check(api_version: str, bit_depth: int) -> None:
    if api_version not in VERSIONS:
        raise ParamError("--api-version", api_version, f"choose one of {', '.join(VERSIONS)}")
    if bit_depth not in {0, 8, 16, 32}:
        raise ParamError("--bit-depth", bit_depth, "choose 8, 16 or 32, or 0")


def _source(files: list[Path], mean: float, distinct: int) -> "Source":
    from lima2_tango.simulators.dectris.frames import Powder, read_files

    return read_files(files, distinct) if files else Powder(mean)


def _introduce(detector: "SimulatedDetector") -> None:
    """Where it listens, for people and for programs that start it."""
    stream2, legacy = detector.stream_ports
    readout = detector.detector.model.full
    typer.echo(f"{detector.detector.model.description}, {readout.width} x {readout.height} pixels")
    typer.echo(f"REST interface  {detector.url}")
    typer.echo(f"stream 2        tcp://{detector.address}:{stream2}")
    typer.echo(f"legacy stream   tcp://{detector.address}:{legacy}")


def _watch(detector: "SimulatedDetector", console: Console) -> None:
    """Say what it does until Ctrl-C: one line that changes, or a line for each change where nobody looks."""
    if console.is_terminal:
        with console.status("") as status:
            _tell(detector, status.update)
    _tell(detector, _OnChange(console))


def _tell(detector: "SimulatedDetector", tell: Callable[[str], None]) -> None:
    images, nbytes, then = 0, 0, time.monotonic()
    while True:
        time.sleep(LOOK)
        counts, now = detector.counts, time.monotonic()
        rate, bandwidth = (counts.images - images) / (now - then), (counts.nbytes - nbytes) / (now - then)
        images, nbytes, then = counts.images, counts.nbytes, now
        series = detector.detector.series
        about = f"series {series.number}, " if series else ""
        tell(
            f"{detector.detector.state}: {about}{rate:.0f} images/s, {bytes_text(bandwidth)}/s; "
            f"{images} images sent, {counts.dropped} dropped"
        )


class _OnChange:
    """Prints a line that differs from the one before."""

    def __init__(self, console: Console) -> None:
        self._console, self._last = console, ""

    def __call__(self, line: str) -> None:
        if line != self._last:
            self._console.print(line, soft_wrap=True)
        self._last = line


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
