"""The control half: knows the detector, sets and arms it, triggers it, and tells how it is."""

import logging
import time
from collections.abc import Sequence
from threading import Lock
from typing import Any

from lima2_tango.cameras.base import Capabilities, ControlHalf, DetectorInfo
from lima2_tango.core.acquisition import TriggerMode
from lima2_tango.core.errors import DetectorError, StateError
from lima2_tango.core.series import OnTrigger

from ._detector import Identity, arm, identify, make_ready
from ._params import DectrisParams
from ._settings import check_sharing, configure, plan
from ._simplon import Entry, Simplon
from ._triggers import Triggers

log = logging.getLogger(__name__)

TAKEN, LOOK = 1.0, 0.005
"""A detector that takes a trigger exposes within this, and is looked at so often [s]."""
STATUS_AGE = 0.5
"""Readings are asked for again when they are older than this [s]."""
STATUS_LIMIT = 1.0
"""A reading that takes longer is not to be had: who asks for a status waits 3 s, as Tango's clients do [s]."""
READINGS = {
    "temperature": ("temperature", "board_000/th0_temp"),
    "humidity": ("humidity", "board_000/th0_humidity"),
    "high_voltage_state": ("high_voltage/state",),
}
"""Readings of the detector, by the name that clients know; of several addresses, the first that the detector has."""


class DectrisControl(ControlHalf[DectrisParams]):
    def __init__(self) -> None:
        self._address = ""
        self._simplon: Simplon | None = None
        self._identity: Identity | None = None
        self._armed = False
        self._triggers: Triggers | None = None
        self._status: dict[str, object] = {"state": "unknown", "temperature": 0.0, "humidity": 0.0, "alarms": []}
        self._asked = 0.0
        self._lock = Lock()

    def locate(self, address: str) -> None:
        self._address = address

    @property
    def capabilities(self) -> Capabilities:  # type: ignore[override]  # those of the detector that is there
        """Raises DetectorError where the detector does not answer."""
        who = self._known()
        shortest, longest = who.count_time
        return Capabilities(
            trigger_modes=tuple(TriggerMode),
            expo_time_range=(round(shortest * 1e9), round(longest * 1e9)),
            latency_time_range=(0, round(longest * 1e9)),
            nb_frames_per_trigger_range=(1, who.nb_images),
        )

    def info(self) -> DetectorInfo:
        who = self._known()
        more = {
            "nb_thresholds": who.nb_thresholds,
            "sensor_material": who.sensor_material,
            "sensor_thickness": who.sensor_thickness,
        }
        return DetectorInfo("Dectris", who.model, who.serial, who.pixel_size, who.dimensions, more)

    def status(self) -> dict[str, object]:
        """Readings, half a second old at most; state `unreachable` with the last ones where it does not answer."""
        with self._lock:
            if time.monotonic() - self._asked > STATUS_AGE:
                try:
                    self._status |= self._read_status()
                except DetectorError as error:
                    self._status |= {"state": "unreachable", "error": str(error)}
                self._asked = time.monotonic()
            return dict(self._status)

    def prepare(self, params: DectrisParams) -> None:
        who = self._known()
        how = plan(params, who)
        check_sharing(params)
        self.stop()
        simplon = self._connected()
        make_ready(simplon)
        configure(simplon, params, how, who)
        self.tag = ()
        armed = arm(simplon)
        self._armed = True
        self.tag = (armed.sequence, armed.unique_id)
        self._params, self._plan = params, how

    def start(self, on_trigger: OnTrigger) -> None:
        """What a trigger grants is the detector's to know: frames come when they come."""
        acq = self._params.acq
        if acq.trigger_mode in {TriggerMode.INTERNAL, TriggerMode.SOFTWARE}:
            self._triggers = Triggers(self._connected(), self._plan.nb_images * self._plan.frame_time)
        if self._triggers is not None and acq.trigger_mode is TriggerMode.INTERNAL:
            self._triggers.add()
            self._await_exposure(self._triggers)

    def trigger(self) -> None:
        if self._triggers is None:
            return
        if self._triggers.error is not None:
            raise StateError(f"the detector takes no more triggers: {self._triggers.error}")
        self._triggers.add()

    def stop(self) -> None:
        triggers, self._triggers = self._triggers, None
        if triggers is not None:
            triggers.end()
        armed, self._armed = self._armed, False
        try:
            if armed:
                self._disarm()
        except DetectorError as error:
            log.error("the detector is left as it is: %s", error)  # noqa: TRY400
            self._status |= {"error": str(error)}
        if triggers is not None:
            triggers.join()

    def close(self) -> None:
        self.stop()
        if self._simplon is not None:
            self._simplon.close()
            self._simplon = None

    def initialize(self) -> None:
        """Switch the readout on anew; forgets what was known of the detector. Raises DetectorError."""
        self._identity, self._armed = None, False
        self._connected().command("initialize", limit=120.0)

    def _await_exposure(self, triggers: Triggers) -> None:
        """See the run's only trigger taken, which comes back when the exposures are over; raises DetectorError."""
        simplon, deadline = self._connected(), time.monotonic() + TAKEN
        while triggers.error is None and time.monotonic() < deadline and simplon.state == "ready":
            time.sleep(LOOK)
        if triggers.error is not None:
            raise triggers.error

    def _disarm(self) -> None:
        """End a series, unless it has ended by itself."""
        simplon = self._connected()
        if simplon.state in {"ready", "acquire"}:
            simplon.command("abort")

    def _connected(self) -> Simplon:
        if not self._address:
            raise DetectorError(
                "nobody has told where the detector is: set the device property detector of control and receivers to "
                "its address (host or host:port)"
            )
        if self._simplon is None:
            self._simplon = Simplon(self._address)
        return self._simplon

    def _known(self) -> Identity:
        if self._identity is None:
            self._identity = identify(self._connected())
        return self._identity

    def _read_status(self) -> dict[str, object]:
        simplon = self._connected()
        state = str(simplon.get("state", "status", limit=STATUS_LIMIT).value)
        found: dict[str, object] = {"state": state, "error": ""}
        alarms = []
        for name, keys in READINGS.items():
            reading = _found(simplon, keys)
            if reading is not None:
                found[name] = _reading(reading.value)
                alarms += [name] if reading.critical else []
        dropped = simplon.find("dropped", "status", "stream", STATUS_LIMIT)
        found["stream_dropped"] = dropped.value if dropped is not None else 0
        found["alarms"] = alarms
        triggers = self._triggers
        if triggers is not None and triggers.error is not None:
            found["error"] = str(triggers.error)
        return found


def _found(simplon: Simplon, keys: Sequence[str]) -> Entry | None:
    for key in keys:
        entry = simplon.find(key, "status", limit=STATUS_LIMIT)
        if entry is not None:
            return entry
    return None


def _reading(value: Any) -> object:
    return float(value) if isinstance(value, int | float) else str(value)
