"""The detector: its states, its commands, its readings."""

import math
import time
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import replace
from datetime import UTC, datetime
from threading import RLock, Thread
from typing import Any

import numpy as np

from . import readings, settings
from .arming import ENABLED, Rings, count_images
from .frames import Powder, Source, gaps
from .models import Model, Readout
from .options import Options
from .sender import Burst, Sender
from .series import Series, date_text
from .values import RefusedError, unknown

ANY = ("na", "idle", "ready", "acquire", "error", "configure", "initialize")
ALLOWED = {
    "initialize": ANY,
    "arm": ("idle",),
    "trigger": ("ready",),
    "disarm": ("idle", "ready", "acquire"),
    "cancel": ("idle", "ready", "acquire"),
    "abort": ("idle", "ready", "acquire", "error"),
    "status_update": ANY,
    "check_connection": ANY,
    "hv_reset": ("na", "idle"),
}
"""Commands, and the states in which each is taken."""
LOOK = 0.02
"""How often an exposure looks whether it was stopped [s]."""


class Detector:
    """What the REST interface speaks to; methods may be called from any thread."""

    def __init__(self, model: Model, options: Options, sender: Sender, source: Source | None = None) -> None:
        self.options = options
        self._source = source or Powder()
        if shape := self._source.shape:
            model = replace(model, full=Readout(shape[1], shape[0], model.full.period), rois={})
        self.model = model
        self._sender = sender
        self._lock = RLock()
        self._rings = Rings(self._source, options)
        self._series: Series | None = None
        self._burst: Burst | None = None
        self._triggers = 0
        self._arms = self._sequence = 0
        self._switch_on()

    @property
    def state(self) -> str:
        return self._state

    @property
    def series(self) -> Series | None:
        """The last series that was armed."""
        return self._series

    def tables(self, module: str) -> settings.Table:
        """The parameters of a module: detector, stream, filewriter, monitor or system."""
        return self._tables[module]

    def put(self, module: str, key: str, given: Any) -> list[str]:
        """Set a parameter; returns the keys of all that changed. Raises RefusedError."""
        with self._lock:
            if self._state in {"ready", "acquire"}:
                raise RefusedError(400, f'parameter "{key}" cannot be changed in state {self._state}: disarm first')
            table = self._tables[module]
            if module != "detector":
                return settings.put(table, key, given)
            changed = settings.put(table, key, given, self.model)
            if "roi_mode" in changed:
                self._make_arrays()
            return changed

    def command(self, module: str, name: str, argument: Any = None) -> dict[str, Any]:
        """Do it, and return when it is done: a trigger when the exposures are over. Raises RefusedError."""
        if module != "detector":
            return self._command_of(module, name)
        if name not in ALLOWED:
            raise unknown(f"command/{name}")
        with self._lock:
            if self._state not in ALLOWED[name]:
                allowed = ", ".join(ALLOWED[name])
                raise RefusedError(400, f'command "{name}" is not allowed in state {self._state}; allowed: {allowed}')
            after = self._commands[name](argument)
        if after is not None:
            after()
        return {"sequence id": self._sequence}

    def pulse(self) -> bool:
        """An external trigger; False where the detector does not wait for one."""
        with self._lock:
            if self._state != "ready" or not self._mode.startswith("ext"):
                return False
            burst = self._expose(None)
        Thread(target=self._finish, args=(burst,), name="lima2-simulated-exposure", daemon=True).start()
        return True

    def status(self, module: str) -> settings.Table:
        """Readings of a module."""
        if module == "detector":
            unique_id = self._series.unique_id if self._series else ""
            return readings.of_detector(self._state, unique_id, self.options.faults.high_temperature)
        if module == "stream":
            dropped = self._sender.counts.dropped - self._dropped_before
            return readings.of_stream(self._streams, self._state in {"ready", "acquire"}, dropped)
        mode = self._tables[module].get("mode")
        return readings.of_other(module, mode is None or mode.value == "enabled")

    def close(self) -> None:
        """End a series at once; no exposure goes on."""
        with self._lock:
            self._stop(discard=True)

    @property
    def _mode(self) -> str:
        mode: str = self._tables["detector"]["trigger_mode"].value
        return mode

    @property
    def _commands(self) -> Mapping[str, Callable[[Any], Callable[[], None] | None]]:
        return {
            "initialize": self._initialize,
            "arm": self._arm,
            "trigger": self._trigger,
            "disarm": lambda _: self._end(discard=False),
            "cancel": lambda _: self._end(discard=False),
            "abort": lambda _: self._end(discard=True),
            "status_update": lambda _: None,
            "check_connection": lambda _: None,
            "hv_reset": lambda _: None,
        }

    def _command_of(self, module: str, name: str) -> dict[str, Any]:
        known = {"stream": ["initialize"], "system": ["restart"]}.get(module, ["clear", "initialize"])
        if name not in known:
            raise unknown(f"command/{name}")
        with self._lock:
            if module == "system":
                self._stop(discard=True)
                self._switch_on()
            elif module == "stream":
                self._tables["stream"] = settings.stream_table(self.options.version)
                self._dropped_before = self._sender.counts.dropped
        return {}

    def _switch_on(self) -> None:
        version = self.options.version
        self._state = "na"
        self._dropped_before = self._sender.counts.dropped
        self._tables: dict[str, settings.Table] = {
            "detector": settings.detector_table(self.model, version),
            "stream": settings.stream_table(version),
            "filewriter": settings.filewriter_table(),
            "monitor": settings.monitor_table(),
            "system": {},
        }
        self._make_arrays()

    def _make_arrays(self) -> None:
        table = self._tables["detector"]
        shape = table["y_pixels_in_detector"].value, table["x_pixels_in_detector"].value
        mask = np.zeros(shape, np.uint32) if self._source.shape else gaps(self.model, shape)
        settings.add_arrays(table, mask)

    def _initialize(self, _: Any) -> None:
        self._stop(discard=True)
        self._state = "idle"
        self._sequence = 0

    def _arm(self, _: Any) -> Callable[[], None] | None:
        table, stream = self._tables["detector"], self._tables["stream"]
        names = settings.channels(table)
        if not names:
            raise RefusedError(400, "no threshold is enabled: enable one, or the difference")
        nb_images = count_images(table)
        legacy = "format" not in stream or stream["format"].value == "legacy"
        ring = self._rings.ring(table, 1 if legacy else len(names), not legacy)
        self._arms += 1
        self._sequence += 1
        table["data_collection_date"].value = date_text(datetime.now(UTC))
        config, told = ({key: copy(entry) for key, entry in each.items()} for each in (table, stream))
        if self.options.bit_depth:
            config["bit_depth_image"].value = self.options.bit_depth
        self._series = Series(self._sequence, self._arms, config, told, names[: ring.recipe.channels], ring, nb_images)
        self._triggers = table["ntrigger"].value
        self._state = "ready"
        if self._streams:
            self._sender.begin(self._series)
        return self._pulses(self._series)

    @property
    def _streams(self) -> bool:
        enabled: bool = self._tables["stream"]["mode"].value == "enabled"
        return enabled

    def _trigger(self, count_time: Any) -> Callable[[], None]:
        if self._mode.startswith("ext"):
            raise RefusedError(400, f'command "trigger" is not allowed in trigger_mode {self._mode}')
        if count_time is not None and self._mode != "inte":
            raise RefusedError(400, 'command "trigger" takes a count time in trigger_mode inte alone')
        if count_time is not None:
            count_time = self._tables["detector"]["count_time"].checked("count_time", count_time)
        burst = self._expose(count_time)
        return lambda: self._finish(burst)

    def _expose(self, count_time: float | None) -> Burst:
        """One trigger: its exposures begin."""
        series = self._series
        assert series is not None
        now = datetime.now(UTC)
        series.begun = series.begun or now
        count = 1 if self._mode in ENABLED else series.value("nimages")
        period = self._period(series, count_time)
        exposure = series.value("count_time") if count_time is None else count_time
        burst = Burst(
            series,
            series.exposed,
            count,
            time.monotonic() + series.value("trigger_start_delay"),
            (now - series.begun).total_seconds(),
            min(exposure, period) if self.options.rate else exposure,
            period,
        )
        series.exposed += count
        error_at = self.options.faults.error_at
        if error_at is not None and burst.first <= error_at < series.exposed:
            series.exposed = error_at
        self._burst = burst
        self._triggers -= 1
        self._state = "acquire"
        if self._streams:
            self._sender.expose(burst)
        else:
            burst.sent.set()
        return burst

    def _period(self, series: Series, count_time: float | None) -> float:
        """Of the images [s]; 0 for as fast as they are taken."""
        if self.options.flat_out:
            return 0.0
        if self.options.rate:
            return 1 / self.options.rate
        frame_time: float = series.value("frame_time")
        return frame_time if count_time is None else max(frame_time, count_time)

    def _finish(self, burst: Burst) -> None:
        """Wait until the exposures are over, and do what follows."""
        series = burst.series
        while not series.stopped.is_set() and not self._over(burst) and self._sender.is_alive:
            left = burst.due(series.exposed - 1) - time.monotonic() if burst.period else LOOK
            series.stopped.wait(min(LOOK, max(0.0, left)))
        with self._lock:
            if self._series is not series or self._state != "acquire" or series.stopped.is_set():
                return
            if series.exposed < burst.first + burst.count or not self._sender.is_alive:
                self._stop(discard=False)
                self._state = "error"
            elif self._triggers > 0:
                self._state = "ready"
            else:
                self._end(discard=False)

    def _over(self, burst: Burst) -> bool:
        """The last exposure is over; flat out, all images of the trigger are sent."""
        return time.monotonic() >= burst.due(burst.series.exposed - 1) if burst.period else burst.sent.is_set()

    def _end(self, discard: bool) -> None:
        """No more exposures; the end is sent behind what was exposed, unless that is discarded."""
        series, burst = self._series, self._burst
        if series is None or self._state not in {"ready", "acquire"}:
            return
        if self._state == "acquire" and burst is not None and not series.stopped.is_set():
            series.exposed = min(series.exposed, burst.first + self._begun(burst))
        self._stop(discard)
        self._state = "idle"
        if self._streams:
            self._sender.end(series)

    def _begun(self, burst: Burst) -> int:
        """Of a trigger that is on, the images whose exposure has begun; flat out, those that were sent."""
        if not burst.period:
            return burst.nb_sent if not burst.sent.is_set() else burst.count
        return max(0, math.ceil((time.monotonic() - burst.begin) / burst.period))

    def _stop(self, discard: bool) -> None:
        if self._series is not None:
            if discard:
                self._series.discarded.set()
            self._series.stopped.set()

    def _pulses(self, series: Series) -> Callable[[], None] | None:
        """External triggers that come by themselves."""
        if not self.options.pulse_period or not self._mode.startswith("ext"):
            return None

        def pulse() -> None:
            while not series.stopped.wait(self.options.pulse_period):
                self.pulse()

        return Thread(target=pulse, name="lima2-simulated-pulses", daemon=True).start
