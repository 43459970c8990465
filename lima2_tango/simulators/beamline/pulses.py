"""A trigger source: a pulse at each of a train of positions of a motor, as position-compare electronics gives."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from threading import Event, Lock, Thread

import numpy as np
from numpy.typing import NDArray

from lima2_tango.core.errors import ParamError, StateError

from .motor import Motor

LOOK = 0.005
"""A motor that does not come nearer is looked at so often [s]."""
JOIN_LIMIT = 2.0
"""How long the end of a train is waited for [s]."""
MOST = 1_000_000
"""Pulses of one train."""
BY_HAND = 2.0
"""The longest pulse that is asked for at once [s]: Tango's clients wait for 3."""
LONGEST = 3600.0
"""A pulse, and the time from one to the next [s]."""


@dataclass(frozen=True, slots=True)
class Train:
    """Where pulses are due."""

    start: float = 0.0
    """Position of the first."""
    step: float = 1.0
    """From one to the next; negative for a motor that goes down."""
    count: int = 0
    width: float = 0.001
    """How long each is high [s]."""
    least_period: float = 0.0
    """A pulse rises no sooner after the last one [s]: where the computer was late with one, the next are late too."""

    @property
    def positions(self) -> NDArray[np.float64]:
        """[pulse] where each is due."""
        return np.asarray(self.start + self.step * np.arange(self.count), np.float64)

    def check(self, motor: Motor) -> None:
        """Raises ParamError for a train that this motor cannot give at its velocity."""
        if not 1 <= self.count <= MOST:
            raise ParamError("count", self.count, f"give 1 to {MOST} pulses")
        if self.step == 0 and self.count > 1:
            raise ParamError("step", self.step, "all pulses would be at one place: give a distance")
        low, high = motor.limits
        first, last = sorted((self.start, self.start + self.step * (self.count - 1)))
        if first < low or last > high:
            reason = f"pulses from {first:g} to {last:g} are beyond the motor's limits, {low:g} and {high:g}"
            raise ParamError("start", self.start, reason)
        period = abs(self.step) / motor.velocity
        for name, value in (("width", self.width), ("least_period", self.least_period)):
            if self.count > 1 and value >= period:
                reason = f"at {motor.velocity:g} units/s a pulse is due every {period:g} s: give less, or move slower"
                raise ParamError(name, value, reason)


@dataclass(frozen=True, slots=True)
class Latched:
    """What was read when a pulse went out."""

    position: float
    """Of the motor when the pulse rose."""
    time: float
    """When it rose, seconds since the epoch (UTC)."""
    counts: int
    """Of the monitor, while it was high."""


class TriggerSource:
    """Sends a level to everybody who is connected, and writes down where the motor was."""

    def __init__(self, motor: Motor, outputs: list[Callable[[bool], None]], count: Callable[[float], int]) -> None:
        """`count` reads the monitor over so many seconds."""
        self._motor, self._outputs, self._count = motor, outputs, count
        self._lock = Lock()
        """Held while a pulse is high: pulses do not overlap."""
        self._cancel = Event()
        self._thread: Thread | None = None
        self.train = Train()
        self._latched: list[Latched] = []
        self._rose = -math.inf
        """When the last pulse did, on the monotonic clock [s]."""

    @property
    def armed(self) -> bool:
        """Pulses are due."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def latched(self) -> list[Latched]:
        """Of the pulses since the last `arm`, or since `clear`."""
        return list(self._latched)

    def configure(self, **changes: float) -> None:
        """Change fields of the train; raises ParamError for what no train can have, StateError while armed."""
        self._check_disarmed("its train cannot be changed")
        for name, value in changes.items():
            if not math.isfinite(value):
                raise ParamError(name, str(value), "give a number")
        if not 0 < changes.get("width", self.train.width) <= LONGEST:
            raise ParamError("width", changes["width"], f"give seconds, more than 0 and at most {LONGEST:g}")
        if not 0 <= changes.get("least_period", self.train.least_period) <= LONGEST:
            raise ParamError("least_period", changes["least_period"], f"give seconds, 0 to {LONGEST:g}")
        self.train = replace(self.train, **changes)  # type: ignore[arg-type]  # count is given as int

    def arm(self) -> None:
        """Wait for the motor: in motions that begin from now on, each place of the train gives its pulse, in order.

        Raises ParamError for a train that cannot be, StateError while armed.
        """
        self._check_disarmed("it cannot be armed again")
        self.train.check(self._motor)
        self.clear()
        self._cancel.clear()
        self._thread = Thread(
            target=self._run, args=[self.train, self._motor.now()], name="lima2-trigger-source", daemon=True
        )
        self._thread.start()

    def disarm(self) -> None:
        """No more pulses; safe twice."""
        self._cancel.set()
        if self._thread is not None:
            self._thread.join(JOIN_LIMIT)

    def clear(self) -> None:
        """Forget what was latched."""
        self._latched = []

    def pulse(self) -> None:
        """One pulse at once, wherever the motor is; returns when it is over.

        Raises ParamError for one that a caller would not wait for, StateError while armed.
        """
        self._check_disarmed("it gives no pulse by hand")
        if self.train.width > BY_HAND:
            reason = f"a pulse by hand is at most {BY_HAND:g} s long: set less, or arm a train of one pulse"
            raise ParamError("width", self.train.width, reason)
        self._cancel.clear()
        self._pulse(self.train.width)

    def _check_disarmed(self, refused: str) -> None:
        if self.armed:
            sent = len(self._latched)
            raise StateError(
                f"the trigger source is armed ({sent} of {self.train.count} pulses given), so {refused}: disarm it"
            )

    def _run(self, train: Train, since: float) -> None:
        before = since
        for position in train.positions.tolist():
            while (when := self._motor.reaches(position, since, before)) is None or when > self._motor.now():
                if self._cancel.wait(LOOK if when is None else min(max(0.0, when - self._motor.now()), LOOK)):
                    return
            before = when  # the next place comes later: on the way back it was passed already
            if self._cancel.wait(max(0.0, self._rose + train.least_period - time.monotonic())):
                return
            self._pulse(train.width)

    def _pulse(self, width: float) -> None:
        with self._lock:
            position, now, self._rose = self._motor.position, time.time(), time.monotonic()
            try:
                self._send(True)
                self._cancel.wait(width)
                counts = self._count(width)
                self._latched.append(Latched(position, now, counts))
            finally:
                self._send(False)

    def _send(self, level: bool) -> None:
        for output in self._outputs:
            output(level)
