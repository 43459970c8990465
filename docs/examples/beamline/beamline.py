"""What the examples beside this file share: the devices of `lima2 simulate beamline`, and waits with a bound."""

import sys
import time
from collections.abc import Callable

import tango

PATIENCE = 20.0
"""No single step takes longer [s]."""

motor = tango.DeviceProxy("id00/beamline/motor")
shutter = tango.DeviceProxy("id00/beamline/shutter")
trigger = tango.DeviceProxy("id00/beamline/trigger")
monitor = tango.DeviceProxy("id00/beamline/monitor")


def wait_for(reached: Callable[[], bool], what: str) -> None:
    """Return once it is so; ends the script where it takes too long."""
    deadline = time.monotonic() + PATIENCE
    while not reached():
        if time.monotonic() > deadline:
            sys.exit(f"{what} took more than {PATIENCE:g} s")
        time.sleep(0.005)


def move(position: float) -> None:
    """Go there, and return once the motor is there."""
    motor.position = position
    wait_for(lambda: motor.state() == tango.DevState.ON, "the motor")
