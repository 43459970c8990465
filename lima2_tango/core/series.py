"""One receiver's part of a running series: which frames are its own, when each is due, and where the series ends.

The agreement between the ranks writes here (grants, cut); the camera's receiver half asks here.
"""

import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Condition
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from .acquisition import Acq, TriggerMode
from .errors import AgreementError

ENDLESS = 2**62
"""Bound of a series that only a stop ends [frame]."""
SLOW = 5e-3
"""Frame period from which on every frame is a block of its own [s]."""
HOLD_LIMIT = 10.0
"""How long a receiver waits for the cut after `hold` [s]."""
LONGEST_WAIT = 3600.0
"""One wait on a condition [s]: the platform's limit would be passed by the longest dead times."""


class Topology(Protocol):
    """Who gets which frame; answers, so that nobody asks for its type."""

    @property
    def receivers(self) -> int:
        """How many receivers share the series."""

    def owner(self, index: int) -> int:
        """Rank of the receiver that gets the frame with this global index."""

    def owned(self, rank: int, local: int, count: int) -> NDArray[np.int64]:
        """Global indices of the frames `local` to `local + count - 1` of one receiver."""

    def locate(self, index: int) -> tuple[int, int]:
        """Rank of the receiver that gets this frame, and the frame's local index there."""

    def parts(self, index: int) -> tuple[int, ...]:
        """Ranks of the receivers that acquire a part of this frame; none where another rank acquires it."""

    def deal(self, index: NDArray[np.int64], loads: Sequence[int]) -> NDArray[np.int64]:
        """Rank of the receiver of each of these frames, given how many frames each has still to take."""

    def acquired(self, rank: int) -> "Topology":
        """Who gets which frame from the camera, as receiver `rank` sees it: what its own camera has to deliver."""


Tag = Sequence[int | str]
"""A camera's word to its receivers, small and of its own meaning."""


@dataclass(frozen=True, slots=True)
class Grant:
    """Frames from `first` on, below the next grant's, may be exposed from `begin` (monotonic seconds) on."""

    first: int
    begin: float


