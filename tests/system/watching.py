"""Condition waits, a poller of `acq_state` like the conductor's, and a recorder of DATA_READY events."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from threading import Event, Lock, Thread
from types import TracebackType
from typing import Any, Self

import tango

from lima2_tango.core.state import State

CONDUCTOR_PERIOD = 0.05
"""The conductor reads each device's `acq_state` this often [s]."""


def wait_for(condition: Callable[[], Any], timeout: float, what: str) -> Any:
    """The first true value of `condition`, asked each 10 ms; fails the test after `timeout` seconds."""
    deadline, pause = time.monotonic() + timeout, Event()
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {timeout:g} s")
        pause.wait(0.01)
    return value


def stays(condition: Callable[[], Any], seconds: float, what: str) -> None:
    """Fails the test as soon as `condition` is false within the next `seconds`."""
    deadline, pause = time.monotonic() + seconds, Event()
    while time.monotonic() < deadline:
        assert condition(), f"{what}: not for {seconds:g} s"
        pause.wait(0.01)


@dataclass
class Reading:
    at: float
    """Monotonic clock when the answer came [s]."""
    state: State
    took: float
    """From question to answer [s]."""


@dataclass
class StateWatch:
    """Reads `acq_state` of each device in a thread of its own, from `with` to its end."""

    devices: Sequence[tango.DeviceProxy]
    period: float = CONDUCTOR_PERIOD
    readings: dict[str, list[Reading]] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    _stop: Event = field(default_factory=Event)
    _threads: list[Thread] = field(default_factory=list)

    def __enter__(self) -> Self:
        for device in self.devices:
            own = tango.DeviceProxy(full_name(device))  # a proxy serves one call at a time
            self.readings[device.dev_name()] = []
            thread = Thread(target=self._watch, args=(own,), name=f"watch {device.dev_name()}")
            thread.start()
            self._threads.append(thread)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _watch(self, device: tango.DeviceProxy) -> None:
        readings = self.readings[device.dev_name()]
        while not self._stop.wait(self.period):
            begin = time.monotonic()
            try:
                state = State(int(device.read_attribute("acq_state").value))
            except tango.DevFailed as error:
                self.errors.append(f"{device.dev_name()}: {error.args[-1].desc}")
                continue
            now = time.monotonic()
            readings.append(Reading(now, state, now - begin))

    def story(self, device: tango.DeviceProxy) -> list[State]:
        """The states seen, without repetitions."""
        states = [reading.state for reading in self.readings[device.dev_name()]]
        return [state for i, state in enumerate(states) if i == 0 or states[i - 1] is not state]

    def seconds_not_idle(self, device: tango.DeviceProxy) -> float:
        """The longest that it may have been so, from the last reading of IDLE before to the first one after [s].

        Readings come late on busy cores: that makes it longer, never shorter.
        """
        readings = self.readings[device.dev_name()]
        other = [number for number, reading in enumerate(readings) if reading.state is not State.IDLE]
        if not other:
            return 0.0
        before, after = readings[max(0, other[0] - 1)], readings[min(other[-1] + 1, len(readings) - 1)]
        return after.at - (before.at - before.took)

    def slowest(self) -> float:
        """The longest time from question to answer [s]."""
        return max(reading.took for readings in self.readings.values() for reading in readings)


@dataclass(frozen=True)
class Arrival:
    at: float
    """Monotonic clock [s]."""
    device: str
    attribute: str


class EventLog:
    """DATA_READY events of `is_finished` and `last_error`, subscribed as the conductor does."""

    def __init__(self, devices: Sequence[tango.DeviceProxy]) -> None:
        self._devices = devices
        self._subscriptions: list[tuple[tango.DeviceProxy, int]] = []
        self._lock = Lock()
        self.arrivals: list[Arrival] = []

    def __enter__(self) -> Self:
        for device in self._devices:
            for attribute in ("is_finished", "last_error"):
                callback = self._recorder(device.dev_name(), attribute)
                identity = device.subscribe_event(attribute, tango.EventType.DATA_READY_EVENT, callback)
                self._subscriptions.append((device, identity))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for device, identity in self._subscriptions:
            device.unsubscribe_event(identity)

    def _recorder(self, device: str, attribute: str) -> Callable[[tango.DataReadyEventData], None]:
        def record(event: tango.DataReadyEventData) -> None:
            if not event.err:  # a missed heartbeat is no push
                with self._lock:
                    self.arrivals.append(Arrival(time.monotonic(), device, attribute))

        return record

    def pushes(self, attribute: str = "is_finished") -> Counter[str]:
        """How many came, by device."""
        with self._lock:
            return Counter(arrival.device for arrival in self.arrivals if arrival.attribute == attribute)

    def finished(self) -> bool:
        """At least one `is_finished` came from each device."""
        return all(self.pushes()[device.dev_name()] for device in self._devices)


def full_name(device: tango.DeviceProxy) -> str:
    """`tango://host:port/a/b/c`: a name that does not depend on TANGO_HOST."""
    return f"tango://{device.get_db_host()}:{device.get_db_port()}/{device.dev_name()}"
