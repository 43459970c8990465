"""A receiver's acquisitions: what its Tango device calls."""

import gc
import re
from dataclasses import dataclass
from threading import Lock, RLock, get_ident
from typing import Any

from lima2_tango import __version__
from lima2_tango.cameras.base import Plugin, ReceiverHalf
from lima2_tango.core.acquisition import AcquisitionParams, Sharing, TriggerMode
from lima2_tango.core.errors import NotAvailableError, ParamError, StateError, as_lima2
from lima2_tango.core.frame import FrameSpec
from lima2_tango.core.params import Params
from lima2_tango.core.pool import Pool
from lima2_tango.core.state import Event, State, StateMachine
from lima2_tango.processing.executor import Workers
from lima2_tango.processing.pipeline import Pipeline, Setup
from lima2_tango.processing.plugin import PipelinePlugin
from lima2_tango.saving.layout import SeriesMetadata
from lima2_tango.transport.participant import Participant
from lima2_tango.transport.reach import Reach
from lima2_tango.transport.roster import Roster
from lima2_tango.transport.topology import check_topology, make_topology

from .acquirer import Acquirer
from .feed import Feed, Windows, make_feed
from .parameters import Choice, Parameterised
from .plan import check_raw_names
from .run import Run
from .settings import Settings

PREPARE_TIMEOUT = 60.0
"""A Prepare that another one keeps waiting for longer is refused [s]."""
CAMERA_TIMEOUT = 15.0
"""A run that was reset takes no longer than this to end: more than a series waits for a cut [s]."""
ERASE_TIMEOUT = 1.0
"""An erase waits this long for a run that is about to finish [s]."""


UUID = re.compile("[0-9A-Za-z-]{1,64}")
"""Text that can be part of a Tango device's name, which any case of it means."""


@dataclass(frozen=True, slots=True)
class _Built:
    params: AcquisitionParams
    feed: Feed
    plugin: PipelinePlugin
    pipeline: Pipeline[Any]
    raw: FrameSpec | None


