"""The control's acquisitions: what its Tango device calls. Arms the detector, takes triggers, coordinates the ranks."""

from threading import RLock, get_ident
from typing import Any

from lima2_tango.cameras.base import ControlHalf, Plugin
from lima2_tango.core.acquisition import TriggerMode
from lima2_tango.core.errors import AgreementError, StateError, as_lima2
from lima2_tango.core.state import Event, State, StateMachine
from lima2_tango.transport.agreement import Coordinator

from .parameters import Parameterised
from .settings import Settings


class Controller(Parameterised):
    """The detector's side of every run, and its agreement."""

    def __init__(self, plugin: Plugin, settings: Settings, coordinator: Coordinator) -> None:
        super().__init__(plugin, settings)
        self.machine = StateMachine()
        self.camera: ControlHalf[Any] = plugin.control()
        self.error: Exception | None = None
        self._coordinator = coordinator
        self._lock = RLock()
        """Held while the camera is told something: one thing at a time."""
        self._uuid = ""
        self._prepared = self.acq_params
        self._built: int | None = None

    @property
    def nb_frames_acquired(self) -> int:
        """Frames that the receivers have taken in the current or last run."""
        return self._coordinator.nb_frames

    def build(self) -> None:
        """The fallible part of Prepare: check the parameters and the ranks, and arm the detector."""
        self.machine.check(Event.PREPARE)
        self._coordinator.check()
        if not self._coordinator.settle():
            raise StateError("the last run is still being stopped: look at the receivers, reset, then prepare again")
        with self._lock:
            try:
                self.camera.capabilities.check(self.acq_params.acq)
                self._prepared = self.acq_params
                self.camera.prepare(self._prepared)
            except BaseException:
                self.machine.try_fire(Event.DONE)  # what was armed before is not any more
                raise
            self._built = get_ident()

    def prepare(self, uuid: str) -> None:
        with self._lock:
            if self._built != get_ident():
                raise StateError("another client's Prepare came in between: prepare again")
            self._built = None
            if not uuid:
                raise StateError("Prepare needs the uuid of a new run, which the conductor makes")
            self._uuid, self.error = uuid, None
            self._coordinator.forget()
            self.machine.fire(Event.PREPARE)

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

    def start(self) -> None:
        """Begin the run; triggers are taken from now on."""
        with self._lock:
            self.machine.fire(Event.START)
            uuid = self._uuid
            self._coordinator.start(uuid, lambda errors: self._over(uuid, errors))
            try:
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
                self.machine.fire(Event.DONE)
        self._coordinator.stop()

    def close(self) -> None:
        """The run is over and its data is complete."""
        self.stop()
        self.machine.fire(Event.CLOSE)

    def reset(self) -> None:
        """Any state -> IDLE; a run that is on is stopped."""
        self.stop()
        self.error = None
        self.machine.fire(Event.RESET)

    def shut_down(self) -> None:
        """The process goes down."""
        self.stop()
        self.camera.close()

    def _over(self, uuid: str, errors: list[str]) -> None:
        """All receivers have taken their last frame, or could not start."""
        with self._lock:
            if uuid != self._uuid or self.machine.state is not State.RUNNING:
                return
            self.camera.stop()
            if errors:
                self.error = AgreementError("; ".join(errors))
            self.machine.fire(Event.DONE)
