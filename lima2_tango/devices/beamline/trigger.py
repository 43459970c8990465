"""The trigger source as a Tango device."""

import tango.server
from tango import DevState

from lima2_tango.simulators.beamline.pulses import MOST, Latched

from .base import RW, BeamlineDevice, refusing


class BeamlineTrigger(BeamlineDevice):
    """A trigger source: a pulse at each of a train of positions of the motor; MOVING while pulses are due."""

    def now(self) -> DevState:
        return DevState.MOVING if self.beamline.trigger.armed else DevState.ON

    @tango.server.attribute(dtype=float, access=RW, unit="mm", doc="Position of the first pulse.")
    def start(self) -> float:
        return self.beamline.trigger.train.start

    @start.write  # type: ignore[no-redef]
    @refusing
    def start(self, start: float) -> None:
        self.beamline.trigger.configure(start=start)

    @tango.server.attribute(dtype=float, access=RW, unit="mm", doc="From one pulse to the next; may be negative.")
    def step(self) -> float:
        return self.beamline.trigger.train.step

    @step.write  # type: ignore[no-redef]
    @refusing
    def step(self, step: float) -> None:
        self.beamline.trigger.configure(step=step)

    @tango.server.attribute(dtype=int, access=RW, doc="Pulses of the train.")
    def count(self) -> int:
        return self.beamline.trigger.train.count

    @count.write  # type: ignore[no-redef]
    @refusing
    def count(self, count: int) -> None:
        self.beamline.trigger.configure(count=count)

    @tango.server.attribute(dtype=float, access=RW, unit="s", doc="How long a pulse is high: the exposure of a gate.")
    def width(self) -> float:
        return self.beamline.trigger.train.width

    @width.write  # type: ignore[no-redef]
    @refusing
    def width(self, width: float) -> None:
        self.beamline.trigger.configure(width=width)

    @tango.server.attribute(
        dtype=float, access=RW, unit="s", doc="Least time from pulse to pulse, where this computer was late with one."
    )
    def least_period(self) -> float:
        return self.beamline.trigger.train.least_period

    @least_period.write  # type: ignore[no-redef]
    @refusing
    def least_period(self, least_period: float) -> None:
        self.beamline.trigger.configure(least_period=least_period)

    @tango.server.attribute(dtype=int, access=RW, doc="UDP port of the detector's trigger input on this computer.")
    def wire_port(self) -> int:
        return self.beamline.wire.port

    @wire_port.write  # type: ignore[no-redef]
    @refusing
    def wire_port(self, port: int) -> None:
        self.beamline.wire.connect(port)

    @tango.server.attribute(dtype=int, doc="Pulses since Arm.")
    def nb_pulses(self) -> int:
        return len(self._latched)

    @tango.server.attribute(dtype=(float,), max_dim_x=MOST, unit="mm", doc="Where the motor was at each pulse.")
    def positions(self) -> list[float]:
        return [each.position for each in self._latched]

    @tango.server.attribute(dtype=(float,), max_dim_x=MOST, unit="s", doc="When each pulse rose, since 1970 (UTC).")
    def times(self) -> list[float]:
        return [each.time for each in self._latched]

    @tango.server.attribute(dtype=(int,), max_dim_x=MOST, doc="Counts of the monitor while each pulse was high.")
    def counts(self) -> list[int]:
        return [each.counts for each in self._latched]

    @property
    def _latched(self) -> list[Latched]:
        return self.beamline.trigger.latched

    @tango.server.command(doc_in="From now on the motor gives the pulses, in motions that begin after this.")
    @refusing
    def Arm(self) -> None:
        self.beamline.trigger.arm()

    @tango.server.command(doc_in="No more pulses.")
    def Disarm(self) -> None:
        self.beamline.trigger.disarm()

    @tango.server.command(doc_in="One pulse at once, wherever the motor is; returns when it is over.")
    @refusing
    def Pulse(self) -> None:
        self.beamline.trigger.pulse()
