"""Motor and beam monitor as Tango devices."""

from typing import Any

import tango.server
from tango import DevState

from lima2_tango.core.errors import Lima2Error

from .base import RW, BeamlineDevice, refusing


class BeamlineMotor(BeamlineDevice):
    """A motor: write `position` to move it, MOVING says that it is on its way."""

    def now(self) -> DevState:
        return DevState.MOVING if self.beamline.motor.moving else DevState.ON

    @tango.server.attribute(dtype=float, access=RW, unit="mm", format="%.4f", doc="Where it is; writing moves it.")
    def position(self) -> float:
        return self.beamline.motor.position

    @position.write  # type: ignore[no-redef]
    @refusing
    def position(self, target: float) -> None:
        self.beamline.motor.move(target)

    @tango.server.attribute(dtype=float, unit="mm", format="%.4f", doc="Where it goes, or went last.")
    def target(self) -> float:
        return self.beamline.motor.target

    @tango.server.attribute(dtype=float, access=RW, unit="mm/s", doc="Of the next motion; there is no acceleration.")
    def velocity(self) -> float:
        return self.beamline.motor.velocity

    @velocity.write  # type: ignore[no-redef]
    @refusing
    def velocity(self, velocity: float) -> None:
        self.beamline.motor.set_velocity(velocity)

    @tango.server.attribute(dtype=(float,), max_dim_x=2, access=RW, unit="mm", doc="Lowest and highest position.")
    def limits(self) -> tuple[float, float]:
        return self.beamline.motor.limits

    @limits.write  # type: ignore[no-redef]
    @refusing
    def limits(self, limits: Any) -> None:
        if len(limits) != 2:
            raise Lima2Error(f"limits has {len(limits)} values: give the lowest and the highest position")
        self.beamline.motor.set_limits(float(limits[0]), float(limits[1]))

    @tango.server.command(doc_in="It stays where it is; without effect where it does not move.")
    def Stop(self) -> None:
        self.beamline.motor.stop()


class BeamlineMonitor(BeamlineDevice):
    """A beam monitor: more counts where the motor is near the peak, few where the shutter is closed."""

    @tango.server.attribute(dtype=int, doc="Counts of integration_time, with the noise of photons.")
    def counts(self) -> int:
        return self.beamline.monitor.counts()

    @tango.server.attribute(dtype=float, unit="1/s", doc="Expected counts a second, without noise.")
    def rate(self) -> float:
        return self.beamline.monitor.rate

    @tango.server.attribute(dtype=float, access=RW, unit="s", doc="What a reading of counts is over.")
    def integration_time(self) -> float:
        return self.beamline.monitor.integration_time

    @integration_time.write  # type: ignore[no-redef]
    @refusing
    def integration_time(self, seconds: float) -> None:
        self.beamline.monitor.set_integration_time(seconds)
