"""A running system as who looks on sees it, whoever drives it: state, counts, queues, the newest frame.

Nothing here takes what others wait for: frames are copied, rows of regions are never popped.
"""

import json
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from threading import Lock
from typing import Any

import numpy as np
import tango
from numpy.typing import NDArray

from lima2_tango.core.encoded import frame_of
from lima2_tango.core.errors import Lima2Error
from lima2_tango.core.state import State

from .database import database_at
from .errors import from_dev_failed, sentence
from .proxies import bounded
from .supervision import at_once

TIMEOUT = 1000
"""Longest wait for one answer [ms]."""
LOOK_LIMIT = 1.5
"""A look at all devices takes no longer [s]."""
AGAIN = 0.5
"""Processing devices of a run come one after the other; they are looked for again after [s]."""
RATE_SPAN = 1.0
"""Rates are over this time [s]."""

CONTROL = (
    "acq_state",
    "run_uuid",
    "nb_frames_acquired",
    "nb_frames_processed",
    "nb_frames_saved",
    "saving_rate",
    "time_left",
    "last_error",
)
RECEIVER = ("acq_state", "nb_frames_xferred", "nb_frames_lost", "nb_frames_incomplete", "last_error", "pipelines")
PROCESSING = (
    "progress_counters",
    "last_frames",
    "is_finished",
    "last_error",
    "blocks_queued",
    "most_blocks_queued",
    "queue_waits",
    "saving_rate",
)
Values = Mapping[str, Any]
"""Attributes by name; None for one that has no value now, or that the device does not have."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one device said."""

    device: str
    values: Values = field(default_factory=dict)
    silence: str = ""
    """Why it did not answer; empty where it did."""

    @property
    def state(self) -> str:
        """acq_state, empty without an answer."""
        code = self.values.get("acq_state")
        return "" if code is None else State(int(code)).label

    @property
    def error(self) -> str:
        """Its last error, one sentence, or why it does not answer."""
        return self.silence or sentence(str(self.values.get("last_error") or ""))


@dataclass(frozen=True, slots=True)
class Sight:
    """One look at a system."""

    control: Answer
    receivers: tuple[Answer, ...]
    uuid: str
    """The newest run, whoever drives it; empty before the first."""
    processing: tuple[Answer, ...]
    """Of that run, by rank."""
    rates: tuple[float, ...]
    """Frames that each receiver took in the last second [frame/s]."""


@dataclass(frozen=True, slots=True)
class LiveFrame:
    """The newest frame of a run."""

    uuid: str
    index: int
    data: NDArray[np.generic]
    """[channel, row, column]; read-only."""


