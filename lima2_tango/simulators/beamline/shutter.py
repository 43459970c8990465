"""A beam shutter, moved by hand or by what the detector does, in the three modes of LImA's shutter control."""

import time
from collections.abc import Callable
from enum import StrEnum
from threading import Lock

from lima2_tango.core.errors import ParamError, StateError


class Mode(StrEnum):
    MANUAL = "manual"
    """Moved by the commands."""
    AUTO_FRAME = "auto_frame"
    """Open while a frame is exposed: while the trigger source's pulse is high."""
    AUTO_SEQUENCE = "auto_sequence"
    """Open while a run is prepared or goes on."""


class Position(StrEnum):
    OPEN = "open"
    CLOSED = "closed"
    MOVING = "moving"


class Shutter:
    """Takes `travel` seconds from one end to the other. Safe to call from any thread."""

    def __init__(self, travel: float = 0.002, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` tells seconds."""
        self._clock = clock
        self._lock = Lock()
        self._travel = travel
        self._mode = Mode.MANUAL
        self._wanted = False
        self._there = clock()
        self.openings = 0
        """How often it was told to open since the start."""

    @property
    def mode(self) -> Mode:
        return self._mode

    @property
    def position(self) -> Position:
        with self._lock:
            if self._clock() < self._there:
                return Position.MOVING
            return Position.OPEN if self._wanted else Position.CLOSED

    @property
    def is_open(self) -> bool:
        """The beam passes: it is wholly open."""
        return self.position is Position.OPEN

    def set_mode(self, text: str) -> None:
        """Closes the shutter, whatever it was before; raises ParamError for a mode that there is not."""
        try:
            mode = Mode(text.strip().lower())
        except ValueError:
            raise ParamError("mode", text, f"choose {', '.join(Mode)}") from None
        with self._lock:
            self._mode = mode
            self._go(False)

    def open(self) -> None:
        """Raises StateError in a mode that moves it by itself."""
        self._by_hand(True)

    def close(self) -> None:
        """Raises StateError in a mode that moves it by itself."""
        self._by_hand(False)

    def frame(self, exposed: bool) -> None:
        """A frame's exposure begins or ends."""
        self._follow(Mode.AUTO_FRAME, exposed)

    def sequence(self, on: bool) -> None:
        """A run is prepared, or over; safe to be told again."""
        self._follow(Mode.AUTO_SEQUENCE, on)

    def _by_hand(self, wanted: bool) -> None:
        with self._lock:
            if self._mode is not Mode.MANUAL:
                raise StateError(f"the shutter moves by itself in mode {self._mode}: set mode manual to move it")
            self._go(wanted)

    def _follow(self, mode: Mode, wanted: bool) -> None:
        with self._lock:
            if self._mode is mode:
                self._go(wanted)

    def _go(self, wanted: bool) -> None:
        if wanted == self._wanted:
            return
        self._wanted = wanted
        self._there = self._clock() + self._travel
        self.openings += wanted
