"""Follows a run that the control drives, from its start to its last file, and ends it."""

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace
from threading import Event, Thread

from lima2_tango.core.errors import AgreementError, Lima2Error
from lima2_tango.core.state import State
from lima2_tango.saving.layout import SeriesMetadata
from lima2_tango.transport import pulse

from .controller import Controller
from .driven import DrivenRun
from .plan import Plan
from .products import write_masters
from .ranks import Acquiring, Processing
from .runlog import RunState

log = logging.getLogger(__name__)

PERIOD = 0.1
"""Between two looks at the receivers [s]."""
SILENCE = pulse.SILENCE
"""A receiver that has not answered for so long is lost to the run [s]: as long as the ranks wait for each other, so
that one that is away for less costs nothing, and one that is away for longer is lost to all."""
STOP_LIMIT = 6.0
"""A run that lost a receiver ends within this: the others agree on their last frame in less [s]."""
SETTLE_LIMIT = 3.0
"""Receivers that answer are idle this soon after they agreed on the end [s]."""
STALLED = 60.0
"""Processing that neither ends nor advances for so long is given up [s]."""
FAULT_PATIENCE = 2.0
"""The same for a receiver whose acquisition failed and that has nothing queued [s]."""

FINAL = (State.IDLE, State.FAULT)


class Follower:
    """One thread per run: looks every 100 ms; waits for nobody without a bound."""

    def __init__(
        self,
        run: DrivenRun,
        controller: Controller,
        metadata: Callable[[Plan], SeriesMetadata],
        tell: Callable[[DrivenRun], None],
        leaving: Event,
    ) -> None:
        """`tell` is called after each look; `leaving` is set when the process goes down."""
        self._run, self._controller, self._metadata, self._tell, self._leaving = (
            run,
            controller,
            metadata,
            tell,
            leaving,
        )
        now = time.monotonic()
        count = len(run.ranks)
        self._answered, self._changed = [now] * count, [now] * count
        self._reasons = [""] * count
        self._asked: dict[int, Future[None]] = {}
        self._pool = ThreadPoolExecutor(count, f"lima2-look-{run.uuid[:8]}")

    def start(self) -> None:
        Thread(target=self._main, name=f"lima2-follow-{self._run.uuid[:8]}").start()

    def _main(self) -> None:
        run = self._run
        try:
            self._follow_acquisition()
            self._end_acquisition()
            self._follow_processing()
            self._write_masters()
        except Exception as error:
            log.exception("the control cannot follow run %s", run.uuid)
            run.trouble.append(f"the control cannot follow the run: {error}")
            self._stop_all()
            self._end_acquisition()
        finally:
            self._pool.shutdown(wait=False, cancel_futures=True)
            run.end()
            self._tell(run)

    def _follow_acquisition(self) -> None:
        """Until every receiver that answers has taken its last frame."""
        deadline = float("inf")
        while not self._leaving.is_set():
            over = self._run.over.is_set()
            self._look()
            if self._lose_silent():
                self._stop_all()
            running = [n for n in self._present() if self._run.acquiring[n].state not in FINAL]
            if over and not running:
                return
            now = time.monotonic()
            deadline = min(deadline, now + SETTLE_LIMIT if over else deadline)
            deadline = min(deadline, now + STOP_LIMIT if self._run.faults else deadline)
            if now > deadline:
                for number in [n for n in running if now - self._answered[n] < SETTLE_LIMIT]:
                    self._run.faults[number] = "it is still busy after the end of the run: look at its log, then Reset"
                if not any(self._run.acquiring[n].state not in FINAL for n in self._present()):
                    return

    def _end_acquisition(self) -> None:
        """The control is IDLE, or in FAULT; the receivers may be prepared for the next run."""
        run = self._run
        failure = AgreementError(run.error) if run.acquisition_failed else None
        run.state = RunState.PROCESSING
        run.acquired.set()
        self._controller.end(run.uuid, failure)
        self._tell(run)

    def _follow_processing(self) -> None:
        """Until all counts are final, or nothing more is to be expected."""
        while not self._leaving.is_set():
            self._look()
            self._lose_silent()
            if all(self._is_done(number) for number in self._present()):
                return

    def _is_done(self, number: int) -> bool:
        said, still = self._run.processing[number], time.monotonic() - self._changed[number]
        if said.finished:
            return True
        if self._run.acquiring[number].state is State.FAULT and not said.blocks_queued and still > FAULT_PATIENCE:
            return True
        if still > STALLED:
            self._run.faults[number] = (
                f"its processing has not advanced for {STALLED:.0f} s, {said.blocks_queued} blocks wait: look at its "
                "disk and its log; its last file is not complete"
            )
        return still > STALLED

    def _write_masters(self) -> None:
        run = self._run
        if self._leaving.is_set():
            return
        try:
            run.masters = write_masters(run.plan, run.specs, run.counts, run.closed, self._metadata(run.plan))
        except Lima2Error as error:
            run.trouble.append(f"the master file is not written: {error}")

    def _look(self) -> None:
        """Ask every rank, but those that still owe an answer, and give them a period to say."""
        begin = time.monotonic()
        for number in self._present():
            if number not in self._asked:
                self._asked[number] = self._pool.submit(self._ask, number)
        done, _ = wait(self._asked.values(), PERIOD)
        self._asked = {number: future for number, future in self._asked.items() if future not in done}
        for future in done:
            future.result()
        self._tell(self._run)
        self._leaving.wait(max(0.0, begin + PERIOD - time.monotonic()))

    def _ask(self, number: int) -> None:
        run, rank = self._run, self._run.ranks[number]
        acquiring: Acquiring | None = None
        try:
            if not run.acquired.is_set():
                acquiring = rank.acquiring()
            processing = rank.processing(run.uuid)
        except Lima2Error as error:
            self._reasons[number] = error.what
            return
        self._answered[number] = time.monotonic()
        if acquiring is not None and not run.acquired.is_set():
            run.received.add(max(0, acquiring.nb_frames - run.acquiring[number].nb_frames))
            run.acquiring[number] = acquiring
        self._note(number, processing)

    def _note(self, number: int, said: Processing) -> None:
        if replace(said, saving_rate=0.0) != replace(self._run.processing[number], saving_rate=0.0):
            self._changed[number] = time.monotonic()
        self._run.processing[number] = said

    def _lose_silent(self) -> bool:
        """Name the receivers that have become silent; True when there are new ones."""
        now = time.monotonic()
        lost = [
            n for n in self._present() if now - self._answered[n] > SILENCE and not self._run.processing[n].finished
        ]
        for number in lost:
            reason = self._reasons[number] or "a call has not come back"
            self._run.faults[number] = (
                f"it has not answered for {SILENCE:.0f} s ({reason}): look at its log; the files that it had completed "
                "are whole"
            )
            log.error("run %s lost receiver %d: %s", self._run.uuid, number, reason)
        return bool(lost)

    def _stop_all(self) -> None:
        """End the run on those that are left, at a frame that they agree on."""
        self._controller.stop_run(self._run.uuid)

    def _present(self) -> list[int]:
        return [number for number in range(len(self._run.ranks)) if number not in self._run.faults]
