"""The control drives whole runs: it prepares, starts, follows and ends all receivers, as a conductor would.

All or none: what a receiver refuses, none of them does. Commands that change the receivers come one at a time; Stop
and Reset do not wait for them, but make them give up, and Abort waits for them to do so.
"""

import time
import uuid
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from threading import Event, Lock, RLock

from lima2_tango.core.errors import AgreementError, NotAvailableError, StateError
from lima2_tango.core.state import State
from lima2_tango.saving.layout import SeriesMetadata

from .controller import Controller, Driver
from .driven import DrivenRun
from .follow import Follower
from .plan import Plan
from .products import check_masters, saved_products, series_metadata
from .ranks import Answers, Rank, check_answering, check_prepared, erase_others, log_failures, on_all, release
from .runlog import Record, RunLog, RunState

ABORT_LIMIT = 10.0
"""An abort waits this long for the run to end; receivers that do not answer cost it two answers more [s]."""
CLASH_PATIENCE = 0.5
"""Of two clients that prepare at the same instant the one whose parameters came last wins: it waits this long for the
other to be refused [s]."""
ACQUIRED_LIMIT = 5.0
"""A Prepare waits this long for the receivers of the last run to be idle [s]."""
KEPT = 2
"""Runs whose processing devices are kept, the current one included."""


