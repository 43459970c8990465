"""A receiver's side of the agreement (`agreement`), or that of the rank that acquires for all."""

from collections.abc import Callable
from threading import Condition

from lima2_tango.core.errors import AgreementError
from lima2_tango.core.series import Series

from .agreement import START_TIMEOUT, Coordinator
from .channel import Channel
from .messages import (
    ACQUIRER,
    Abort,
    Armed,
    Beat,
    Cut,
    Done,
    Exhausted,
    Go,
    Grant,
    Held,
    Here,
    Hold,
    Lost,
    Message,
    Progress,
    RollCall,
    StopRequest,
)
from .pulse import SILENCE, Pulse
from .roster import Roster


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
        self._pulse = Pulse()
        self._on = False
        """Between the common start and this rank's own end."""
        channel.subscribe(self._handle, self._tick)

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

    def exhausted(self, uuid: str) -> None:
        """The detector is done, whatever else was asked for: all receivers end with what they have."""
        self._send(Exhausted(uuid))

    def progress(self, uuid: str, frames: int) -> None:
        self._send(Progress(uuid, self._number, frames))

    def done(self, uuid: str, frames: int, error: str) -> None:
        """This receiver takes no more frames of the run."""
        with self._changed:
            self._on = False
            if self._prepared == uuid:
                self._prepared = ""
                self._channel.keep_awake(self, False)
        self._send(Done(uuid, self._number, frames, error))

    def _send(self, message: Message) -> None:
        self._channel.send(self._roster.coordinator, message)

    def _handle(self, source: int, message: Message) -> None:
        with self._changed:
            self._pulse.heard(source)
            match message:
                case RollCall(run=uuid) if not self._acquirer:
                    member = uuid == self._prepared
                    self._channel.send(source, Here(uuid, member, self._number))
                case Go(run=uuid) if uuid == self._run:
                    self._go, self._on = message, True
                    self._pulse.begin([source])
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
                case Lost(run=uuid, rank=rank, reason=reason) if uuid == self._run:
                    self._tell(lambda series: series.lose(rank, reason))
            self._changed.notify_all()

    def _tick(self) -> None:
        """Say that this rank lives, and look whether the one that coordinates does."""
        with self._changed:
            if not self._on:
                return
            if self._pulse.due():
                self._send(Beat(self._run))
            if self._pulse.silent():
                self._on = False
                reason = (
                    f"MPI rank {self._roster.coordinator}, which brings the others to agreement, has given no sign of "
                    f"life for {SILENCE:.3g} s: this rank has ended where it was; look at the log of that one, restart "
                    "the job"
                )
                self._tell(lambda series: series.leave(reason))

    def _tell(self, what: Callable[[Series], object]) -> None:
        """Tell the series now, or as soon as it is attached."""
        if self._series is None:
            self._pending.append(what)
        else:
            what(self._series)
