"""What a detector must provide: one file per detector, with `PLUGIN = Plugin(...)` at its end.

The *control half* runs once, beside the control device: it knows the detector, arms it and takes triggers. The
*receiver half* runs in every receiver: it makes blocks of frames. They share the parameters, nothing else.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from lima2_tango.core.acquisition import Acq, AcquisitionParams, TriggerMode
from lima2_tango.core.errors import ParamError
from lima2_tango.core.frame import BLOCK_BYTES, Block, EndOfSeries, FrameSpec
from lima2_tango.core.losses import Losses, placeholders
from lima2_tango.core.pool import Pool
from lima2_tango.core.series import OnTrigger, Series, Tag
from lima2_tango.core.sink import OpenSink
from lima2_tango.core.units import microseconds_text

BLOCK_FRAMES = 4096
"""A block has at most this many frames, however small they are."""
BLOCK_AGE = 0.05
"""A block is cut when its first frame is this old [s], so that latency at low rates is bounded."""

P = TypeVar("P", bound=AcquisitionParams)


@dataclass(frozen=True, slots=True)
class DetectorInfo:
    """What does not change during a session (contract section 2.2)."""

    plugin: str
    model: str
    serial: str
    pixel_size: tuple[float, float]
    """(x, y) [m]"""
    dimensions: tuple[int, int]
    """(columns, rows) [pixel]"""
    more: Mapping[str, object] = field(default_factory=dict)
    """What else is known, by its key for clients."""

    def as_json(self) -> dict[str, object]:
        return {
            "plugin": self.plugin,
            "model": self.model,
            "sn": self.serial,
            "pixel_size": {"x": self.pixel_size[0], "y": self.pixel_size[1]},
            "dimensions": {"x": self.dimensions[0], "y": self.dimensions[1]},
            **self.more,
        }


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What the detector can do (contract section 2.4)."""

    trigger_modes: tuple[TriggerMode, ...] = (TriggerMode.INTERNAL, TriggerMode.SOFTWARE)
    expo_time_range: tuple[int, int] = (1_000, 10_000_000_000_000)
    """[shortest, longest) exposure [ns]"""
    latency_time_range: tuple[int, int] = (0, 1_000_000_000_000_000)
    """[shortest, longest) dead time [ns]"""
    nb_frames_per_trigger_range: tuple[int, int] = (1, 2**31)

    def as_json(self) -> dict[str, object]:
        return {
            "trigger_modes": [str(mode) for mode in self.trigger_modes],
            "expo_time_range": list(self.expo_time_range),
            "latency_time_range": list(self.latency_time_range),
            "nb_frames_per_trigger_range": list(self.nb_frames_per_trigger_range),
        }

    def check(self, acq: Acq) -> None:
        """Raise ParamError, with the JSON path, for what the detector cannot do."""
        if acq.trigger_mode not in self.trigger_modes:
            choices = ", ".join(self.trigger_modes)
            raise ParamError("$.acq.trigger_mode", acq.trigger_mode, f"this detector can be triggered by {choices}")
        _check_range("$.acq.expo_time", acq.expo_time, self.expo_time_range)
        _check_range("$.acq.latency_time", acq.latency_time, self.latency_time_range)
        least, most = self.nb_frames_per_trigger_range
        if not least <= acq.nb_frames_per_trigger <= most:
            path = "$.acq.nb_frames_per_trigger"
            raise ParamError(path, acq.nb_frames_per_trigger, f"one trigger can expose {least} to {most} frames")