class Drive:
    """All ranks of the runs that the control drives; the controller is the detector's side of them."""

    def __init__(self, controller: Controller, connect: Callable[[], Sequence[Rank]]) -> None:
        """`connect` gives the receivers of the job, in order of rank; it raises Lima2Error where some are missing."""
        self.log = RunLog()
        self.on_progress: list[Callable[[], None]] = []
        """Told each time that something new is known of the current run."""
        self.run: DrivenRun | None = None
        """The current or last one."""
        self._controller = controller
        self._connect = connect
        self._busy = RLock()
        self._giving_up = Lock()
        self._stops = 0
        """How often somebody asked for the end: a Prepare under way gives up when this grows."""
        self._live: list[DrivenRun] = []
        self._recent: list[str] = []
        """uuids of the last runs, newest last."""
        self._leaving = Event()
        self._forgiven = False
        """Reset came after the last run."""

    @property
    def driving(self) -> bool:
        """The run that was prepared last, prepared or on, is ours."""
        return self._controller.driver is Driver.CONTROL and self.run is not None

    @property
    def nb_frames_acquired(self) -> int:
        """Frames that the receivers have taken in the current or last run, whoever drives it."""
        return self._controller.nb_frames_acquired

    @property
    def last_error(self) -> str:
        """What went wrong in the current or last run; empty when nothing did, and after Reset."""
        controller = self._controller.error
        if controller is not None:
            return str(controller)
        return "" if self.run is None or self._forgiven else self.run.error

    def receivers(self) -> Sequence[Rank]:
        """All receivers, in order of rank; raises Lima2Error where some have not reported."""
        return self._connect()

    def records(self) -> list[Record]:
        """The last runs, newest first."""
        for run in list(self._live):
            self.log.put(run.record())
        return self.log.records()

    def record(self, uuid: str) -> Record:
        """Raises NotAvailableError for a run that is not remembered."""
        self.records()
        return self.log.record(uuid)

    def build(self) -> None:
        """The fallible part of Prepare that both drivers share."""
        try:
            self._controller.build()
        except BaseException:
            if self._controller.machine.state is State.IDLE and self._busy.acquire(blocking=False):
                try:  # nobody else is about to start what is prepared
                    self._give_up_prepared()
                finally:
                    self._busy.release()
            raise

    def prepare(self) -> str:
        """Prepare all receivers and the detector, or none; returns the new run's uuid.

        `build` has to come before, by the same thread. Raises Lima2Error naming who refused, and why.
        """
        with self._one_at_a_time("Prepare", CLASH_PATIENCE), self._controller.held(Driver.CONTROL):
            before = self._stops
            try:
                self._give_up_prepared()
                run = self._planned()
                self._prepare_all(run, before)
                self._begin_log(run)
                self._check_not_stopped(before)
            except BaseException:
                self._controller.unprepare()
                self._give_up_prepared()
                raise
            erase_others(run.ranks, {*self._recent, *(live.uuid for live in self._live)})
            return run.uuid

    def acquire(self) -> str:
        """Prepare and start; returns the uuid."""
        with self._one_at_a_time("Acquire", CLASH_PATIENCE), self._controller.held(Driver.CONTROL):
            identity = self.prepare()
            self.start()
            return identity

    def check_start(self) -> None:
        """Raise where `start` would be refused now: StateError, or AgreementError naming a receiver."""
        self._controller.check_start()
        if self.driving and self.run is not None:
            check_prepared(self.run.ranks, self.run.uuid)

    def start(self) -> None:
        """Start everything that was prepared; a failure of one stops all."""
        run = self.run
        if run is None or not self.driving:
            self._controller.start()
            return
        with self._one_at_a_time("Start"):
            self._controller.check_start()
            self._begin(run)
            answers = self._start_all(run)
            Follower(run, self._controller, self._metadata, self._followed, self._leaving).start()
            answers.check("Start")
            if run.trouble:
                raise AgreementError(run.error)

    def stop(self) -> None:
        """End the run at a common frame, or give up what is prepared; safe in every state."""
        self._stops += 1
        prepared = self._controller.machine.state is State.PREPARED
        self._controller.stop()
        if prepared:
            self._give_up_prepared()

    def close(self) -> None:
        """As Stop; the control is IDLE at once."""
        self.stop()
        self._controller.close()

    def reset(self) -> None:
        """Any state -> IDLE, on the receivers of a run of ours too; a run that is on is stopped."""
        self._stops += 1
        self._forgiven = True
        self._controller.reset()
        if self.run is None or not self.driving:
            return
        self._give_up_prepared()
        log_failures("Reset", on_all(self.run.ranks, lambda _, rank: rank.reset()))

    def abort(self) -> None:
        """Stop, then Reset once the run is over; raises StateError where it is not over in time."""
        deadline = time.monotonic() + ABORT_LIMIT
        self.stop()
        with self._one_at_a_time("Abort", ABORT_LIMIT):
            run, left = self.run, max(0.0, deadline - time.monotonic())
            if run is not None and self.driving and run.state is not RunState.PREPARED:
                over = run.acquired.wait(left)
            else:
                over = self._controller.machine.wait(State.IDLE, State.FAULT, State.PREPARED, timeout=left)
            self.reset()
            if not over:
                raise StateError(
                    f"the receivers have not stopped within {ABORT_LIMIT:.0f} s; the control is reset: see their logs"
                )

    def shut_down(self) -> None:
        """The process goes down: nobody is followed any more."""
        self._leaving.set()

    def current(self) -> DrivenRun:
        """The current or last run; raises NotAvailableError before the first."""
        if self.run is None:
            raise NotAvailableError(
                "this control has driven no run yet: Acquire, or Prepare with an empty uuid and Start"
            )
        return self.run

    @contextmanager
    def _one_at_a_time(self, command: str, patience: float = 0.0) -> Generator[None]:
        """Commands that change the receivers; another client's is refused after `patience` seconds."""
        if not self._busy.acquire(timeout=patience):
            raise StateError(f"cannot {command} while another client's Prepare or Start is under way: try again")
        try:
            yield
        finally:
            self._busy.release()

    def _planned(self) -> DrivenRun:
        """The next run; everything that can be refused without asking a receiver."""
        last = self.run
        if last is not None and last.state is not RunState.PREPARED and not last.acquired.wait(ACQUIRED_LIMIT):
            raise StateError(f"the receivers of run {last.uuid} are still being stopped: look at them, then Reset")
        ranks = self._connect()
        if not ranks:
            raise StateError("this control has no receivers: start them with it, in one MPI job")
        check_answering(ranks)
        acq, choice = self._controller.armed_params, self._controller.chosen()
        plan = Plan(str(uuid.uuid1()), acq, choice, len(ranks), self._controller.dealt)
        plan.check()
        check_masters(plan)
        return DrivenRun(plan, ranks)

    def _prepare_all(self, run: DrivenRun, stops: int) -> None:
        plan = run.plan
        try:
            answers = on_all(run.ranks, lambda number, rank: rank.prepare(plan.uuid, *plan.texts(number)), None)
            answers.check("Prepare")
            run.specs = {made.saving: run.ranks[0].spec(plan.uuid, made.info) for made, _ in saved_products(plan)}
            self._check_not_stopped(stops)
            self._controller.prepare(plan.uuid, Driver.CONTROL)
        except BaseException:
            release(run.ranks, run.uuid)
            raise

    def _check_not_stopped(self, stops: int) -> None:
        """Raise StateError where somebody has asked for the end since `stops` was counted."""
        if self._stops != stops:
            raise StateError("another client stopped this Prepare: nothing is prepared")

    def _begin_log(self, run: DrivenRun) -> None:
        self.run, self._forgiven = run, False
        self._live.append(run)
        self.log.put(run.record())
        self._recent = [*self._recent[-KEPT + 1 :], run.uuid]
        self._tell()

    def _begin(self, run: DrivenRun) -> None:
        """From now on its follower ends the run, and nobody else; StateError where a Stop came first."""
        with self._giving_up:
            if run.state is not RunState.PREPARED:
                raise StateError("another client stopped this run before it began: prepare again")
            run.state = RunState.RUNNING

    def _start_all(self, run: DrivenRun) -> Answers:
        """Receivers and detector; where one fails, all are stopped."""
        answers = on_all(run.ranks, lambda _, rank: rank.start())
        try:
            if answers.failures:
                raise AgreementError(answers.sentence("Start"))
            self._controller.start(run.agree)
        except Exception as error:  # noqa: BLE001 - boundary: the run ends with this as its error, and start raises it
            run.trouble.append(str(error))
            self._controller.stop_run(run.uuid)
            log_failures("Stop", on_all(run.ranks, lambda _, rank: rank.stop()))
            self._controller.fail(run.uuid, error)
            run.over.set()
        return answers

    def _metadata(self, plan: Plan) -> SeriesMetadata:
        return series_metadata(plan, self._controller.plugin, self._controller.camera.info())

    def _followed(self, run: DrivenRun) -> None:
        """The follower has looked; a run that has ended is only remembered."""
        if run.ended.is_set():
            self.log.put(run.record())
            with suppress(ValueError):  # another thread was first
                self._live.remove(run)
        self._tell()

    def _tell(self) -> None:
        for tell in self.on_progress:
            tell()

    def _give_up_prepared(self) -> None:
        """A run of ours that was prepared and not started ends with no frames."""
        with self._giving_up:
            run = self.run
            if run is None or run.state is not RunState.PREPARED:
                return
            log_failures("Stop", on_all(run.ranks, lambda _, rank: rank.stop()))
            run.end(RunState.STOPPED)
            self._followed(run)