class Series:
    """What receiver `rank` has to deliver; safe to call from any thread."""

    def __init__(self, acq: Acq, topology: Topology, rank: int, begin: float | None = None) -> None:
        """`begin` is the common start of the run on the monotonic clock [s]; now, where it is not given."""
        self.topology = topology
        self.rank = rank
        self.period = acq.period
        self.exposure = acq.expo_time * 1e-6
        internal = acq.trigger_mode is TriggerMode.INTERNAL
        self._untriggered = internal
        self._gated = acq.trigger_mode is TriggerMode.GATE
        self.frame_by_frame = acq.period >= SLOW or self._gated or not (internal or acq.nb_frames_per_trigger > 1)
        """Nothing is gained by waiting for a second frame before the first one is delivered."""
        now = time.monotonic()
        self.begin = now if begin is None else begin
        self.begin_utc = time.time() + self.begin - now
        self.delivered = 0
        """Global index after the last frame this receiver has delivered or is delivering."""
        self.left = False
        """The process goes down, or nobody coordinates any more: nobody is waited for."""
        self.orphaned = ""
        """Why it was left, where that is an error."""
        self.lost: dict[int, str] = {}
        """Participants that do not answer any more, by their number among the receivers, and what is known of each."""
        self.tag: Tag = ()
        """What the camera's control half told its receivers when the run began."""
        self.on_pause: Callable[[], None] = _nothing
        """A camera with a clock of its own calls it when no frame has come for a moment: what arrived is told."""
        self.on_end: Callable[[], None] = _nothing
        """Such a camera calls it when its detector is done, whatever else was asked for: all receivers end."""
        self._changed = Condition()
        self._end = ENDLESS if acq.endless else acq.nb_frames
        self._granted = ENDLESS if internal else 0
        self._grants = [Grant(0, self.begin)] if internal else []
        self._cut: int | None = None
        self._held = False

    def grant(self, limit: int) -> None:
        """A trigger came: frames below `limit` may be exposed, after those granted before."""
        with self._changed:
            if limit <= self._granted:
                return
            now, queued = time.monotonic(), self._next_begin()
            if self._gated or now > queued:
                self._forget_delivered()
                self._grants.append(Grant(self._granted, now))
            self._granted = limit  # a queued trigger's frames follow at the same pace: they extend the last grant
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

    def lose(self, number: int, reason: str) -> None:
        """Nobody waits for this participant any more."""
        self.lost = {**self.lost, number: reason}  # a new one: others are looking

    def leave(self, reason: str = "") -> None:
        """The series ends at its last delivered frame, whatever the other receivers do: this process goes down.

        Or nobody is left who could say where to end: for this `reason`.
        """
        self.left, self.orphaned = True, reason
        self.cut(self.hold())

    @property
    def overrun(self) -> bool:
        """True when this receiver has delivered beyond the cut: it heard of the stop too late."""
        return self._cut is not None and self.delivered > self._cut

    @property
    def ending(self) -> bool:
        """What is still to come comes soon: the end is agreed, or all frames should have been exposed by now."""
        if self._cut is not None:
            return True
        exposed = self.begin + self._end * self.period
        return self._untriggered and time.monotonic() > exposed

    @property
    def end(self) -> int:
        """Global index before which the series ends, as far as it is known now."""
        return self._end if self._cut is None else min(self._end, self._cut)

    def claim(self, indices: NDArray[np.int64], patience: float = 0.0) -> NDArray[np.float64]:
        """Wait until the first of these frames (ascending) is due, and claim it with all the others that are.

        Waits `patience` seconds longer for more of them, where that can bring more. Returns when the exposures of
        the claimed frames began, seconds since the epoch (UTC); none where the series ends before the first.
        After the cut is known nothing waits for its due time: the frames below it exist on other receivers.
        """
        with self._changed:
            while True:
                if self._held and indices[0] < self._end:
                    self._await_cut()
                wanted = indices[: np.searchsorted(indices, self.end)]
                dues = self._dues(wanted)
                now = time.monotonic()
                goal = self._goal(dues, patience)
                if self._cut is not None or goal <= now or not len(wanted):
                    count = len(wanted) if self._cut is not None else int(np.searchsorted(dues, now, "right"))
                    return self._deliver(wanted[:count], dues[:count], now)
                self._changed.wait(min(goal - now, LONGEST_WAIT))

    def arrived(self, indices: NDArray[np.int64]) -> int:
        """Claim frames (ascending) of a detector with a clock of its own: how many of them are before the end.

        Nothing waits but for the cut, where a stop is being agreed.
        """
        with self._changed:
            if self._held and indices[0] < self._end:
                self._await_cut()
            count = int(np.searchsorted(indices, self.end))
            if count:
                self.delivered = max(self.delivered, int(indices[count - 1]) + 1)
            return count

    @property
    def is_cut(self) -> bool:
        """The common end is agreed."""
        return self._cut is not None

    def ages(self, times: NDArray[np.float64]) -> NDArray[np.float64]:
        """Seconds since the ends of exposures that began at these times (as `claim` returns them)."""
        ages: NDArray[np.float64] = self.begin_utc + time.monotonic() - self.begin - times - self.exposure
        return ages

    def wait_for(self, index: int) -> bool:
        """Wait until frame `index` may be delivered, and claim it; False when the series ends before it."""
        return len(self.claim(np.array([index], np.int64))) > 0

    def _deliver(self, indices: NDArray[np.int64], dues: NDArray[np.float64], now: float) -> NDArray[np.float64]:
        if len(indices):
            self.delivered = max(self.delivered, int(indices[-1]) + 1)
        offset = self.begin_utc - self.begin - self.exposure
        return np.where(np.isfinite(dues), dues, now) + offset

    def _goal(self, dues: NDArray[np.float64], patience: float) -> float:
        """When to claim: the first frame is due, or later, where frames that follow it soon share its block."""
        if not len(dues) or self.frame_by_frame:
            return float(dues[0]) if len(dues) else 0.0
        last_granted = dues[max(int(np.searchsorted(dues, np.inf)) - 1, 0)]
        return min(float(dues[0]) + patience, float(last_granted))

    def _dues(self, indices: NDArray[np.int64]) -> NDArray[np.float64]:
        """When these frames are complete, on the monotonic clock [s]; infinite while no trigger has granted one."""
        dues = np.full(len(indices), np.inf)
        granted = int(np.searchsorted(indices, self._granted))
        start = 0
        while start < granted:  # one turn per grant, not per frame
            position = bisect_right(self._grants, int(indices[start]), key=_first) - 1
            grant = self._grants[max(position, 0)]
            bound = self._grants[position + 1].first if position + 1 < len(self._grants) else self._granted
            stop = int(np.searchsorted(indices[:granted], bound))
            inside = 0.0 if self._gated else (indices[start:stop] - grant.first) * self.period + self.exposure
            dues[start:stop] = grant.begin + inside
            start = stop
        return dues

    def _next_begin(self) -> float:
        """When the exposure of a frame after all that are granted could begin."""
        if not self._grants:
            return -np.inf
        last = self._grants[-1]
        return last.begin + (self._granted - last.first) * self.period

    def _forget_delivered(self) -> None:
        """Keep the grants that frames still to be delivered belong to, and the last."""
        used = bisect_right(self._grants, self.delivered, key=_first) - 1
        del self._grants[: max(used, 0)]

    def _await_cut(self) -> None:
        if not self._changed.wait_for(lambda: not self._held, HOLD_LIMIT):
            raise AgreementError(
                f"a stop was announced at frame {self.delivered}, but the ranks did not agree where to end within "
                f"{HOLD_LIMIT:.0f} s: look at the other receivers and the control, then Reset"
            )


def _nothing() -> None:
    """Nobody wants to know."""


def _first(grant: Grant) -> int:
    return grant.first


OnTrigger = Callable[[int], None]
"""Called by a camera's control half: frames below this global index may be exposed."""
