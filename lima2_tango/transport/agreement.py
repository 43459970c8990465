"""How the ranks of a run start together, stop at one common frame, and learn of each other's failures.

One rank coordinates (the control's); every receiver takes part. Nobody waits for another without a bound.

    control.Start --> RollCall --> Here (member?) ... Armed (each receiver's own Start) --> Go
    any Stop      --> StopRequest --> Hold --> Held (delivered) --> Cut (largest of them)
    trigger       --> Grant
    end, failure  --> Done (error) --> the others stop; all done: the run is over
    each second   --> Beat and its echo; who is silent for long --> Lost --> the others stop

Here is the coordinator's side, in `participant` that of the others.
"""

import time
from collections.abc import Callable
from threading import Condition, Thread
from zlib import crc32

from lima2_tango.core.series import Tag

from .channel import Channel
from .coordinated import CoordinatedRun, Member, Phase
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
from .pulse import SILENCE
from .roster import Roster

START_TIMEOUT = 2.0
"""Ranks that have not agreed on the start after this long are named, and the run fails [s]."""
STOP_TIMEOUT = 2.0
"""A rank that has not said how far it is after this long is left out of the cut [s]."""
_UNSURE = "its frames may not match those of the others; look at its log"


class Coordinator:
    """Brings the participants of one run at a time to agreement; lives beside the control device."""

    def __init__(self, channel: Channel, roster: Roster) -> None:
        self._channel, self._roster = channel, roster
        self._lock = Condition()
        self._run: CoordinatedRun | None = None
        self._early: dict[Member, Armed] = {}
        """Those that armed before the control was started."""
        channel.subscribe(self._handle, self._tick)

    @property
    def nb_frames(self) -> int:
        """Frames that the receivers of the current or last run have taken."""
        with self._lock:
            return self._run.nb_frames if self._run else 0

    @property
    def nb_missing(self) -> int:
        """Frames of the current or last run that the detector should have sent, and none of the receivers got."""
        with self._lock:
            run = self._run
            return max(0, run.expected - run.nb_frames) if run and run.exhausted else 0

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
        self,
        uuid: str,
        on_over: Callable[[list[str]], None],
        sharing: str = "",
        acquirer: int | None = None,
        *,
        tag: Tag = (),
        expected: int = 0,
    ) -> None:
        """Call the roll for this run; `on_over` gets the errors of its participants when the last one is done.

        `sharing` is how the control was prepared to share the detector; `acquirer` the receiver whose process
        acquires for all, -1 for this process; None where each acquires. `tag` is told to all. With `expected` the run
        ends when the receivers together have so many frames, whoever has which; 0 where each knows its own.
        """
        with self._lock:
            self._run = CoordinatedRun(
                uuid, on_over, time.monotonic() + START_TIMEOUT, sharing=sharing, tag=tag, expected=expected
            )
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

    def _end_early(self, run: CoordinatedRun, exhausted: bool) -> None:
        """Somebody asked for the end, or the detector has no more frames."""
        if not exhausted:
            self.stop()
        elif run.phase is Phase.RUNNING:
            run.exhausted = True
            self._hold(run)

    def _hold(self, run: CoordinatedRun) -> None:
        run.phase, run.deadline = Phase.CUTTING, time.monotonic() + STOP_TIMEOUT
        self._tell(run, Hold(run.uuid))
        self._cut_if_known(run)

    def _tell(self, run: CoordinatedRun, message: Message) -> None:
        for rank in run.ranks:
            self._channel.send(rank, message)

    def _handle(self, source: int, message: Message) -> None:
        if isinstance(message, Beat) and not message.echo:
            self._channel.send(source, Beat(message.run, echo=True))
        with self._lock:
            run = self._run
            if run is not None:
                run.pulse.heard(source)
            if run is not None and message.run == run.uuid:
                self._take(run, source, message)
            elif isinstance(message, Armed):
                self._early[source, message.rank] = message

    def _take(self, run: CoordinatedRun, source: int, message: Message) -> None:
        match message:
            case Here(member=member, rank=rank):
                run.answered.add(source)
                if member:
                    run.members.add((source, rank))
                self._go_if_ready(run)
            case Armed(rank=rank):
                run.armed[source, rank] = message
                self._go_if_ready(run)
            case StopRequest() | Exhausted():
                self._end_early(run, isinstance(message, Exhausted))
            case Held(rank=rank, delivered=delivered):
                run.held[source, rank] = delivered
                self._cut_if_known(run)
            case Progress(rank=rank, frames=frames):
                run.frames[source, rank] = frames
                self._cut_if_all(run)
            case Done(rank=rank, frames=frames, error=error):
                run.ended((source, rank), frames, error)
                self._end_if_done(run)

    def _go_if_ready(self, run: CoordinatedRun) -> None:
        everyone = set(self._roster.receivers())
        if run.phase is not Phase.STARTING or run.answered != everyone or not set(run.armed) >= run.members:
            return
        if refusal := run.refusal():
            self._fail(run, refusal)
        else:
            self._go(run)

    def _go(self, run: CoordinatedRun) -> None:
        run.phase = Phase.RUNNING
        run.pulse.begin(run.ranks)
        receivers = run.receivers
        windows = [run.armed[member].window for member in receivers]
        ranks = [rank for rank, _ in receivers]
        acquirer = next((rank for rank, number in run.members if number == ACQUIRER), -1)
        self._tell(run, Go(run.uuid, len(receivers), crc32(run.uuid.encode()), windows, ranks, acquirer, [*run.tag]))
        if run.granted:
            self._tell(run, Grant(run.uuid, run.granted))
        if run.stopping:
            self._hold(run)

    def _cut_if_known(self, run: CoordinatedRun) -> None:
        # Those that are done answer too: what they delivered counts.
        waiting = run.members - set(run.held)
        if run.phase is Phase.CUTTING and not waiting:
            run.phase = Phase.ENDING
            self._tell(run, Cut(run.uuid, max(run.held.values(), default=0)))
            if not run.members:
                self._over(run)

    def _cut_if_all(self, run: CoordinatedRun) -> None:
        """All receivers together have every frame that was asked for."""
        if run.phase is Phase.RUNNING and run.expected and run.nb_frames >= run.expected:
            run.phase = Phase.ENDING
            self._tell(run, Cut(run.uuid, run.expected))

    def _end_if_done(self, run: CoordinatedRun) -> None:
        if any(run.done.values()):
            self.stop()
        self._cut_if_known(run)
        if set(run.done) >= run.members and run.phase is not Phase.STARTING:
            self._over(run)

    def _over(self, run: CoordinatedRun) -> None:
        if run.phase is not Phase.OVER:
            run.phase = Phase.OVER
            self._channel.keep_awake(self, False)
            self._lock.notify_all()
            errors = [error for error in run.done.values() if error]
            # Not by the channel's thread: a detector that is told to stop may take its time.
            Thread(target=run.on_over, args=[errors], name="lima2-run-over").start()

    def _fail(self, run: CoordinatedRun, reason: str) -> None:
        for rank in {*self._roster.receivers(), *run.ranks}:
            self._channel.send(rank, Abort(run.uuid, reason))
        run.done = {(self._channel.rank, ACQUIRER): reason}
        self._over(run)

    def _tick(self) -> None:
        with self._lock:
            run = self._run
            if run is None:
                return
            if run.phase in {Phase.RUNNING, Phase.ENDING}:
                self._miss(run)
            if time.monotonic() < run.deadline:
                return
            if run.phase is Phase.STARTING and run.stopping:
                run.members &= set(run.armed)
                self._go(run)
            elif run.phase is Phase.STARTING:
                self._fail(run, run.missing(self._roster.receivers(), START_TIMEOUT))
            elif run.phase is Phase.CUTTING:
                late = f"did not answer the stop within {STOP_TIMEOUT:.3g} s: {_UNSURE}"
                self._lose(run, sorted(run.members - set(run.held)), late)

    def _miss(self, run: CoordinatedRun) -> None:
        """Go on without those that are silent."""
        if silent := run.silent():
            self._lose(run, silent, f"has given no sign of life for {SILENCE:.3g} s: {_UNSURE}, restart the job")

    def _lose(self, run: CoordinatedRun, members: list[Member], reason: str) -> None:
        """Nobody waits any longer for these."""
        for member in members:
            run.give_up(member, reason)
            self._tell(run, Lost(run.uuid, member[1], run.done[member]))
        self._cut_if_known(run)
        self._end_if_done(run)
