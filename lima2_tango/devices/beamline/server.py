"""The server that runs the devices of the simulated beamline."""

import os
from collections.abc import Callable, Iterator

import tango
import tango.server

from lima2_tango.core.errors import Lima2Error
from lima2_tango.simulators.beamline.assembly import Beamline, Options

from .base import BeamlineDevice
from .motor import BeamlineMonitor, BeamlineMotor
from .shutter import BeamlineShutter
from .trigger import BeamlineTrigger

SERVER = "lima2_beamline"
"""Tango server name of the simulated beamline."""

CLASSES: dict[str, type[BeamlineDevice]] = {
    "motor": BeamlineMotor,
    "shutter": BeamlineShutter,
    "trigger": BeamlineTrigger,
    "monitor": BeamlineMonitor,
}
"""Last part of a device's name, and its class."""


def device_names(family: str) -> Iterator[tuple[str, str]]:
    """Name and Tango class of each device; `family` is domain/family."""
    for member, made in CLASSES.items():
        yield f"{family}/{member}", made.__name__


def serve(instance: str, options: Options, tango_host: str, ready: Callable[[], None]) -> None:
    """Run the devices, which are registered as `lima2_beamline/<instance>`, until SIGINT or SIGTERM.

    `ready` is called once they answer. They listen on this computer only. Raises Lima2Error where the database refuses
    them: it does not answer, or the instance runs already.
    """
    os.environ["TANGO_HOST"] = tango_host
    beamline = BeamlineDevice.beamline = Beamline(options)
    arguments = [SERVER, instance, "-ORBendPoint", "giop:tcp:127.0.0.1:"]
    try:
        tango.server.run(tuple(CLASSES.values()), args=arguments, post_init_callback=ready, raises=True)
    except tango.DevFailed as error:
        raise Lima2Error(f"{SERVER}/{instance} cannot run: {' '.join(error.args[0].desc.split())}") from error
    finally:
        beamline.close()
