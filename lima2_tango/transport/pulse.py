"""Signs of life: which of the other ranks says nothing any more, as one rank sees it."""

import time
from collections.abc import Iterable

BEAT = 1.0
"""A rank that takes part in a run says so often that it lives [s]."""
SILENCE = 10.0
"""A rank that has said nothing for so long is lost to the run [s]. The thread of its messages says that it lives, which
waits for no camera, no disk and no other rank: who is only slow is never silent."""


class Pulse:
    """When each of some ranks was last heard; for one thread, or under a lock of its owner's."""

    def __init__(self) -> None:
        self._heard: dict[int, float] = {}
        self._looked = self._told = 0.0

    def begin(self, ranks: Iterable[int]) -> None:
        """From now on these MPI ranks are listened for, and no others."""
        now = time.monotonic()
        self._heard = dict.fromkeys(ranks, now)
        self._looked = now

    def heard(self, rank: int) -> None:
        """A message came from this MPI rank, whatever it says."""
        if rank in self._heard:
            self._heard[rank] = time.monotonic()

    def silent(self) -> list[int]:
        """MPI ranks that have said nothing for `SILENCE` seconds; to be asked more often than each `BEAT`."""
        now = time.monotonic()
        if now - self._looked > SILENCE / 2:  # this rank was away itself: it could hear nobody
            self._heard = dict.fromkeys(self._heard, now)
        self._looked = now
        return [rank for rank, heard in self._heard.items() if now - heard > SILENCE]

    def due(self) -> bool:
        """It is time to say something; True once for each `BEAT`."""
        now = time.monotonic()
        if now - self._told < BEAT:
            return False
        self._told = now
        return True
