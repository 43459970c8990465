"""Waits of a stream: short at first, bounded by how long a partner is silent."""

import time

SPINS = 40
"""So often a waiter only lets others run; what takes longer than these does not notice a sleep."""
SHORTEST, LONGEST = 50e-6, 2e-3
"""Sleeps between looks [s]: MPI and shared memory cannot wake a sleeper."""
MOVING = 10e-3
"""While something large is on its way a waiter does not sleep, for so long: where the ranks of a host may not read each
other's memory, MPI moves it piece by piece, and only within its calls [s]."""
AWAY = 0.5
"""A longer time between two looks is not counted as silence: nobody was listening [s]."""


class Pause:
    """Between looks at something that has not happened yet: nothing, then sleeps that become longer."""

    def __init__(self) -> None:
        self._looks = 0
        self._begin = time.monotonic()
        self._sleep = SHORTEST

    def __call__(self, moving: bool = False) -> None:
        """`moving`: a message is on its way, and needs us to go on."""
        self._looks += 1
        if self._looks <= SPINS or (moving and time.monotonic() - self._begin < MOVING):
            time.sleep(0)
            return
        time.sleep(self._sleep)
        self._sleep = min(2 * self._sleep, LONGEST)


class Watch:
    """How long a partner has been silent while somebody listened."""

    def __init__(self) -> None:
        self._heard = -1
        self._since = self._looked = time.monotonic()

    def silent(self, heard: int) -> float:
        """Seconds without a sign of life; `heard` is a number that changes with each."""
        now = time.monotonic()
        if heard != self._heard:
            self._heard, self._since = heard, now
        elif now - self._looked > AWAY:
            self._since += now - self._looked
        self._looked = now
        return now - self._since
