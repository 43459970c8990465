"""All devices of the simulated beamline, connected."""

from dataclasses import dataclass

from .monitor import Monitor, Profile
from .motor import Motor
from .pulses import TriggerSource
from .shutter import Shutter
from .wire import PORT, Wire


@dataclass(frozen=True, slots=True)
class Options:
    """What the beamline is like."""

    limits: tuple[float, float] = (-100.0, 100.0)
    """Of the motor [mm]."""
    velocity: float = 10.0
    """Of the motor [mm/s]."""
    wire_port: int = PORT
    """UDP port of the detector's trigger input."""
    profile: Profile = Profile()
    seed: int | None = None
    """Repeats the noise of the monitor."""


class Beamline:
    """A motor that moves a sample through the beam, and what is in the beam: shutter, monitor, trigger source."""

    def __init__(self, options: Options) -> None:
        self.motor = Motor(options.limits, options.velocity)
        self.shutter = Shutter()
        self.monitor = Monitor(self.motor, self.shutter, options.profile, options.seed)
        self.wire = Wire(options.wire_port)
        # The shutter first: it opens before the detector exposes, and closes while it ends.
        outputs = [self.shutter.frame, self.wire.level]
        self.trigger = TriggerSource(self.motor, outputs, self.monitor.counts)

    def close(self) -> None:
        """Nothing moves and nothing is sent any more; safe twice."""
        self.trigger.disarm()
        self.motor.stop()
        self.wire.close()
