"""A motor that moves at constant speed between two limits; where it is follows from the clock alone."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from lima2_tango.core.errors import ParamError, StateError


@dataclass(frozen=True, slots=True)
class Motion:
    """From `start` to `target` at `velocity`, without acceleration."""

    begin: float
    """When it began [s]."""
    start: float
    target: float
    velocity: float
    """Positive, in units of the motor a second."""

    @property
    def end(self) -> float:
        return self.begin + abs(self.target - self.start) / self.velocity

    def at(self, now: float) -> float:
        """Position at a time."""
        if now >= self.end:
            return self.target
        return self.start + math.copysign(self.velocity * max(0.0, now - self.begin), self.target - self.start)

    def passes(self, position: float) -> float | None:
        """When it is there [s]; None for a place that is not on the way."""
        if not min(self.start, self.target) <= position <= max(self.start, self.target):
            return None
        return self.begin + abs(position - self.start) / self.velocity


class Motor:
    """One axis. Readers may be in any thread: they see one motion, or the next."""

    def __init__(
        self,
        limits: tuple[float, float] = (-100.0, 100.0),
        velocity: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`clock` tells seconds; the motor begins at 0, or at the limit that is nearest to it."""
        self._clock = clock
        self._limits = limits
        self._velocity = velocity
        at = min(max(0.0, limits[0]), limits[1])
        self._motion = Motion(clock(), at, at, velocity)

    @property
    def position(self) -> float:
        return self._motion.at(self._clock())

    @property
    def target(self) -> float:
        """Where it goes, or went last."""
        return self._motion.target

    @property
    def moving(self) -> bool:
        return self._clock() < self._motion.end

    @property
    def velocity(self) -> float:
        """Of the next motion, in units a second."""
        return self._velocity

    @property
    def limits(self) -> tuple[float, float]:
        """Lowest and highest position that it moves to."""
        return self._limits

    def set_velocity(self, velocity: float) -> None:
        """Raises ParamError for what is no speed, StateError while it moves."""
        self._check_still("the velocity cannot be changed")
        if not 0 < velocity < math.inf:
            raise ParamError("velocity", velocity, "give units a second, more than 0")
        self._velocity = velocity

    def set_limits(self, low: float, high: float) -> None:
        """Raises ParamError where the motor is not between them, StateError while it moves."""
        self._check_still("the limits cannot be changed")
        if not low <= self.position <= high:
            raise ParamError("limits", [low, high], f"the motor is at {self.position:g}: it has to be between them")
        self._limits = (low, high)

    def move(self, target: float) -> None:
        """Begin to move; raises ParamError beyond the limits, StateError while it moves."""
        self._check_still(f"it cannot go to {target:g}")
        low, high = self._limits
        if not low <= target <= high:
            raise ParamError("position", target, f"the limits are {low:g} and {high:g}: choose a place between them")
        self._motion = Motion(self._clock(), self.position, target, self._velocity)

    def stop(self) -> None:
        """Where it is it stays; without effect where it does not move."""
        now = self._clock()
        here = self._motion.at(now)
        self._motion = Motion(now, here, here, self._velocity)

    def now(self) -> float:
        """Its clock [s]."""
        return self._clock()

    def reaches(self, position: float, since: float, after: float = -math.inf) -> float | None:
        """When its motion is there on the motor's clock [s], which may be over.

        None where it does not lead there, began before `since`, or was there before `after`.
        """
        motion = self._motion
        if motion.start == motion.target or motion.begin < since:
            return None
        when = motion.passes(position)
        return None if when is None or when < after else when

    def _check_still(self, refused: str) -> None:
        if self.moving:
            raise StateError(f"the motor moves to {self.target:g}, so {refused}: wait until it is there, or stop it")