class Receiver(Parameterised):
    """Prepares, starts and stops runs on this rank, and keeps their pipelines until they are erased."""

    def __init__(
        self,
        plugin: Plugin,
        settings: Settings,
        roster: Roster,
        participant: Participant,
        acquirer: Acquirer | None = None,
    ) -> None:
        """`acquirer` makes the frames of runs in which this process acquires for all; without it there are none."""
        super().__init__(plugin, settings)
        self.machine = StateMachine()
        self.runs: dict[str, Run] = {}
        """By uuid, oldest first."""
        self.error: Exception | None = None
        """What went wrong in the current or last acquisition."""
        self._roster = roster
        self._participant = participant
        self._acquirer = acquirer
        self._camera: ReceiverHalf[Any] = plugin.receiver()
        self._camera.locate(settings.detector)
        self._pool: Pool | None = None
        self._windows: Windows | None = None
        self._reach = Reach(lambda: roster.fabric)
        self._workers: Workers | None = None
        self._current: Run | None = None
        self._lock = RLock()
        """Held while the state and the current run change together."""
        self._preparing = Lock()
        self._built: dict[int, _Built] = {}
        """By thread: what `build` made and `prepare`, called next by the same thread, takes over."""

    @property
    def nb_frames_xferred(self) -> int:
        """Frames received in the current or last run."""
        return self._current.nb_frames if self._current else 0

    @property
    def nb_frames_lost(self) -> int:
        """Frames of the current or last run that the camera lost: zeros stand in their place."""
        return self._current.nb_lost if self._current else 0

    @property
    def nb_frames_incomplete(self) -> int:
        """Frames of the current or last run that lack modules, but not all: zeros are in their place."""
        return self._current.nb_incomplete if self._current else 0

    @property
    def rank(self) -> int:
        """Which receiver of the job this is, from 0."""
        self._roster.wait()
        return self._roster.receiver_rank()

    def build(self) -> None:
        """The fallible part of Prepare: check and allocate everything. What was prepared before is given up."""
        self.machine.check(Event.PREPARE)
        if self.choice is None:
            raise StateError("write proc_params before Prepare: no pipeline is chosen yet")
        if not self._preparing.acquire(timeout=PREPARE_TIMEOUT):
            raise StateError(f"another Prepare has been busy for {PREPARE_TIMEOUT:.0f} s; reset this receiver")
        try:
            self._wait_for_camera()
            self._abandon_prepared()
            for built in self._built.values():
                built.pipeline.erase()
            self._built = {get_ident(): self._make(self.acq_params, self.choice)}
        except BaseException:
            self._let_go_of_camera()
            self._unprepare()
            raise
        finally:
            self._preparing.release()

    def _wait_for_camera(self) -> None:
        """A run that was reset may still be on its way to its end."""
        if self._current is not None and not self._current.acquired.wait(CAMERA_TIMEOUT):
            raise StateError(
                f"the last run has not let go of the camera {CAMERA_TIMEOUT:.0f} s after its reset: restart this server"
            )

    def prepare(self, uuid: str) -> Run:
        """Make of what this thread's `build` made the run `uuid`; `prepared` or `withdraw` has to follow."""
        built = self._built.pop(get_ident(), None)
        if built is None:
            raise StateError("another client's Prepare came in between: prepare again")
        with self._lock:
            if not UUID.fullmatch(uuid) or uuid.lower() in map(str.lower, self.runs):
                built.pipeline.erase()
                self._unprepare()
                raise StateError(f"Prepare needs the uuid of a new run (letters, digits and -), not {uuid[:40]!r}")
            self.runs[uuid] = Run(uuid, built.params, built.feed, built.plugin, built.pipeline, built.raw)
            return self.runs[uuid]

    def prepared(self, run: Run) -> None:
        """Everything that belongs to the run exists: take part in it; PREPARED."""
        with self._lock:
            self.machine.check(Event.PREPARE)
            self._abandon_prepared()
            self.error, self._current = None, run
            self.machine.fire(Event.PREPARE)
            self._participant.prepared(run.uuid)

    def withdraw(self, run: Run) -> None:
        """The run cannot be prepared after all."""
        with self._lock:
            self.runs.pop(run.uuid, None)
            self._unprepare()
        run.pipeline.erase()

    def check_start(self) -> None:
        """Raise StateError where `start` would be refused now."""
        self.machine.check(Event.START)

    def start(self) -> None:
        with self._lock:
            self.check_start()
            run = self._running()
            try:
                run.start(self._roster.receiver_rank(), self._participant, self._ended)
            except StateError:
                self._unprepare()
                raise
            self.machine.fire(Event.START)
            if self._acquirer is not None and self._acquires(run.params, self._roster.receiver_rank()):
                self._acquirer.start(run.uuid, lambda *_: None)  # its receivers hear of a failure, this one too

    def stop(self) -> None:
        """End the run at a frame that all receivers agree on; safe in every state."""
        with self._lock:
            if self.machine.state is State.PREPARED:
                self._give_up_prepared()
            elif self.machine.state is State.RUNNING:
                self._participant.request_stop(self._running().uuid)

    def reset(self) -> None:
        """Any state -> IDLE; a run that is on is stopped."""
        with self._lock:
            self.stop()
            self.error = None
            self.machine.fire(Event.RESET)

    def check_erase(self, uuid: str) -> Run:
        """The run; raises NotAvailableError where there is none, StateError while its data is not complete."""
        run = self.runs.get(uuid)
        if run is None:
            raise NotAvailableError(f"there is no pipeline {uuid} here: see the attribute pipelines")
        with self._lock:
            if run is not self._current and not run.begun:
                raise StateError(f"pipeline {uuid} is being prepared: erase it later")
            if run is self._current:
                if self.machine.state is State.RUNNING:
                    raise StateError(f"pipeline {uuid} is running: stop it before you erase it")
                self._give_up_prepared()
        if not run.join(ERASE_TIMEOUT):
            raise StateError(f"pipeline {uuid} still has frames to save: erase it when it has finished")
        return run

    def erase(self, uuid: str) -> None:
        """Forget a run: its frames, rows and counts. Raises as `check_erase` does."""
        run = self.check_erase(uuid)
        self.runs.pop(uuid, None)
        run.pipeline.erase()
        run.forget()
        del run
        gc.collect()  # a pipeline and its parts know each other, and their masks and images may be large

    def close(self, timeout: float) -> None:
        """The process goes down: end the run, close its files, `timeout` seconds at most."""
        self._abandon_prepared()
        for run in list(self.runs.values()):
            run.end_now(timeout)
        self._camera.close()
        if self._acquirer is not None:
            self._acquirer.close()
        if self._windows is not None:
            self._windows.close()
        if self._workers is not None:
            self._workers.close()

    def _make(self, params: AcquisitionParams, choice: Choice) -> _Built:
        from lima2_tango.saving.writer import opener  # HDF5 takes half a second to load: not at start-up

        self._check_trigger(params)
        rank, receivers = self.rank, len(self._roster.receivers())
        feed = self._feed(params, rank, receivers)
        most_frames = None if params.acq.endless else params.acq.nb_frames
        open_sink = opener(rank, self._metadata(params, choice.params, rank), most_frames)
        check_raw_names(params, choice.params)
        self._camera.open_files(open_sink)
        setup = Setup(
            acquisition=params,
            spec=feed.spec,
            rank=rank,
            pool=self._memory(),
            workers=self._threads(),
            open_sink=open_sink,
            allowed_commands=self.settings.allowed_commands,
        )
        return _Built(params, feed, choice.served, choice.plugin.build(choice.params, setup), self._camera.raw)

    def _feed(self, params: AcquisitionParams, rank: int, receivers: int) -> Feed:
        check_topology(params.sharing, params.dispatch)
        topology = make_topology(params.dispatch, receivers, 0, params.sharing)
        if not topology.parts(0) and not self._roster.has_control:
            raise ParamError(
                "$.det.topology",
                params.sharing,
                "the control of the MPI job acquires then, and this job has none: choose full_frames, or start one",
            )
        if not topology.parts(0) and params.acquisition_rank >= receivers:
            reason = f"there are {receivers} receivers: give 0 to {receivers - 1}, or -1 for the control's process"
            raise ParamError("$.det.acquisition_rank", params.acquisition_rank, reason)
        if self._acquirer is not None and self._acquires(params, rank):
            self._acquirer.prepare(params, self._memory())
        if self._windows is None:
            self._windows = Windows(self._memory())
        feed = make_feed(self._camera, params, rank, receivers, self._memory(), self._windows, self._reach)
        if not feed.window:
            self._windows.close()  # its memory is of no use to this run
        return feed

    @staticmethod
    def _acquires(params: AcquisitionParams, rank: int) -> bool:
        """This receiver's process acquires for all."""
        return params.sharing is Sharing.DISTRIBUTED_PROCESSING and params.acquisition_rank == rank

    def _check_trigger(self, params: AcquisitionParams) -> None:
        if params.acq.trigger_mode is not TriggerMode.INTERNAL and not self._roster.has_control:
            raise ParamError(
                "$.acq.trigger_mode",
                params.acq.trigger_mode,
                "triggers reach a receiver through the control of its MPI job, and this job has none: choose internal",
            )

    def _metadata(self, params: AcquisitionParams, proc_params: Params, rank: int) -> SeriesMetadata:
        control = self.plugin.control()
        control.locate(self.settings.detector)
        info = control.info()
        control.close()
        return SeriesMetadata(
            plugin=self.plugin.name,
            model=info.model,
            serial=info.serial,
            pixel_size=info.pixel_size,
            expo_time_us=params.acq.expo_time,
            latency_time_us=params.acq.latency_time,
            acquisition_json=params.json_text(),
            processing_json=proc_params.json_text(),
            rank=rank,
            version=__version__,
        )

    def _memory(self) -> Pool:
        if self._pool is None:
            self._pool = Pool(self.settings.budget(self._roster.processes_on_this_host()))
        return self._pool

    def _threads(self) -> Workers:
        if self._workers is None:
            self._workers = Workers(self.settings.worker_count(self._roster.processes_on_this_host()))
        return self._workers

    def _running(self) -> Run:
        if self._current is None:
            raise StateError("there is no run: Prepare first")
        return self._current

    def _abandon_prepared(self) -> None:
        """A run that was prepared and never started ends with no frames."""
        with self._lock:
            if self.machine.state is State.PREPARED and self._current is not None:
                self._participant.prepared("")
                self._current.abandon()

    def _give_up_prepared(self) -> None:
        self._abandon_prepared()
        self._let_go_of_camera()
        self._unprepare()

    def _let_go_of_camera(self) -> None:
        """Unless a run still has it."""
        if self._current is None or self._current.acquired.is_set():
            self._camera.abandon()

    def _unprepare(self) -> None:
        """What was prepared is gone: PREPARED -> IDLE, any other state stays."""
        with self._lock:
            if self.machine.state is State.PREPARED:
                self.machine.fire(Event.DONE)

    def _ended(self, run: Run, failure: Exception | None) -> None:
        """The run's thread reports that its acquisition is over."""
        with self._lock:
            if run is not self._current or self.machine.state is not State.RUNNING:
                return  # reset meanwhile
            if failure is not None:
                self.error = as_lima2(failure)
            self.machine.fire(Event.DONE if failure is None else Event.FAIL)
