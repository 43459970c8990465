"""The acquisition state machine of control and receiver. Every rule about *when* lives in this table."""

from collections import deque
from collections.abc import Callable
from enum import IntEnum, StrEnum
from threading import Condition

from .errors import StateError


class State(IntEnum):
    """Codes of `acq_state` on the wire; the names are its enum labels."""

    IDLE = 0
    PREPARED = 1
    RUNNING = 2
    STOPPED = 3
    FAULT = 4
    TERMINATE = 5

    @property
    def label(self) -> str:
        return self.name.lower()


class Event(StrEnum):
    PREPARE = "prepare"
    START = "start"
    DONE = "done"
    """The run ended by itself or its stop has taken effect."""
    CLOSE = "close"
    FAIL = "fail"
    RESET = "reset"


TRANSITIONS: dict[tuple[State, Event], State] = {
    (State.IDLE, Event.PREPARE): State.PREPARED,
    (State.PREPARED, Event.PREPARE): State.PREPARED,
    (State.PREPARED, Event.START): State.RUNNING,
    (State.PREPARED, Event.DONE): State.IDLE,
    (State.RUNNING, Event.DONE): State.IDLE,
    (State.IDLE, Event.CLOSE): State.IDLE,
    (State.PREPARED, Event.CLOSE): State.IDLE,
    (State.RUNNING, Event.CLOSE): State.IDLE,
    (State.PREPARED, Event.FAIL): State.FAULT,
    (State.RUNNING, Event.FAIL): State.FAULT,
    (State.IDLE, Event.RESET): State.IDLE,
    (State.PREPARED, Event.RESET): State.IDLE,
    (State.RUNNING, Event.RESET): State.IDLE,
    (State.FAULT, Event.RESET): State.IDLE,
}

COMMAND = {
    Event.PREPARE: "prepare",
    Event.START: "start",
    Event.DONE: "stop",
    Event.CLOSE: "close",
    Event.RESET: "reset",
}
"""What a caller does to bring an event about; nobody asks for a failure."""

TANGO_STATE = {
    State.IDLE: "ON",
    State.PREPARED: "STANDBY",
    State.RUNNING: "RUNNING",
    State.STOPPED: "ON",
    State.FAULT: "FAULT",
    State.TERMINATE: "OFF",
}
"""What the Tango `State` shows for each acquisition state."""

STATUS = {
    State.IDLE: "Idle: ready for Prepare.",
    State.PREPARED: "Prepared: ready for Start.",
    State.RUNNING: "Acquiring frames.",
    State.STOPPED: "Stopped.",
    State.FAULT: "The last acquisition failed: Reset before the next Prepare.",
    State.TERMINATE: "The server is going down.",
}


def allowed(state: State) -> set[Event]:
    """Events that a state accepts: Tango's refusals, the docs diagram and the tests all ask here."""
    return {event for (start, event) in TRANSITIONS if start == state}


class StateMachine:
    """Applies events under a lock; `story` keeps the last 100 (state, event) pairs."""

    def __init__(self) -> None:
        self._changed = Condition()
        self.state = State.IDLE
        self.story: deque[tuple[State, Event]] = deque(maxlen=100)
        self.on_change: list[Callable[[State], None]] = []
        """Told of each new state, in order, under the lock: they do not fire events, nor wait."""

    def check(self, event: Event) -> None:
        """Raise StateError, with the way out, where `event` would be refused now."""
        if event not in allowed(self.state):
            choices = ", ".join(sorted(COMMAND[choice] for choice in allowed(self.state) if choice in COMMAND))
            raise StateError(f"cannot {event} while {self.state.label}; allowed now: {choices}", state=self.state.label)

    def fire(self, event: Event) -> State:
        with self._changed:
            self.check(event)
            before, self.state = self.state, TRANSITIONS[self.state, event]
            self.story.append((before, event))
            self._changed.notify_all()
            if self.state is not before:
                for tell in self.on_change:
                    tell(self.state)
            return self.state

    def try_fire(self, event: Event) -> bool:
        """`fire` where the table allows it, else leave the state alone: for events that may come late."""
        with self._changed:
            if event not in allowed(self.state):
                return False
            self.fire(event)
            return True

    def wait(self, *states: State, timeout: float) -> bool:
        """Wait until the state is one of `states`, `timeout` seconds at most; False if it is not."""
        with self._changed:
            return self._changed.wait_for(lambda: self.state in states, timeout)


def diagram() -> str:
    """Mermaid source of the table above; the docs page is checked against it, so it cannot go stale."""
    arrows = [f"    {start.name} --> {end.name}: {event}" for (start, event), end in TRANSITIONS.items()]
    return "\n".join(["stateDiagram-v2", "    [*] --> IDLE", *arrows])
