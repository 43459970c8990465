"""One receiver's part of a running series: which frames are its own, when each is due, and where the series ends.

The agreement between the ranks writes here (grants, cut); the camera's receiver half asks here.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Condition
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from .acquisition import Acq, TriggerMode

ENDLESS = 2**62
"""Bound of a series that only a stop ends [frame]."""


class Topology(Protocol):
    """Who gets which frame; answers, so that nobody asks for its type."""

    @property
    def receivers(self) -> int:
        """How many receivers share the series."""

    def owner(self, index: int) -> int:
        """Rank of the receiver that gets the frame with this global index."""

    def owned(self, rank: int, local: int, count: int) -> NDArray[np.int64]:
        """Global indices of the frames `local` to `local + count - 1` of one receiver."""


@dataclass(frozen=True, slots=True)
class Grant:
    """Frames up to `limit` (exclusive) may be exposed, the first of them from `begin` (monotonic seconds) on."""

    first: int
    limit: int
    begin: float


class Series:
    """What receiver `rank` has to deliver; safe to call from any thread."""

    def __init__(self, acq: Acq, topology: Topology, rank: int, begin: float | None = None) -> None:
        """`begin` is the common start of the run on the monotonic clock [s]; now, where it is not given."""
        self.topology = topology
        self.rank = rank
        self.period = acq.period
        self.exposure = acq.expo_time * 1e-6
        self.frame_by_frame = acq.trigger_mode is not TriggerMode.INTERNAL or acq.period >= 5e-3
        self._gated = acq.trigger_mode is TriggerMode.GATE
        self._end = ENDLESS if acq.endless else acq.nb_frames
        self._changed = Condition()
        self.begin = time.monotonic() if begin is None else begin
        self.begin_utc = time.time()
        self._grants: list[Grant] = []
        if acq.trigger_mode is TriggerMode.INTERNAL:
            self._grants.append(Grant(0, ENDLESS, self.begin))
        self._cut: int | None = None
        self._held = False
        self.delivered = 0
        """Global index after the last frame this receiver has delivered or is delivering."""

    def grant(self, limit: int) -> None:
        """A trigger came: frames below `limit` may be exposed, after those granted before."""
        with self._changed:
            first = self._grants[-1].limit if self._grants else 0
            if limit > first:
                begin = time.monotonic()
                if self._grants and not self._gated:
                    last = self._grants[-1]
                    begin = max(begin, last.begin + (last.limit - last.first) * self.period)
                pending = [grant for grant in self._grants[:-1] if grant.limit > self.delivered]
                self._grants = [*pending, *self._grants[-1:], Grant(first, limit, begin)]
                self._changed.notify_all()

    def hold(self) -> int:
        """A stop is being agreed: deliver nothing more until `cut`; returns `delivered`."""
        with self._changed:
            self._held = True
            self._changed.notify_all()
            return self.delivered

    def cut(self, index: int) -> None:
        """The series ends before the frame with this global index, on every receiver alike."""
        with self._changed:
            self._cut, self._held = index, False
            self._changed.notify_all()

    def due(self, index: int) -> float | None:
        """When frame `index` is complete, on the monotonic clock [s]; None while no trigger has granted it."""
        for grant in reversed(self._grants):
            if grant.first <= index < grant.limit:
                return grant.begin if self._gated else grant.begin + (index - grant.first) * self.period + self.exposure
        return self.begin if self._grants and index < self._grants[0].first else None

    def wait_for(self, index: int) -> bool:
        """Wait until frame `index` may be delivered, and claim it; False when the series ends before it.

        After the cut is known nothing waits for its due time: the frames below it exist on other receivers.
        """
        with self._changed:
            while True:
                if index >= self._end or (self._cut is not None and index >= self._cut):
                    return False
                if not self._held:
                    due = self.due(index)
                    if self._cut is not None or (due is not None and due <= time.monotonic()):
                        self.delivered = max(self.delivered, index + 1)
                        return True
                self._changed.wait(None if self._held or due is None else max(0.0, due - time.monotonic()))

    def ready(self, index: int) -> bool:
        """Claim frame `index` if it may be delivered this moment, without waiting."""
        with self._changed:
            if self._held or index >= self._end or (self._cut is not None and index >= self._cut):
                return False
            due = self.due(index)
            if self._cut is None and (due is None or due > time.monotonic()):
                return False
            self.delivered = max(self.delivered, index + 1)
            return True

    def exposed_at(self, indices: NDArray[np.int64]) -> NDArray[np.float64]:
        """When the exposures of these frames began, seconds since the epoch (UTC)."""
        offset = self.begin_utc - self.begin
        dues = [self.due(int(i)) for i in indices]
        now = time.monotonic()
        return np.array([(now if due is None else due - self.exposure) + offset for due in dues])


OnTrigger = Callable[[int], None]
"""Called by a camera's control half: frames below this global index may be exposed."""
