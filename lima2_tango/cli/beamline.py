"""`lima2 simulate beamline`: a beamline that is not there, beside a system that runs."""

import math
import os
import re
from pathlib import Path
from typing import Annotated

import typer

from lima2_tango.core.errors import ParamError, StateError

from .names import DEVICE
from .rundir import NotUpError, find_system
from .up import Folder, Name

EXAMPLES = """Example: lima2 simulate beamline

Example: lima2 simulate beamline simulator --family id00/sample --limits -5 5 --velocity 2

Example: lima2 simulate beamline --tango-host localhost:10000 --control id00/limacontrol/simulator
"""
INSTANCE = "simulated"
PATIENCE = 3.0
"""How long the Tango database may take to answer [s]."""
HIGHEST_PORT = 65535
ADDRESS = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*:\d{1,5}")

TangoHost = Annotated[
    str | None,
    typer.Option(metavar="HOST:PORT", help="Tango database, in place of that of SYSTEM; TANGO_HOST where none is up."),
]
Family = Annotated[str, typer.Option(metavar="DOMAIN/FAMILY", help="What the names of the devices begin with.")]
Control = Annotated[
    str | None, typer.Option(metavar="DEVICE", help="Control whose runs the shutter follows; else that of SYSTEM.")
]
Limits = Annotated[tuple[float, float], typer.Option(metavar="LOW HIGH", help="Of the motor, in mm.")]
Velocity = Annotated[float, typer.Option(help="Of the motor, in mm/s.")]
WirePort = Annotated[
    int, typer.Option(min=1, max=65535, help="UDP port on this computer: the detector's det.trigger_port.")
]
Peak = Annotated[float, typer.Option(help="Position of the motor where the beam is brightest, in mm.")]
Fwhm = Annotated[float, typer.Option(help="Full width at half maximum of the beam, in mm.")]
Seed = Annotated[int | None, typer.Option(min=0, help="Repeat the noise of the monitor.")]


def beamline(
    system: Name = None,
    folder: Folder = None,
    tango_host: TangoHost = None,
    control: Control = None,
    family: Family = "id00/beamline",
    limits: Limits = (-100.0, 100.0),
    velocity: Velocity = 10.0,
    wire_port: WirePort = 20801,
    peak: Peak = 0.0,
    fwhm: Fwhm = 2.0,
    seed: Seed = None,
) -> None:
    """A motor, a shutter, a trigger source and a beam monitor, as Tango devices beside a running system.

    The monitor counts more where the motor is near the peak and the shutter open. The trigger source gives a pulse at
    each of a train of positions, and its wire is a UDP port that the Simulator listens on. Ctrl-C ends it.
    """
    from lima2_tango.devices.beamline.server import device_names, serve
    from lima2_tango.simulators.beamline.assembly import Options
    from lima2_tango.simulators.beamline.monitor import Profile

    _check(family, limits, velocity, fwhm)
    host, follows = _place(system, folder, tango_host, control)
    options = Options(limits, velocity, wire_port, Profile(peak, fwhm), seed)
    instance, devices = f"{INSTANCE}_{family.replace('/', '_')}", dict(device_names(family))
    _register(host, instance, devices, follows)

    def introduce() -> None:
        for line in (f"TANGO_HOST {host}", *(f"{name:<28} {made}" for name, made in devices.items())):
            typer.echo(line)
        typer.echo(f"wire         udp://127.0.0.1:{wire_port}")
        typer.echo("Ctrl-C ends it", err=True)

    serve(instance, options, host, introduce)


def _register(host: str, instance: str, devices: dict[str, str], follows: str | None) -> None:
    """`devices` are Tango classes by name; raises StateError where one of them runs already."""
    from lima2_tango.client.database import DeviceEntry, answers_ping, register, wait_for_database
    from lima2_tango.devices.beamline.server import SERVER

    wait_for_database(host, PATIENCE, lambda: None)
    if running := [name for name in devices if answers_ping(host, name)]:
        raise StateError(f"{running[0]} runs already on {host}: end that beamline, or give this one another --family")
    control = {"control": [follows]} if follows else {}
    entries = [
        DeviceEntry(name, made, f"{SERVER}/{instance}", control if made == "BeamlineShutter" else {})
        for name, made in devices.items()
    ]
    register(host, entries)


def _check(family: str, limits: tuple[float, float], velocity: float, fwhm: float) -> None:
    if not DEVICE.fullmatch(f"{family}/motor"):
        raise ParamError("--family", family, "give domain/family, of letters, digits, _ . and -")
    low, high = limits
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ParamError("--limits", list(limits), "give the lowest position, then the highest")
    for option, value in (("--velocity", velocity), ("--fwhm", fwhm)):
        if not 0 < value < math.inf:
            raise ParamError(option, value, "give a number above 0")


def _place(
    system: str | None, folder: Path | None, tango_host: str | None, control: str | None
) -> tuple[str, str | None]:
    """Tango database, and the control whose runs are followed."""
    if tango_host is None:
        try:
            state = find_system(system, folder)
            return state.tango_host, control or state.control
        except NotUpError:
            tango_host = os.environ.get("TANGO_HOST")
            if system is not None or folder is not None or tango_host is None:
                raise
    if not ADDRESS.fullmatch(tango_host) or int(tango_host.rpartition(":")[2]) > HIGHEST_PORT:
        raise ParamError("--tango-host", tango_host, "give HOST:PORT of a Tango database")
    return tango_host, control
