"""The simulator's trigger input: a level whose edges expose frames, set by a command or by UDP datagrams."""

import socket
import time
from collections.abc import Callable
from threading import Lock, Thread

from lima2_tango.core.acquisition import Acq, TriggerMode
from lima2_tango.core.errors import ParamError
from lima2_tango.core.series import ENDLESS, OnTrigger

HOST = "127.0.0.1"
LEVELS = {b"\x00": False, b"0": False, b"\x01": True, b"1": True}
"""What the first byte of a datagram means."""
JOIN_LIMIT = 2.0
"""How long the end of the port's thread is waited for [s]."""


class TriggerInput:
    """Grants frames at software triggers and at edges of a level; safe to call from any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` tells monotonic seconds."""
        self._clock = clock
        self._lock = Lock()
        self._grant: OnTrigger | None = None
        self._high = False
        self.missed = 0
        """External triggers of this run that came while the frames of an earlier one were exposed."""

    def arm(self, acq: Acq, grant: OnTrigger) -> None:
        """The run starts: triggers grant frames from now on."""
        with self._lock:
            self._acq, self._grant = acq, grant
            self._granted, self._busy_until, self._open = 0, -1.0, False
            self.missed = 0

    def disarm(self) -> None:
        """Triggers do nothing from now on."""
        with self._lock:
            self._grant = None

    @property
    def armed(self) -> bool:
        return self._grant is not None

    def software(self) -> None:
        """Frames of one more trigger; beyond the last frame of the series it exposes nothing."""
        with self._lock:
            limit = self._software()
        self._tell(limit)

    def level(self, high: bool) -> None:
        """The input is high or low now."""
        with self._lock:
            limit = self._level(high)
        self._tell(limit)

    def _tell(self, limit: int) -> None:
        """Called without the lock: whoever hears of the grant may disarm. A smaller limit may come after a larger."""
        grant = self._grant
        if limit and grant is not None:
            grant(limit)

    def _software(self) -> int:
        if self._grant is None or self._acq.trigger_mode is not TriggerMode.SOFTWARE:
            return 0
        return self._expose(self._acq.nb_frames_per_trigger)

    def _level(self, high: bool) -> int:
        rising, falling = high and not self._high, self._high and not high
        self._high = high
        if self._grant is None:
            return 0
        if self._acq.trigger_mode is TriggerMode.EXTERNAL and rising:
            return self._edge()
        if self._acq.trigger_mode is TriggerMode.GATE:
            opened, self._open = self._open, rising or (self._open and not falling)
            return self._expose(1) if opened and falling else 0
        return 0

    def _edge(self) -> int:
        now, acq = self._clock(), self._acq
        if now < self._busy_until:
            self.missed += 1
            return 0
        self._busy_until = now + (acq.nb_frames_per_trigger - 1) * acq.period + acq.expo_time * 1e-6
        return self._expose(acq.nb_frames_per_trigger)

    def _expose(self, frames: int) -> int:
        """Global index after the frames granted so far and these; 0 where the series has no more frames."""
        granted = min(self._granted + frames, ENDLESS if self._acq.endless else self._acq.nb_frames)
        if granted == self._granted:
            return 0
        self._granted = granted
        return granted


class TriggerPort:
    """A UDP port on the loopback interface whose datagrams set the level: first byte 0 or 1, or their digits."""

    def __init__(self, port: int, level: Callable[[bool], None]) -> None:
        """Binds at once; raises ParamError where the port is taken. Port 0 is any free one."""
        self._level = level
        self._closing = False
        self.bad_datagrams = 0
        """Datagrams that were no level."""
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self._socket.bind((HOST, port))
        except OSError as error:
            self._socket.close()
            reason = f"cannot listen on {HOST} ({error.strerror}): choose a free UDP port, or 0 for none"
            raise ParamError("$.det.trigger_port", port, reason) from error
        self.port: int = self._socket.getsockname()[1]
        self._thread = Thread(target=self._listen, name="lima2-trigger-port", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Free the port; safe twice."""
        if self._closing:
            return
        self._closing = True
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as waker:
            waker.sendto(b"", (HOST, self.port))
        self._thread.join(JOIN_LIMIT)
        self._socket.close()

    def _listen(self) -> None:
        while not self._closing:
            first = self._socket.recv(1)  # the rest of a longer datagram is discarded
            if first in LEVELS:
                self._level(LEVELS[first])
            elif not self._closing:
                self.bad_datagrams += 1