class Live:
    """Looks at one system; `look` and `newest` may be called from two threads. No call is without a bound."""

    def __init__(self, tango_host: str, control: str, receivers: Sequence[str]) -> None:
        self.tango_host, self.control, self.receivers = tango_host, control, tuple(receivers)
        self._proxies: dict[str, tango.DeviceProxy] = {}
        self._lock = Lock()
        self._connecting, self._database_known = Lock(), False
        self._names: tuple[str, list[str], float] = ("", [], 0.0)
        """Run, its processing devices, and when they were looked up."""
        self._counts: dict[str, deque[tuple[float, int]]] = {}
        """When each receiver had how many frames, for `RATE_SPAN`."""
        self._asked: set[tuple[str, tuple[str, ...]]] = set()
        """Questions that are not answered yet."""

    def look(self) -> Sight:
        """All devices at the same time; who does not answer says so in its place."""
        asked = [(self.control, CONTROL), *((name, RECEIVER) for name in self.receivers)]
        control, *receivers = self._ask(asked)
        uuid = self._newest_uuid(control, receivers)
        processing = self._ask([(name, PROCESSING) for name in self._processing(uuid)])
        return Sight(control, tuple(receivers), uuid, tuple(processing), self._rates(receivers))

    def newest(self, uuid: str, getter: str, label: str, seen: int) -> LiveFrame | None:
        """The newest frame of a run from the receiver that has it; None where there is none but `seen`.

        `getter` is a command of the processing devices, `label` its stream. Raises Lima2Error.
        """
        names = self._processing(uuid)
        answers = self._ask([(name, ("last_frames",)) for name in names])
        indices = [_last(answer, label) for answer in answers]
        newest = max(indices, default=-1)
        if newest < 0 or newest == seen:
            return None
        name = names[indices.index(newest)]
        try:
            number, data = frame_of(self._proxy(name).command_inout(getter, -1))
        except tango.DevFailed as error:
            raise from_dev_failed(error, name, getter) from error
        return LiveFrame(uuid, number, data)

    def pipeline_class(self, uuid: str) -> str:
        """Tango class of the processing of a run; empty where it is gone."""
        for name in self._processing(uuid):
            with suppress(tango.DevFailed):
                return str(self._proxy(name).info().dev_class)
        return ""

    def _ask(self, asked: Sequence[tuple[str, tuple[str, ...]]]) -> list[Answer]:
        with self._lock:  # who still owes an answer is not asked again: each question waits in a thread of its own
            fresh = [question for question in asked if question not in self._asked]
            self._asked.update(fresh)
        answers = at_once([partial(self._read, *question) for question in fresh], LOOK_LIMIT)
        found = dict(zip(fresh, answers, strict=True))
        late = f"no answer within {LOOK_LIMIT:g} s: its server is frozen or overloaded; see lima2 status"
        return [found.get(question) or Answer(question[0], silence=late) for question in asked]

    def _read(self, name: str, attributes: tuple[str, ...]) -> Answer:
        try:
            return self._answer(name, attributes)
        finally:
            with self._lock:
                self._asked.discard((name, attributes))

    def _answer(self, name: str, attributes: tuple[str, ...]) -> Answer:
        try:
            found = self._proxy(name).read_attributes(list(attributes))
        except tango.DevFailed as error:
            self._forget(name)
            return Answer(name, silence=str(from_dev_failed(error, name, "look")))
        values = {each.name: None if each.has_failed else each.value for each in found}
        return Answer(name, values)

    def _newest_uuid(self, control: Answer, receivers: Sequence[Answer]) -> str:
        """What the receivers prepared last; a conductor's runs are not the control's."""
        known = [list(each.values.get("pipelines") or ()) for each in receivers]
        older = {uuid for uuids in known for uuid in uuids[:-1]}  # one receiver may have no part in the newest
        lasts = [uuids[-1] for uuids in known if uuids]
        newest = next((uuid for uuid in lasts if uuid not in older), lasts[0] if lasts else None)
        return str(newest or control.values.get("run_uuid") or "")

    def _processing(self, uuid: str) -> list[str]:
        """Processing devices of a run, by rank."""
        if not uuid:
            return []
        known, names, at = self._names
        now = time.monotonic()
        incomplete = len(names) < len(self.receivers) and now - at > AGAIN  # a run may also have fewer
        if known != uuid or incomplete:
            try:
                found = database_at(self.tango_host).get_device_exported(f"*/limaprocessing/{uuid}@*")
            except tango.DevFailed:  # the database is down: the devices go on, those that are known too
                return names if known == uuid else []
            if known != uuid:
                self._forget(*names)
            names = sorted(found, key=lambda name: int(name.rpartition("@")[2]))
            self._names = uuid, names, now
        return names

    def _rates(self, receivers: Sequence[Answer]) -> tuple[float, ...]:
        now = time.monotonic()
        return tuple(self._rate(now, each.device, each.values.get("nb_frames_xferred")) for each in receivers)

    def _rate(self, now: float, receiver: str, count: int | None) -> float:
        """Frames that came in a second; zero where the receiver is silent, and nothing is known of those in between."""
        if count is None:
            return 0.0
        counts = self._counts.setdefault(receiver, deque())
        if counts and count < counts[-1][1]:
            counts.clear()  # a new run
        counts.append((now, int(count)))
        while len(counts) > 2 and now - counts[1][0] > RATE_SPAN:
            counts.popleft()
        then, before = counts[0]
        return (count - before) / max(now - then, 1e-3)

    def _proxy(self, name: str) -> tango.DeviceProxy:
        """Kept; two threads may make it at once: one that is frozen keeps nobody from the others."""
        with self._lock:
            known = self._proxies.get(name)
        if known is None:
            known = bounded(self._connected(f"tango://{self.tango_host}/{name}"), TIMEOUT)
            with self._lock:
                self._proxies[name] = known
        return known

    def _connected(self, name: str) -> tango.DeviceProxy:
        if self._database_known:
            return tango.DeviceProxy(name)
        with self._connecting:  # two threads that are the first to connect to a database: Tango refuses one of them
            proxy = tango.DeviceProxy(name)
            self._database_known = True
            return proxy

    def _forget(self, *names: str) -> None:
        """A proxy that failed refuses to try again for a second, and that of an erased device for ever."""
        with self._lock:
            for name in names:
                self._proxies.pop(name, None)


def _last(answer: Answer, label: str) -> int:
    """Number of the newest frame of a stream on one receiver; -1 for none."""
    try:
        told = json.loads(answer.values.get("last_frames") or "{}")
    except ValueError:
        return -1
    return int(told.get(f"{label}_idx", -1))


def _asked(tango_host: str, question: Callable[[tango.Database], Any], device: str, what: str) -> Any:
    try:
        return question(database_at(tango_host))
    except tango.DevFailed as error:
        raise from_dev_failed(error, device, what) from error


def receivers_of(tango_host: str, control: str) -> list[str]:
    """Receivers of the control's camera that the database has, for a system that no `lima2 up` describes here.

    Raises Lima2Error where the database or the control is not there.
    """
    device_class = device_class_of(tango_host, control)
    wanted = device_class.removesuffix("Control") + "Receiver"
    return sorted(
        _asked(tango_host, lambda db: list(db.get_device_exported_for_class(wanted)), control, "look for receivers")
    )


def device_class_of(tango_host: str, device: str) -> str:
    """Tango class of a device; raises Lima2Error."""
    return str(_asked(tango_host, lambda db: db.get_device_info(device).class_name, device, "look up its class"))


def schema_of(tango_host: str, device_class: str, attribute: str) -> dict[str, Any]:
    """JSON schema of the parameters of a class, as it publishes them; raises Lima2Error."""

    def ask(database: tango.Database) -> Any:
        return database.get_class_attribute_property(device_class, attribute)[attribute]["schema"][0]

    try:
        found: dict[str, Any] = json.loads(_asked(tango_host, ask, device_class, "read its schema"))
    except (KeyError, IndexError, ValueError) as error:
        raise Lima2Error(
            f"{device_class} publishes no schema of its {attribute}: start its server once with this database"
        ) from error
    return found


def data_roots_of(tango_host: str, control: str) -> list[str]:
    """Folders that a system writes below, its device property `data_roots`; none where it may write anywhere."""
    found = _asked(tango_host, lambda db: db.get_device_property(control, "data_roots"), control, "read data_roots")
    return [str(folder) for folder in found["data_roots"]]
