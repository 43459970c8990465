"""How the ranks of a run start together, stop at one common frame, and learn of each other's failures.

One rank coordinates (the control's); every receiver takes part. Nobody waits for another without a bound.

    control.Start --> RollCall --> Here (member?) ... Armed (each receiver's own Start) --> Go
    any Stop      --> StopRequest --> Hold --> Held (delivered) --> Cut (largest of them)
    trigger       --> Grant
    end, failure  --> Done (error) --> the others stop; all done: the run is over
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from threading import Condition, Thread
from zlib import crc32

from lima2_tango.core.errors import AgreementError
from lima2_tango.core.series import Series

from .channel import Channel
from .messages import (
    ACQUIRER,
    Abort,
    Armed,
    Cut,
    Done,
    Go,
    Grant,
    Held,
    Here,
    Hold,
    Message,
    Progress,
    RollCall,
    StopRequest,
)
from .roster import Roster

START_TIMEOUT = 2.0
"""Ranks that have not agreed on the start after this long are named, and the run fails [s]."""
STOP_TIMEOUT = 2.0
"""A rank that has not said how far it is after this long is left out of the cut [s]."""


Member = tuple[int, int]
"""MPI rank, and rank among the receivers; `ACQUIRER` for the one that acquires for all."""


class Phase(Enum):
    STARTING = "starting"
    RUNNING = "running"
    CUTTING = "cutting"
    ENDING = "ending"
    OVER = "over"


@dataclass
class _Run:
    """What the coordinator knows of the run."""

    uuid: str
    on_over: Callable[[list[str]], None]
    deadline: float
    phase: Phase = Phase.STARTING
    answered: set[int] = field(default_factory=set)
    """MPI ranks that answered the roll call."""
    members: set[Member] = field(default_factory=set)
    """Those that take part."""
    armed: dict[Member, Armed] = field(default_factory=dict)
    held: dict[Member, int] = field(default_factory=dict)
    frames: dict[Member, int] = field(default_factory=dict)
    done: dict[Member, str] = field(default_factory=dict)
    granted: int = 0
    stopping: bool = False
    sharing: str = ""
    """What the control was prepared for; empty where the job has none."""

    @property
    def receivers(self) -> list[Member]:
        """In their order."""
        return sorted((member for member in self.members if member[1] != ACQUIRER), key=lambda member: member[1])


class Coordinator:
    """Brings the participants of one run at a time to agreement; lives beside the control device."""

    def __init__(self, channel: Channel, roster: Roster) -> None:
        self._channel, self._roster = channel, roster
        self._lock = Condition()
        self._run: _Run | None = None
        self._early: dict[Member, Armed] = {}
        """Those that armed before the control was started."""
        channel.subscribe(self._handle, self._tick)

    @property
    def nb_frames(self) -> int:
        """Frames that the receivers of the current or last run have taken."""
        with self._lock:
            return sum(self._run.frames.values()) if self._run else 0

    @property
    def nb_receivers(self) -> int:
        """Receivers of the job; raises ParamError where their ranks contradict each other."""
        return len(self._roster.receivers())

    def check(self) -> None:
        """Raise AgreementError or ParamError where the ranks of the job are not all there, or contradict each other."""
        self._roster.wait()
        self._roster.receivers()

    def settle(self) -> bool:
        """Wait until the run that is being stopped is over, within the bound of a stop; False when it is not."""
        with self._lock:
            return self._lock.wait_for(
                lambda: self._run is None or not self._run.stopping or self._run.phase is Phase.OVER, 2 * STOP_TIMEOUT
            )

    def forget(self) -> None:
        """A new run is prepared: counts begin at zero."""
        with self._lock:
            self._run = None
            self._early = {}

    def start(
        self, uuid: str, on_over: Callable[[list[str]], None], sharing: str = "", acquirer: int | None = None
    ) -> None:
        """Call the roll for this run; `on_over` gets the errors of its participants when the last one is done.

        `sharing` is how the control was prepared to share the detector; `acquirer` the receiver whose process
        acquires for all, -1 for this process; None where each acquires.
        """
        with self._lock:
            self._run = _Run(uuid, on_over, time.monotonic() + START_TIMEOUT, sharing=sharing)
            if acquirer is not None:
                rank = self._channel.rank if acquirer < 0 else self._roster.receivers()[acquirer]
                self._run.members.add((rank, ACQUIRER))
            self._channel.keep_awake(self, True)
            early, self._early = self._early, {}
            for (source, _), message in early.items():
                self._handle(source, message)
            if not self._roster.receivers() and acquirer is None:
                self._run.phase = Phase.RUNNING  # a control alone runs until it is stopped or closed
        for rank in self._roster.receivers():
            self._channel.send(rank, RollCall(uuid))

    def grant(self, limit: int) -> None:
        """A trigger came: the receivers may expose the frames below `limit`."""
        with self._lock:
            run = self._run
            if run is None or run.stopping:
                return
            run.granted = max(run.granted, limit)
            if run.phase is Phase.RUNNING:
                self._tell(run, Grant(run.uuid, run.granted))

    def stop(self) -> None:
        """End the run at one common frame; without effect when there is none, and twice."""
        with self._lock:
            run = self._run
            if run is None or run.stopping or run.phase is Phase.OVER:
                return
            run.stopping = True
            if run.phase is Phase.RUNNING:
                self._hold(run)

    def _hold(self, run: _Run) -> None:
        run.phase, run.deadline = Phase.CUTTING, time.monotonic() + STOP_TIMEOUT
        self._tell(run, Hold(run.uuid))
        self._cut_if_known(run)

    def _tell(self, run: _Run, message: Message) -> None:
        for rank in {rank for rank, _ in run.members}:
            self._channel.send(rank, message)

    def _handle(self, source: int, message: Message) -> None:
        with self._lock:
            run = self._run
            if isinstance(message, Armed) and (run is None or run.uuid != message.run):
                self._early[source, message.rank] = message
                return
            if run is None or message.run != run.uuid:
                return
            match message:
                case Here(member=member, rank=rank):
                    run.answered.add(source)
                    if member:
                        run.members.add((source, rank))
                    self._go_if_ready(run)
                case Armed(rank=rank):
                    run.armed[source, rank] = message
                    self._go_if_ready(run)
                case StopRequest():
                    self.stop()
                case Held(rank=rank, delivered=delivered):
                    run.held[source, rank] = delivered
                    self._cut_if_known(run)
                case Progress(rank=rank, frames=frames):
                    run.frames[source, rank] = frames
                case Done(rank=rank, frames=frames, error=error):
                    run.frames[source, rank], run.done[source, rank] = frames, error
                    self._end_if_done(run)

    def _go_if_ready(self, run: _Run) -> None:
        everyone = set(self._roster.receivers())
        if run.phase is not Phase.STARTING or run.answered != everyone or not set(run.armed) >= run.members:
            return
        ranks = [number for _, number in run.receivers]
        if different := self._different(run):
            self._fail(run, different)
            return
        if not ranks or ranks != list(range(len(ranks))):
            self._fail(run, f"receivers {ranks} are prepared for this run: prepare receiver 0 and those that follow it")
            return
        self._go(run)

    @staticmethod
    def _different(run: _Run) -> str:
        """What is wrong where the participants do not share the detector in the same way; empty where they do."""
        told = {_name(member): run.armed[member].sharing for member in sorted(run.members)}
        if run.sharing:
            told["the control"] = run.sharing
        if len(set(told.values())) <= 1:
            return ""
        listed = ", ".join(f"{who} {sharing}" for who, sharing in told.items())
        return f"$.det.topology is not the same on all devices ({listed}): write the same acq_params to all"

    def _go(self, run: _Run) -> None:
        run.phase = Phase.RUNNING
        receivers = run.receivers
        windows = [run.armed[member].window for member in receivers]
        ranks = [rank for rank, _ in receivers]
        acquirer = next((rank for rank, number in run.members if number == ACQUIRER), -1)
        self._tell(run, Go(run.uuid, len(receivers), crc32(run.uuid.encode()), windows, ranks, acquirer))
        if run.granted:
            self._tell(run, Grant(run.uuid, run.granted))
        if run.stopping:
            self._hold(run)

    def _cut_if_known(self, run: _Run) -> None:
        # Those that are done answer too: what they delivered counts.
        waiting = run.members - set(run.held)
        if run.phase is Phase.CUTTING and not waiting:
            run.phase = Phase.ENDING
            self._tell(run, Cut(run.uuid, max(run.held.values(), default=0)))
            if not run.members:
                self._over(run)

    def _end_if_done(self, run: _Run) -> None:
        if any(run.done.values()):
            self.stop()
        self._cut_if_known(run)
        if set(run.done) >= run.members and run.phase is not Phase.STARTING:
            self._over(run)

    def _over(self, run: _Run) -> None:
        if run.phase is not Phase.OVER:
            run.phase = Phase.OVER
            self._channel.keep_awake(self, False)
            self._lock.notify_all()
            errors = [error for error in run.done.values() if error]
            # Not by the channel's thread: a detector that is told to stop may take its time.
            Thread(target=run.on_over, args=[errors], name="lima2-run-over").start()

    def _fail(self, run: _Run, reason: str) -> None:
        for rank in {*self._roster.receivers(), *(rank for rank, _ in run.members)}:
            self._channel.send(rank, Abort(run.uuid, reason))
        run.done = {(self._channel.rank, ACQUIRER): reason}
        self._over(run)

    def _tick(self) -> None:
        with self._lock:
            run = self._run
            if run is None or time.monotonic() < run.deadline:
                return
            if run.phase is Phase.STARTING and run.stopping:
                run.members &= set(run.armed)
                self._go(run)
            elif run.phase is Phase.STARTING:
                self._fail(run, self._who_is_missing(run))
            elif run.phase is Phase.CUTTING:
                for member in run.members - set(run.held):
                    run.held[member] = 0
                    run.done[member] = (
                        f"{_name(member)} did not answer the stop within {STOP_TIMEOUT:.3g} s: "
                        "its frames may not match those of the others; look at its log"
                    )
                self._cut_if_known(run)
                self._end_if_done(run)

    def _who_is_missing(self, run: _Run) -> str:
        silent = [n for n, rank in enumerate(self._roster.receivers()) if rank not in run.answered]
        unarmed = " and ".join(_name(member) for member in sorted(run.members - set(run.armed)))
        if silent:
            return (
                f"receivers {silent} did not answer within {START_TIMEOUT:.3g} s: look at their logs, restart the job"
            )
        return f"{unarmed} did not start within {START_TIMEOUT:.3g} s after its Prepare: start all together"


def _name(member: Member) -> str:
    rank, number = member
    return f"the acquisition on MPI rank {rank}" if number == ACQUIRER else f"receiver {number}"


class Participant:
    """A receiver's side of the agreement, or that of the rank that acquires for all."""

    def __init__(self, channel: Channel, roster: Roster, coordinator: Coordinator, *, acquirer: bool = False) -> None:
        """`coordinator` is this process's own, which serves only where the job has no control."""
        self._acquirer = acquirer
        self._channel, self._roster, self._coordinator = channel, roster, coordinator
        self._changed = Condition()
        self._prepared = ""
        self._run = ""
        self._go: Go | None = None
        self._abort = ""
        self._stopped = False
        self._series: Series | None = None
        self._pending: list[Callable[[Series], object]] = []
        channel.subscribe(self._handle)

    def prepared(self, uuid: str) -> None:
        """This receiver takes part in the run; an empty text takes that back."""
        with self._changed:
            self._prepared = uuid
            self._channel.keep_awake(self, bool(uuid))

    @property
    def _number(self) -> int:
        return ACQUIRER if self._acquirer else self._roster.receiver_rank()

    def agree(self, uuid: str, window: str = "", sharing: str = "") -> Go | None:
        """Say that this rank is armed and wait for the common start; None when it is stopped before.

        `window` is where others write frames for it, `sharing` how it was prepared to share the detector.
        Raises AgreementError naming who is missing after `START_TIMEOUT`.
        """
        with self._changed:
            self._run, self._go, self._abort, self._series, self._pending = uuid, None, "", None, []
            self._stopped = False
        if not self._roster.has_control and self._roster.coordinator == self._channel.rank:
            self._coordinator.start(uuid, lambda errors: None)
        self._send(Armed(uuid, self._number, window, sharing))
        return self._await_go(START_TIMEOUT + 0.5)

    def _await_go(self, bound: float) -> Go | None:
        with self._changed:
            # A stop does not end the wait: where the others have begun, this receiver has its share to deliver.
            self._changed.wait_for(lambda: self._go or self._abort, bound)
            if self._go is None and not self._stopped:
                raise AgreementError(
                    self._abort or f"the control was not started within {bound:.3g} s: start all devices together"
                )
            return self._go

    def attach(self, series: Series) -> None:
        """Let grants, holds and cuts reach this series, those that came already included."""
        with self._changed:
            self._series = series
            for tell in self._pending:
                tell(series)
            self._pending = []

    def cut_here(self) -> None:
        """This process goes down: end the series at the last delivered frame, without asking the others."""
        with self._changed:
            self._tell(lambda series: series.leave())

    def request_stop(self, uuid: str) -> None:
        """Ask for the end of the run, on all receivers at one common frame."""
        self._send(StopRequest(uuid))
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def progress(self, uuid: str, frames: int) -> None:
        self._send(Progress(uuid, self._number, frames))

    def done(self, uuid: str, frames: int, error: str) -> None:
        """This receiver takes no more frames of the run."""
        with self._changed:
            if self._prepared == uuid:
                self._prepared = ""
                self._channel.keep_awake(self, False)
        self._send(Done(uuid, self._number, frames, error))

    def _send(self, message: Message) -> None:
        self._channel.send(self._roster.coordinator, message)

    def _handle(self, source: int, message: Message) -> None:
        with self._changed:
            match message:
                case RollCall(run=uuid) if not self._acquirer:
                    member = uuid == self._prepared
                    self._channel.send(source, Here(uuid, member, self._number))
                case Go(run=uuid) if uuid == self._run:
                    self._go = message
                case Abort(run=uuid, reason=reason) if uuid == self._run:
                    self._abort = reason
                case Grant(run=uuid, limit=limit) if uuid == self._run:
                    self._tell(lambda series: series.grant(limit))
                case Hold(run=uuid) if uuid == self._run:
                    self._tell(lambda series: series.hold())
                    delivered = self._series.delivered if self._series else 0
                    self._send(Held(uuid, self._number, delivered))
                case Cut(run=uuid, index=index) if uuid == self._run:
                    self._tell(lambda series: series.cut(index))
            self._changed.notify_all()

    def _tell(self, what: Callable[[Series], object]) -> None:
        """Tell the series now, or as soon as it is attached."""
        if self._series is None:
            self._pending.append(what)
        else:
            what(self._series)
