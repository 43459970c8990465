"""One acquisition of one receiver, from its start to its last word."""

import logging
import time
from collections.abc import Callable
from threading import Event, Lock, Thread
from typing import Any

import numpy as np

from lima2_tango.core.acquisition import AcquisitionParams
from lima2_tango.core.errors import AgreementError, DataLossError, Lima2Error, ParamError, StateError
from lima2_tango.core.frame import Block, EndOfSeries, FrameSpec
from lima2_tango.core.series import Series
from lima2_tango.processing.pipeline import Pipeline
from lima2_tango.processing.plugin import PipelinePlugin
from lima2_tango.transport.messages import Go
from lima2_tango.transport.participant import Participant
from lima2_tango.transport.topology import make_topology

from .feed import Feed

log = logging.getLogger(__name__)

LEAST_RUN = 0.15
"""A run shows a state other than idle for at least this long: clients poll every 50 ms [s]."""
SETTLE = 0.1
"""Between the final counts and the finished event [s]. The conductor polls the counts every 50 ms and ends its table of
frames with what it had read when the event came; and events right after a subscription can be lost."""
PROGRESS_INTERVAL = 0.02
"""The coordinator hears of progress this often at most [s]."""

Ended = Callable[["Run", Exception | None], None]
"""The acquisition of a run is over, with what went wrong in it."""


class PipelineFailed(Exception):  # noqa: N818 - carries a processing error through the acquisition's loop
    """The pipeline refused a block; its cause says why."""


