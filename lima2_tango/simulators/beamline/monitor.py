"""A beam monitor behind sample and shutter: it counts more where the motor is near the peak, with photon noise."""

import math
from dataclasses import dataclass

import numpy as np

from lima2_tango.core.errors import ParamError

from .motor import Motor
from .shutter import Shutter


@dataclass(frozen=True, slots=True)
class Profile:
    """Count rate against the position of the motor: a Gaussian over what a closed shutter gives too."""

    centre: float = 0.0
    """Position of the peak."""
    fwhm: float = 2.0
    """Full width at half maximum, in units of the motor."""
    peak: float = 1e6
    """[count/s]"""
    dark: float = 20.0
    """[count/s]"""

    def rate(self, position: float, is_open: bool) -> float:
        """Expected rate [count/s]."""
        distance = (position - self.centre) / self.fwhm
        return self.dark + is_open * self.peak * math.exp(-4 * math.log(2) * distance * distance)


class Monitor:
    """Counts as they are where motor and shutter are at the moment of reading."""

    def __init__(self, motor: Motor, shutter: Shutter, profile: Profile, seed: int | None = None) -> None:
        """`seed` repeats the noise; None has another each time."""
        self._motor, self._shutter, self._profile = motor, shutter, profile
        self._random = np.random.default_rng(seed)
        self._time = 0.1

    @property
    def integration_time(self) -> float:
        """What a reading counts over [s]."""
        return self._time

    def set_integration_time(self, seconds: float) -> None:
        """Raises ParamError for what is no time."""
        if not 0 < seconds <= 3600:
            raise ParamError("integration_time", seconds, "give seconds, more than 0 and 3600 at most")
        self._time = seconds

    @property
    def rate(self) -> float:
        """Expected rate here and now, without noise [count/s]."""
        return self._profile.rate(self._motor.position, self._shutter.is_open)

    def counts(self, seconds: float | None = None) -> int:
        """Counts of `seconds`, or of `integration_time`, with the noise of photons (Poisson)."""
        return int(self._random.poisson(self.rate * (self._time if seconds is None else seconds)))