def _check_range(path: str, value: int, nanoseconds: tuple[int, int]) -> None:
    shortest, longest = nanoseconds
    if not shortest <= value * 1000 < longest:
        least, most = microseconds_text(shortest // 1000), microseconds_text(longest // 1000)
        raise ParamError(path, value, f"give at least {least} and less than {most}, in us")


@dataclass(frozen=True, slots=True)
class ExtraCommand:
    """A command of this camera's control device beyond the contract's; the argument's type is the Tango type."""

    run: Callable[[Any, Any], None]
    argument: type | None
    doc: str


@dataclass(frozen=True, slots=True)
class Reading:
    """A reading of the detector as an attribute of its control device.

    It is in alarm beyond its limits, which the facility may change in its database; where it is none of the `good`
    texts; and where `status` has its name in the list `alarms`: the detector says so itself.
    """

    kind: type[float] | type[int] | type[str]
    doc: str
    unit: str = ""
    least: float | None = None
    """In alarm at this or below, in its unit."""
    most: float | None = None
    """In alarm at this or above, in its unit."""
    good: tuple[str, ...] = ()
    """Of a text; none where every one is good."""
    key: str = ""
    """Its name in `status`, where that is not the attribute's."""


class ControlHalf(ABC, Generic[P]):
    """The detector as its control device sees it.

    Methods are called one at a time, `trigger` only while running; but `info` and `status` at any time.
    """

    capabilities: Capabilities = Capabilities()
    tag: Tag = ()
    """What the receiver halves are told when the run begins (`Series.tag`); `prepare` sets it."""

    def locate(self, address: str) -> None:
        """Where the detector is: the device property `detector`. Called once, before anything else."""

    @abstractmethod
    def info(self) -> DetectorInfo: ...

    def status(self) -> dict[str, object]:
        """Readings that change (contract section 2.3): `state`, temperature [degC], humidity [%], ...

        State `unreachable` where the detector does not answer; `alarms` is a list of those that it calls critical.
        """
        return {"state": "idle", "temperature": 0.0, "humidity": 0.0}

    @abstractmethod
    def prepare(self, params: P) -> None:
        """Check and arm; raises ParamError or DetectorError. Called again without a run in between, it starts over."""

    @abstractmethod
    def start(self, on_trigger: OnTrigger) -> None:
        """Begin. In trigger modes `on_trigger(limit)` grants the frames below a global index, from any thread."""

    def trigger(self) -> None:
        """Software trigger: queued while an earlier one is still exposing."""

    @abstractmethod
    def stop(self) -> None:
        """No more triggers; safe in every state, and twice."""

    def close(self) -> None:
        """Give back sockets and threads; safe in every state, and twice."""
        self.stop()


class ReceiverHalf(ABC, Generic[P]):
    """The detector's data as one receiver sees it."""

    raw: FrameSpec | None = None
    """Frames that the camera itself can save, of the run that was prepared (contract: raw_frame); None for most."""

    def locate(self, address: str) -> None:
        """Where the detector is: the device property `detector`. Called once, before anything else."""

    def open_files(self, open_sink: OpenSink) -> None:
        """After `prepare`: open the files that the camera itself writes. Raises ParamError."""

    @abstractmethod
    def prepare(self, params: P, rank: int, receivers: int, pool: Pool) -> FrameSpec:
        """Check, allocate, and promise the frames' shape; `receivers` is how many are expected to take part."""

    def promise(self, params: P) -> FrameSpec:
        """The frames' shape alone, for a receiver whose frames another rank acquires."""
        raise ParamError("$.det.topology", params.sharing, "this camera delivers frames to each receiver by itself")

    def abandon(self) -> None:
        """What was prepared is not started, or has ended: take nothing more from the detector; safe twice."""

    @abstractmethod
    def blocks(self, series: Series) -> Generator[Block | EndOfSeries]:
        """This receiver's frames in order of index, then the end. Not pulled, it waits or applies its loss policy."""

    def close(self) -> None:
        """Give back files, sockets and memory; safe in every state, and twice."""


class PacedReceiver(ReceiverHalf[P]):
    """A receiver half whose frames can be made on demand: paced by the series, it waits when nobody pulls."""

    frames_per_block: int = 1
    """Most frames of one block; `prepare` sets it (see `block_length`)."""
    losses: Losses | None = None
    """Set by a camera that plays a detector which cannot wait."""

    @abstractmethod
    def read(self, local: int, indices: NDArray[np.int64], times: NDArray[np.float64]) -> Iterator[Block]:
        """The frames with these global indices, of which the first has local index `local`, as one or more blocks.

        `times` says when each exposure began, seconds since the epoch (UTC).
        """

    def begin(self, series: Series) -> None:
        """The run starts; the number of receivers that take part is known now (`series.topology.receivers`)."""

    def blocks(self, series: Series) -> Generator[Block | EndOfSeries]:
        self.begin(series)
        local = 0
        while True:
            indices = series.topology.owned(series.rank, local, self.frames_per_block)
            times = series.claim(indices, BLOCK_AGE)
            if not len(times):
                break
            indices = indices[: len(times)]
            gone = 0 if self.losses is None else self.losses.gone(series, indices, times, 2 * BLOCK_AGE)
            if self.losses is not None and gone:
                yield from placeholders(self.losses.spec, local, indices[:gone], times[:gone])
            if gone < len(times):
                yield from self.read(local + gone, indices[gone:], times[gone:])
            local += len(times)
        yield EndOfSeries(local)


def block_length(spec: FrameSpec, at_most: int = BLOCK_FRAMES) -> int:
    """Frames of one block: up to `BLOCK_BYTES`, at least 1, at most `at_most`."""
    return max(1, min(at_most, BLOCK_BYTES // max(spec.nbytes, 1)))


@dataclass(frozen=True, slots=True)
class Plugin:
    """What a camera file exports as `PLUGIN`."""

    name: str
    """As in the Tango classes `Lima<name>Control` and `Lima<name>Receiver`."""
    params: type[AcquisitionParams]
    """Root parameters: AcquisitionParams with the camera's own `det`."""
    control: Callable[[], ControlHalf[Any]]
    receiver: Callable[[], ReceiverHalf[Any]]
    version: str = "core-1.2.0"
    """As the clients check it (contract section 2.5)."""
    commands: Mapping[str, ExtraCommand] = field(default_factory=dict)
    free_running: bool = False
    """Frames come when the detector sends them, to whichever receiver takes them next: several of them share it as the
    conductor's topology dynamic, and `ControlHalf.start` grants nothing. Else the topology says whose a frame is."""
    readings: Mapping[str, Reading] = field(default_factory=dict)
    """What of `ControlHalf.status` is an attribute of its own, by name."""
    warm: Callable[[], None] | None = None
    """Compile or import, in the background, what the first `prepare` of a receiver would wait for."""
