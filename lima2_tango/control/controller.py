"""The control's acquisitions: what its Tango device calls. Arms the detector, takes triggers, coordinates the ranks."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from enum import Enum
from threading import RLock, get_ident
from typing import Any

from lima2_tango.cameras.base import ControlHalf, Plugin
from lima2_tango.core.acquisition import AcquisitionParams, Sharing, TriggerMode
from lima2_tango.core.errors import AgreementError, ParamError, StateError, as_lima2
from lima2_tango.core.series import Topology
from lima2_tango.core.state import Event, State, StateMachine
from lima2_tango.transport.agreement import Coordinator
from lima2_tango.transport.topology import check_topology, make_topology

from .acquirer import Acquirer
from .parameters import Parameterised
from .settings import Settings


class Driver(Enum):
    """Who calls the receivers in a run."""

    CALLER = "a conductor"
    """Whoever gave the uuid, and calls every device."""
    CONTROL = "this control"


class Controller(Parameterised):
    """The detector's side of every run, and its agreement."""

    def __init__(
        self, plugin: Plugin, settings: Settings, coordinator: Coordinator, acquirer: Acquirer | None = None
    ) -> None:
        """`acquirer` makes the frames of runs in which this rank acquires for all; without it there are none."""
        super().__init__(plugin, settings)
        self.machine = StateMachine()
        self.camera: ControlHalf[Any] = plugin.control()
        self.camera.locate(settings.detector)
        self.error: Exception | None = None
        self._coordinator = coordinator
        self._acquirer = acquirer
        self._lock = RLock()
        """Held while the camera is told something: one thing at a time."""
        self.driver = Driver.CALLER
        """Of the run that was prepared last."""
        self._uuid = ""
        self._prepared = self._armed = self.acq_params
        """Parameters of the run that was prepared last, and of what the detector is armed for."""
        self._built: dict[int, AcquisitionParams] = {}
        """By thread: what its `build` armed, which `prepare`, called next by the same thread, makes a run of."""
        self._holder: int | None = None
        """Thread for which the detector stays armed as it is, until its run is prepared, or on."""

    @property
    def nb_frames_acquired(self) -> int:
        """Frames that the receivers have taken in the current or last run."""
        shares = self._coordinator.nb_receivers if self._prepared.sharing.kept else 1
        return self._coordinator.nb_frames // max(1, shares)

    @property
    def armed_params(self) -> AcquisitionParams:
        """What the detector is armed for."""
        return self._armed

    def dealt(self, uuid: str) -> Topology | None:
        """Who got which frame of one of the last runs, where this rank acquired for all; else None."""
        return None if self._acquirer is None else self._acquirer.dealt(uuid)

    def build(self) -> None:
        """The fallible part of Prepare: check the parameters and the ranks, and arm the detector."""
        self._check_preparable()
        self._coordinator.check()
        if not self._coordinator.settle():
            raise StateError("the last run is still being stopped: look at the receivers, reset, then prepare again")
        with self._lock:
            self._check_preparable()  # it may be running by now
            try:
                params = self.acq_params
                self.camera.capabilities.check(params.acq)
                self._check_sharing(params)
                self._arm(params)
            except BaseException:
                self.machine.try_fire(Event.DONE)  # what was armed before is not any more
                raise
            self._built[get_ident()] = params

    def prepare(self, uuid: str, driver: Driver = Driver.CALLER) -> None:
        """Make of what this thread's `build` armed the run `uuid`."""
        with self._lock:
            self.claim(driver)
            self._built = {}
            if not uuid:
                raise StateError("Prepare needs the uuid of a new run, which the conductor makes")
            self._uuid, self.driver, self.error, self._prepared = uuid, driver, None, self._armed
            self._coordinator.forget()
            self.machine.fire(Event.PREPARE)

    def claim(self, driver: Driver) -> None:
        """Raise StateError where this thread's `build` cannot become a run of that driver."""
        with self._lock:
            self._check_preparable()
            if driver is Driver.CALLER and self._armed.sharing.kept:
                raise ParamError(
                    "$.det.topology",
                    self._armed.sharing,
                    "a conductor takes the frames of receiver 0 for those of all: choose partial_frames, or let this "
                    "control drive the run (Prepare with an empty uuid)",
                )
            if self._built.get(get_ident()) is not self._armed:
                raise StateError("another client's Prepare came in between: prepare again")
            if self.machine.state is State.PREPARED and self.driver is not driver:
                self._arm(self._prepared)
                raise StateError(
                    f"{self.driver.value} drives the run {self._uuid}, which is prepared here: start it, or Stop it "
                    f"before {driver.value} drives another"
                )

    @contextmanager
    def held(self, driver: Driver) -> Generator[None]:
        """`claim`, and no other thread's `build` arms the detector meanwhile: of two clients one gets its run."""
        with self._lock:
            self.claim(driver)
            before, self._holder = self._holder, get_ident()
        try:
            yield
        finally:
            self._holder = before

    def unprepare(self) -> None:
        """What was prepared cannot be started: PREPARED -> IDLE, any other state stays."""
        with self._lock:
            self._built = {}
            if self.machine.state is State.PREPARED:
                self.camera.stop()
                self._abandon()
                self.machine.fire(Event.DONE)

    def check_start(self) -> None:
        """Raise StateError where `start` would be refused now."""
        self.machine.check(Event.START)

    def check_close(self) -> None:
        self.machine.check(Event.CLOSE)

    def check_trigger(self) -> None:
        if self.machine.state is not State.RUNNING:
            raise StateError(f"cannot trigger while {self.machine.state.label}: Start first")
        if self._prepared.acq.trigger_mode is not TriggerMode.SOFTWARE:
            mode = self._prepared.acq.trigger_mode
            raise StateError(f"cannot trigger: this run was prepared with acq.trigger_mode {mode}, not software")

    def start(self, over: Callable[[list[str]], None] | None = None) -> None:
        """Begin the run; triggers are taken from now on.

        Once all receivers have taken their last frame, or could not start, `over` gets their errors; without it the
        control goes to IDLE by itself then.
        """
        with self._lock:
            self.check_start()
            if self._armed is not self._prepared:  # another client's Prepare, which will be refused now
                self._arm(self._prepared)
            self.machine.fire(Event.START)
            uuid = self._uuid
            acquirer = self._acquirer_of(self._prepared)
            self._coordinator.start(
                uuid,
                over or (lambda errors: self._over(uuid, errors)),
                str(self._prepared.sharing),
                self._prepared.acquisition_rank if self._scattered(self._prepared) else None,
                tag=self.camera.tag,
                expected=self._prepared.acq.nb_frames if self._prepared.pulled else 0,
            )
            try:
                if acquirer is not None:
                    acquirer.start(uuid, self._acquisition_failed)
                self.camera.start(self._coordinator.grant)
            except Exception as error:
                self._coordinator.stop()
                self.error = as_lima2(error)
                self.machine.try_fire(Event.FAIL)
                raise

    def trigger(self) -> None:
        """Software trigger; raises StateError where there is nothing to trigger."""
        with self._lock:
            self.check_trigger()
            self.camera.trigger()

    def stop(self) -> None:
        """End the run; safe in every state."""
        with self._lock:
            self.camera.stop()
            if self.machine.state is State.PREPARED:
                self._abandon()
                self.machine.fire(Event.DONE)
        self._coordinator.stop()

    def stop_run(self, uuid: str) -> None:
        """End this run at a frame that its receivers agree on; without effect on any other."""
        with self._lock:
            if uuid == self._uuid:
                self._coordinator.stop()

    def fail(self, uuid: str, error: Exception) -> None:
        """A run that the control drives could not be started; without effect on any other."""
        with self._lock:
            if uuid == self._uuid:
                self.error = as_lima2(error)
                self.machine.try_fire(Event.FAIL)

    def end(self, uuid: str, failure: Exception | None) -> None:
        """The acquisition of a run that the control drives is over; without effect on any other."""
        with self._lock:
            if uuid != self._uuid or self.machine.state is not State.RUNNING:
                return
            try:
                self.camera.stop()
            except Exception as error:  # noqa: BLE001 - boundary: a detector that does not stop is FAULT
                failure = failure or error
            self.error = None if failure is None else as_lima2(failure)
            self.machine.fire(Event.DONE if failure is None else Event.FAIL)

    def close(self) -> None:
        """The run is over and its data is complete."""
        self.stop()
        with self._lock:
            self.machine.fire(Event.CLOSE)

    def reset(self) -> None:
        """Any state -> IDLE; a run that is on is stopped."""
        self.stop()
        with self._lock:  # not while the run's own end is told
            self.error = None
            self.machine.fire(Event.RESET)

    def shut_down(self) -> None:
        """The process goes down."""
        self.stop()
        self.camera.close()
        if self._acquirer is not None:
            self._acquirer.close()

    def _check_preparable(self) -> None:
        """Raise StateError where no run can be prepared now; it says whose run is on."""
        if self._holder not in {None, get_ident()}:
            raise StateError(
                "another client prepares a run of this control just now, and gets it: wait until that run is over, or "
                "Stop it"
            )
        try:
            self.machine.check(Event.PREPARE)
        except StateError as error:
            if self.machine.state is not State.RUNNING:
                raise
            raise StateError(
                f"{error.what}: the run {self._uuid} is on, which {self.driver.value} drives", **error.info
            ) from None

    def _abandon(self) -> None:
        """What makes the frames lets go of what was prepared."""
        if self._acquirer is not None:
            self._acquirer.abandon()

    def _arm(self, params: AcquisitionParams) -> None:
        self._armed = params
        self.camera.prepare(params)
        acquirer = self._acquirer_of(params)
        if acquirer is not None:
            acquirer.prepare(params)

    def _check_sharing(self, params: AcquisitionParams) -> None:
        """Raise ParamError where the receivers of this job cannot share the detector so."""
        check_topology(params.sharing, params.dispatch)
        receivers = self._coordinator.nb_receivers
        if params.acquisition_rank >= receivers:
            reason = f"there are {receivers} receivers: give 0 to {receivers - 1}, or -1 for the control's process"
            raise ParamError("$.det.acquisition_rank", params.acquisition_rank, reason)
        if params.sharing in {Sharing.PARTIAL_FRAMES, Sharing.KEPT_PARTIAL_FRAMES}:
            params.layout(receivers)

    def _topology(self, params: AcquisitionParams) -> Topology:
        return make_topology(params.dispatch, max(1, self._coordinator.nb_receivers), 0, params.sharing)

    def _scattered(self, params: AcquisitionParams) -> bool:
        """One rank acquires for all."""
        return not self._topology(params).parts(0)

    def _acquirer_of(self, params: AcquisitionParams) -> Acquirer | None:
        """What makes the frames, where this process does."""
        if not self._scattered(params) or params.acquisition_rank >= 0:
            return None
        if self._acquirer is None:
            raise StateError("this control was made without a camera of its own: it cannot acquire for all")
        return self._acquirer

    def _acquisition_failed(self, uuid: str, error: Exception) -> None:
        """The frames that this rank makes end; its receivers end with them."""
        with self._lock:
            if uuid == self._uuid and self.machine.state is State.RUNNING:
                self.camera.stop()
                self.error = as_lima2(error)
                self.machine.fire(Event.FAIL)

    def _over(self, uuid: str, errors: list[str]) -> None:
        """All receivers have taken their last frame, or could not start."""
        with self._lock:
            if uuid != self._uuid or self.machine.state is not State.RUNNING:
                return
            self.camera.stop()
            missing = self._coordinator.nb_missing
            if missing:
                errors = [*errors, f"{missing} of {self._prepared.acq.nb_frames} frames never came from the detector"]
            if errors:
                self.error = AgreementError("; ".join(errors))
            self.machine.fire(Event.DONE)
