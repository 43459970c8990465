"""`lima2 plan`: how many receivers and hosts a detector needs, and where the bottleneck is."""

import json
import os
import signal
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import psutil
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from lima2_tango.control.scaling import Answer, Host, Need, Rates, answer
from lima2_tango.core.acquisition import Sharing
from lima2_tango.core.errors import Lima2Error, ParamError
from lima2_tango.core.frame import PixelType
from lima2_tango.core.storage import Compression
from lima2_tango.core.units import bytes_text

from . import rates as measuring
from .acquiring import BAD_INPUT, FAILED
from .demand import Demand, Given, demand
from .process import LaunchError

EXAMPLES = """Example: lima2 plan config/simulator.yaml

Example: lima2 plan --width 4096 --height 4096 --pixel gray16 --rate 2000 --cores 64 --memory 512 --nic 100 --disk 4

Example: lima2 plan config/simulator.yaml --rate 500 --rates bench.json --json
"""
GIGABIT, GIGABYTE, GIBIBYTE = 1e9 / 8, 1e9, 1 << 30

Config = Annotated[Path | None, typer.Argument(help="A system as `lima2 up` takes it; else describe the detector.")]
Width = Annotated[int | None, typer.Option(min=1, help="Columns of a frame [pixel].")]
Height = Annotated[int | None, typer.Option(min=1, help="Rows of a frame [pixel].")]
Pixel = Annotated[PixelType | None, typer.Option(help="Type of a pixel; gray16 where nothing says it.")]
Rate = Annotated[float | None, typer.Option(help="Frames a second.")]
Topology = Annotated[Sharing | None, typer.Option(help="How receivers share the detector.")]
Packing = Annotated[Compression | None, typer.Option(help="How frames are saved: bshuf_lz4 or none.")]
Photons = Annotated[float, typer.Option(min=0, max=10_000, help="Mean of a pixel in the frames measured with.")]
Cores = Annotated[int | None, typer.Option(min=1, help="Cores of a host; this machine's where not given.")]
Memory = Annotated[float | None, typer.Option(help="Memory of a host [GiB]; this machine's where not given.")]
Nic = Annotated[float | None, typer.Option(help="Network of a host [Gbit/s]; this machine's where it tells.")]
Disk = Annotated[float | None, typer.Option(help="What a host writes [GB/s]; measured in --folder where not given.")]
Folder = Annotated[Path, typer.Option(help="Where the disk is measured.")]
PerHost = Annotated[int | None, typer.Option(min=1, help="Receivers on a host; CONFIG's number, or 1.")]
Workers = Annotated[int | None, typer.Option(min=0, help="Threads of a receiver; 0 for its share of the cores.")]
Buffer = Annotated[float, typer.Option(help="Frames of so long have to find room in memory [s].")]
RatesFile = Annotated[Path | None, typer.Option("--rates", help="Measured before: JSON of this command, or of bench.")]
Check = Annotated[bool, typer.Option("--check", help="Compare the model with runs of one and two receivers here.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def plan(
    config: Config = None,
    width: Width = None,
    height: Height = None,
    pixel: Pixel = None,
    rate: Rate = None,
    topology: Topology = None,
    compression: Packing = None,
    photons: Photons = 1.0,
    cores: Cores = None,
    memory: Memory = None,
    nic: Nic = None,
    disk: Disk = None,
    folder: Folder = Path(),
    receivers_per_host: PerHost = None,
    workers: Workers = None,
    buffer: Buffer = 1.0,
    rates: RatesFile = None,
    check: Check = False,
    as_json: AsJson = False,
) -> None:
    """Say how many receivers and hosts a detector needs, and where the bottleneck is.

    What one core of this machine compresses, copies and writes is measured in a few seconds; a model adds up the times
    of a frame (docs/explanations/scaling.md). All hosts are taken to be alike, and their cores like this machine's.
    Exit codes: 0 answered, 1 --check found the model off by more than 20 %, 2 refused.
    """
    if check:
        _check(as_json)
        return
    try:
        _positive({"--rate": rate, "--memory": memory, "--nic": nic, "--disk": disk, "--buffer": buffer})
        wanted = demand(config, Given(width, height, pixel, rate, topology, compression), buffer)
        known = _rates(wanted, photons, rates, folder if disk is None else None)
        host = _host(wanted, known, (cores, memory, nic, disk), receivers_per_host, workers)
    except Lima2Error as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(BAD_INPUT) from error
    found = answer(wanted.detector, host, known)
    if as_json:
        typer.echo(json.dumps(_document(wanted, host, known, found), indent=2))
    else:
        _show(wanted, host, known, found)


def _positive(options: dict[str, float | None]) -> None:
    for name, value in options.items():
        if value is not None and not 0 < value < float("inf"):
            raise ParamError(name, value, "give a number above 0")


def _rates(wanted: Demand, photons: float, file: Path | None, folder: Path | None) -> Rates:
    if file is not None:
        return measuring.read_rates(file)
    if folder is not None and not folder.is_dir():
        raise ParamError("--folder", str(folder), "there is no such folder: name one, or say --disk")
    dtype = wanted.pixel.dtype
    limit = np.iinfo(dtype).max if np.issubdtype(dtype, np.integer) else float("inf")
    if photons > limit / 2:
        raise ParamError("--photons", photons, f"{wanted.pixel} has no room for so many: at most {limit // 2}")
    with _bar(len(measuring.STEPS) + (folder is not None)) as tell:
        tell(measuring.STEPS[0])
        return measuring.measure(measuring.poisson(photons, dtype), folder, tell)


def _host(
    wanted: Demand,
    known: Rates,
    given: tuple[int | None, float | None, float | None, float | None],
    receivers: int | None,
    workers: int | None,
) -> Host:
    """As the options say, and what they do not say as this machine is."""
    cores, memory, nic, disk = given
    return Host(
        cores=cores or len(os.sched_getaffinity(0)),
        memory=int(memory * GIBIBYTE) if memory else psutil.virtual_memory().total,
        network=nic * GIGABIT if nic else _network(),
        disk=disk * GIGABYTE if disk else known.disk,
        receivers=receivers or wanted.receivers or 1,
        workers=wanted.workers if workers is None else workers,
    )


def _network() -> float:
    """The fastest network of this machine that tells its speed [byte/s]; 0 where none does."""
    cards = [card for name, card in psutil.net_if_stats().items() if card.isup and name != "lo"]
    return max((card.speed for card in cards), default=0) * 1e6 / 8


@contextmanager
def _bar(steps: int) -> Generator[measuring.Tell]:
    """A progress bar on stderr that goes on with each step."""
    columns = (BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=steps)
        begun: list[str] = []

        def tell(what: str) -> None:
            progress.update(task, description=escape(what), completed=len(begun))
            begun.append(what)

        yield tell


def _document(wanted: Demand, host: Host, known: Rates, found: Answer) -> dict[str, Any]:
    return {
        "name": wanted.name,
        "detector": {**asdict(wanted.detector), "pixel": str(wanted.pixel), "bytes_per_second": wanted.detector.flow},
        "host": {**asdict(host), "threads": host.threads},
        "rates": measuring.as_json(known),
        "needs": [asdict(need) for need in found.needs],
        "bottleneck": found.bottleneck,
        "receivers": found.receivers,
        "hosts": found.hosts,
        "configured": wanted.receivers or None,
        "enough": _enough(wanted, found),
    }


def _enough(wanted: Demand, found: Answer) -> bool | None:
    """The receivers that the configuration has; None where there is none."""
    if not wanted.receivers:
        return None
    return found.receivers is not None and found.receivers <= wanted.receivers


def _show(wanted: Demand, host: Host, known: Rates, found: Answer) -> None:
    console, detector = Console(), wanted.detector
    console.print(
        f"{escape(wanted.name)}: {detector.width} x {detector.height} {wanted.pixel} at {detector.rate:.6g} frames/s, "
        f"{bytes_text(detector.flow)}/s, {detector.sharing}; hosts of {host.cores} cores with {host.receivers} "
        f"receiver{'s' * (host.receivers > 1)} of {host.threads} thread{'s' * (host.threads > 1)}",
        soft_wrap=True,
    )
    table = Table("resource", "needed", "one receiver gives", "receivers", "")
    for need in found.needs:
        mark = "bottleneck" if need.resource == found.bottleneck else ""
        table.add_row(need.resource, _amount(need.need, need.unit), *_given(need), mark)
    console.print(table)
    console.print(_verdict(wanted, host, found), soft_wrap=True)
    console.print(
        f"Rates: one core compresses {bytes_text(known.compress)}/s to {known.ratio:.2f} of its size and keeps "
        f"{known.together:.0%} of that while all compress, copies {bytes_text(known.copy)}/s, hands over "
        f"{bytes_text(known.write)}/s of files.",
        soft_wrap=True,
    )


def _given(need: Need) -> tuple[str, str]:
    if need.gives is None:
        return "not known", "?"
    return _amount(need.gives, need.unit), "none is enough" if need.receivers is None else str(need.receivers)


def _amount(value: float, unit: str) -> str:
    if unit == "frames/s":
        return f"{value:.4g} {unit}"
    return bytes_text(value) + ("/s" if unit == "byte/s" else "")


def _verdict(wanted: Demand, host: Host, found: Answer) -> str:
    unknown = [need.resource for need in found.needs if need.gives is None]
    beside = f" Not counted, for want of a figure: {', '.join(unknown)} (give --nic or --disk)." if unknown else ""
    if found.receivers is None:
        return f"No number of such receivers is enough: {found.bottleneck} stands in the way.{beside}"
    needed = f"{found.receivers} receiver{'s' * (found.receivers > 1)} on {found.hosts} host{'s' * (found.hosts != 1)}"
    text = f"It takes {needed}; the bottleneck is {found.bottleneck}."
    if (enough := _enough(wanted, found)) is not None:
        text += f" The configuration has {wanted.receivers}: {'enough' if enough else 'too few'}."
    return text + beside


def _check(as_json: bool) -> None:
    """The model against runs of this machine; raises LaunchError where it is off."""
    try:
        from .bench import model
        from .bench.row import document, table  # what they need is an extra
    except ModuleNotFoundError as error:
        raise LaunchError(f"the check needs {error.name}: pip install 'lima2_tango[mpich,demo]'") from error
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))  # unwinds: the system is stopped
    console = Console(stderr=True)
    with console.status("starting") as status:
        rows = model.measure(False, lambda text: status.update(text))
    if as_json:
        typer.echo(json.dumps(document(rows), indent=2))
    else:
        Console().print(table(rows))
    if not all(row.met for row in rows):
        raise typer.Exit(FAILED)