class Run:
    """Frames from the camera into the pipeline. One thread, from Start until the pipeline has finished."""

    def __init__(
        self,
        uuid: str,
        params: AcquisitionParams,
        feed: Feed,
        plugin: PipelinePlugin,
        pipeline: Pipeline[Any],
        raw: FrameSpec | None = None,
    ) -> None:
        """`raw` are the frames that the camera saves beside the pipeline, where it does."""
        self.uuid = uuid
        self.params = params
        self.plugin = plugin
        self.pipeline = pipeline
        self.raw = raw
        self.nb_frames = 0
        """Frames taken from the camera."""
        self.nb_lost = 0
        """Those of them that are placeholders of lost ones."""
        self.nb_incomplete = 0
        """Those of them that lack modules, but not all."""
        self.last_error: Exception | None = None
        """What went wrong in processing."""
        self.acquired = Event()
        """Set while the camera is free: before the start, and once the last frame is taken."""
        self.acquired.set()
        self.finished = Event()
        self.on_finished: list[Callable[[], None]] = []
        """Called once, after the last row can be popped and all counts are final."""
        self.on_error: list[Callable[[], None]] = []
        self._feed = feed
        self._thread: Thread | None = None
        self._lock = Lock()
        self.begun = False
        """Started, or given up."""
        self._told = 0.0
        self._leaving = Event()
        """The process goes down: there is no time to settle."""

    def start(self, rank: int, participant: Participant, ended: Ended) -> None:
        """Begin, once; raises StateError where the run was given up meanwhile."""
        if not self._begin_once():
            raise StateError("what was prepared here was given up by another Prepare or Stop: prepare again")
        self._rank, self._participant, self._ended = rank, participant, ended
        self.acquired.clear()
        self._thread = Thread(target=self._main, name=f"lima2-run-{self.uuid[:8]}")
        self._thread.start()

    def abandon(self) -> None:
        """A run that was prepared and not started ends with no frames; without effect on any other."""
        if self._begin_once():
            self._thread = Thread(target=self._finish, args=(None,), name=f"lima2-run-{self.uuid[:8]}")
            self._thread.start()

    def _begin_once(self) -> bool:
        with self._lock:
            first, self.begun = not self.begun, True
            return first

    def end_now(self, timeout: float) -> None:
        """The process goes down: close the files with what they have, `timeout` seconds at most."""
        self._leaving.set()
        if not self.acquired.is_set():
            self._participant.cut_here()
        if not self.join(timeout / 2):
            self.pipeline.abort(Lima2Error("the server was ended during the run"))
            self.join(timeout / 2)

    def forget(self) -> None:
        """Nobody is told any more."""
        self.on_finished.clear()
        self.on_error.clear()

    def join(self, timeout: float) -> bool:
        """Wait for the last word, `timeout` seconds at most; False when it is not said yet."""
        if self._thread is not None:
            self._thread.join(timeout)
            return not self._thread.is_alive()
        return True

    def _main(self) -> None:
        begin, failure, processing_failure = time.monotonic(), None, None
        try:
            self._acquire()
        except PipelineFailed as error:
            processing_failure = error.__cause__
        except Exception as error:  # noqa: BLE001 - boundary: the receiver's loop turns everything into FAULT
            failure = error
        self._feed.leave()
        if failure is not None:
            log.error("acquisition %s failed: %s", self.uuid, failure)
        _sleep_until(begin + LEAST_RUN)
        self._participant.done(self.uuid, self.nb_frames, _told(failure or processing_failure, self._rank))
        self.acquired.set()
        self._ended(self, failure)
        if failure is None or not self.pipeline.fails_activation:
            self._finish(processing_failure)

    def _acquire(self) -> None:
        self._feed.open()
        go = self._participant.agree(self.uuid, self._feed.window, str(self.params.sharing))
        if go is None:  # stopped before it began
            return
        topology = make_topology(self.params.dispatch, go.receivers, go.seed, self.params.sharing)
        series = Series(self.params.acq, topology.acquired(self._rank), self._rank)
        series.tag = go.tag
        series.on_pause = self._tell_progress
        series.on_end = lambda: self._participant.exhausted(self.uuid)
        self._participant.attach(series)
        with self._feed.joined(go, series, self._ask_for_stop) as items:
            self._check_table(go)
            self._activate(go)
            for item in items:
                if isinstance(item, EndOfSeries):
                    self._check_nothing_lost(item)
                else:
                    self._take(item)
        if series.orphaned:
            raise AgreementError(series.orphaned)
        if series.overrun:
            raise AgreementError(
                f"the other receivers ended before frame {series.end}, this one had gone on to frame "
                f"{series.delivered - 1}: it did not answer the stop in time; whole is only what is before"
            )

    def _check_table(self, go: Go) -> None:
        """Whoever drives must read who got which frame where nobody knows that before; raises ParamError."""
        asked = getattr(self.pipeline.params, "frame_idx_enabled", True)
        if self.params.pulled and go.receivers > 1 and not asked:
            reason = (
                f"{go.receivers} receivers take what comes to them next, which only a conductor of topology dynamic "
                "can follow: start it so, or choose $.det.topology distributed_processing"
            )
            raise ParamError("$.frame_idx_enabled", asked, reason)

    def _activate(self, go: Go) -> None:
        if self.pipeline.fails_activation:
            raise Lima2Error("the pipeline fails its activation, as its parameter failed_on_activate asks")
        self.pipeline.on_failure = self._ask_for_stop
        self.pipeline.activate(go.receivers)

    def _ask_for_stop(self) -> None:
        self._participant.request_stop(self.uuid)

    def _take(self, block: Block) -> None:
        count = len(block)
        lost = 0 if block.valid is None else count - int(np.count_nonzero(block.valid))
        incomplete = 0 if block.missing is None else int(np.count_nonzero(block.missing)) - lost
        try:
            self.pipeline.put(block)
        except Exception as error:
            raise PipelineFailed from error
        self.nb_frames += count
        self.nb_lost += lost
        self.nb_incomplete += incomplete
        if time.monotonic() - self._told > PROGRESS_INTERVAL:
            self._tell_progress()

    def _tell_progress(self) -> None:
        self._told = time.monotonic()
        self._participant.progress(self.uuid, self.nb_frames)

    def _check_nothing_lost(self, end: EndOfSeries) -> None:
        if end.nb_frames != self.nb_frames:
            raise DataLossError(
                f"the camera made {end.nb_frames} frames for this receiver, but {self.nb_frames} arrived"
            )

    def _finish(self, failure: BaseException | None) -> None:
        """Complete the pipeline; whatever happens, say once that it is finished."""
        try:
            if failure is None:
                self.pipeline.finish()
        except Exception as error:  # noqa: BLE001 - boundary: the receiver's loop reports it as last_error
            failure = error
        try:
            if failure is not None:
                self._report(failure if isinstance(failure, Exception) else Lima2Error(str(failure)))
        finally:
            self._leaving.wait(SETTLE)
            self.finished.set()
            for tell in self.on_finished:
                tell()

    def _report(self, failure: Exception) -> None:
        self.last_error = failure
        log.error("processing of %s failed: %s", self.uuid, failure)
        try:
            self.pipeline.abort(failure)
        finally:
            for tell in self.on_error:
                tell()


def _sleep_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.monotonic()))


def _told(error: BaseException | None, rank: int) -> str:
    return "" if error is None else f"receiver {rank}: {error}"
