"""How much, and how fast of late."""

import time
from collections import deque
from threading import Lock

WINDOW = 1.0
"""A rate is that of the last so many seconds [s]."""
STEP = 0.02
"""What comes within so short a time counts as one step, so that a meter stays small [s]."""


class Meter:
    """A total that grows, and its rate of growth; safe from any thread."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._total = 0
        self._steps: deque[tuple[float, int]] = deque()
        """(monotonic time [s], total before it)"""

    @property
    def total(self) -> int:
        return self._total

    def add(self, amount: int) -> None:
        now = time.monotonic()
        with self._lock:
            if not self._steps or now - self._steps[-1][0] > STEP:
                self._steps.append((now, self._total))
            self._total += amount
            self._forget(now)

    def rate(self) -> float:
        """Per second, over the last second; 0 when nothing was added in it."""
        now = time.monotonic()
        with self._lock:
            self._forget(now)
            if not self._steps:
                return 0.0
            begin, before = self._steps[0]
            return (self._total - before) / max(now - begin, STEP)

    def _forget(self, now: float) -> None:
        while self._steps and now - self._steps[0][0] > WINDOW:
            self._steps.popleft()
