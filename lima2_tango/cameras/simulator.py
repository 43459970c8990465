"""A detector without hardware: images made in advance, delivered in real time, triggered like a real one."""

import time
from collections.abc import Iterator
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from lima2_tango.core.acquisition import AcquisitionParams, Dispatch, Sharing, TriggerMode
from lima2_tango.core.errors import DetectorError, ParamError, StateError
from lima2_tango.core.frame import Block, FrameSpec
from lima2_tango.core.losses import Losses, Overload, placeholders
from lima2_tango.core.modules import Layout
from lima2_tango.core.params import Int, Params
from lima2_tango.core.pool import Pool
from lima2_tango.core.series import OnTrigger, Series

from ._edges import TriggerInput, TriggerPort
from ._images import Generator, warm
from ._modules import Modules, Parts, Rectangles, View, Whole, layout
from ._ring import Order, Ring
from .base import Capabilities, ControlHalf, DetectorInfo, ExtraCommand, PacedReceiver, Plugin, block_length

Side = Annotated[Int, Field(ge=1, le=65535)]
FrameNumber = Annotated[Int, Field(ge=0)]


class Detector(Params):
    """The simulated detector."""

    generator: Generator = Generator()
    dispatch_mode: Dispatch = Dispatch.ROUND_ROBIN
    """Who gets a frame: round_robin, predictive_random (a fixed sequence), full_random, or least_loaded (with
    distributed_processing: who has the least to do)."""
    nb_prefetch_frames: Annotated[Int, Field(ge=1, le=65536)] = 16
    """Images made in advance; frame i shows image i modulo this number [frame]."""
    dropped_frame_idx: FrameNumber = 0
    """Global index of a frame that gets lost: it arrives as zeros and marked invalid; 0 for none."""
    failed_frame_idx: FrameNumber = 0
    """Global index of a frame at which the receiver fails; 0 for none."""
    overload: Overload = Overload.WAIT
    """When the pipeline cannot keep up: wait (frames come late), abort (the run fails at the first lost frame), or
    count (lost frames become zeros, marked invalid)."""
    nb_buffered_frames: Annotated[Int, Field(ge=1, le=65536)] = 100
    """Frames of a receiver that wait in the camera before they are lost, unless overload is wait [frame]."""
    width: Side = 2048
    """Columns of a frame [pixel]."""
    height: Side = 2048
    """Rows of a frame [pixel]."""
    topology: Sharing = Sharing.FULL_FRAMES
    """How receivers share the detector: full_frames (each acquires its own), distributed_processing (the control's
    rank acquires and scatters them), partial_frames (each acquires its modules, frames are assembled), or
    kept_partial_frames (each processes and saves its part; only where the control drives)."""
    acquisition_rank: Annotated[Int, Field(ge=-1, le=1023)] = -1
    """With distributed_processing: the receiver whose process acquires for all, beside its own work; -1 for the
    control's process, which has no other."""
    modules: Modules = ()
    """Modules of the detector, for partial frames; none given: one stripe over the frame for each receiver."""
    trigger_port: Annotated[Int, Field(ge=0, le=65535)] = 0
    """UDP port on 127.0.0.1 whose datagrams (first byte 0 or 1) are the level of the trigger input; 0 for none."""


class SimulatorParams(AcquisitionParams):
    det: Detector = Detector()

    @property
    def dispatch(self) -> Dispatch:
        return self.det.dispatch_mode

    @property
    def sharing(self) -> Sharing:
        return self.det.topology

    @property
    def acquisition_rank(self) -> int:
        return self.det.acquisition_rank

    def layout(self, receivers: int) -> Layout:
        det = self.det
        return layout(det.modules, det.height, det.width, receivers, everyone=det.topology.kept)


class SimulatorControl(ControlHalf[SimulatorParams]):
    capabilities = Capabilities(trigger_modes=tuple(TriggerMode))

    def __init__(self) -> None:
        self._params = SimulatorParams()
        self._input = TriggerInput()
        self._port: TriggerPort | None = None

    def info(self) -> DetectorInfo:
        det = self._params.det
        return DetectorInfo("Simulator", "Simulator", "0", (100e-6, 100e-6), (det.width, det.height))

    def status(self) -> dict[str, object]:
        """Beside the usual: triggers missed in this run, and datagrams on the trigger port that were no level."""
        return {
            "state": "running" if self._input.armed else "idle",
            "temperature": 20.0,
            "humidity": 40.0,
            "nb_missed_triggers": self._input.missed,
            "nb_bad_datagrams": self._port.bad_datagrams if self._port else 0,
        }

    def prepare(self, params: SimulatorParams) -> None:
        self.capabilities.check(params.acq)
        _check_sharing(params.det)
        self.close()
        self._params = params
        if params.det.trigger_port:
            self._port = TriggerPort(params.det.trigger_port, self._input.level)

    def start(self, on_trigger: OnTrigger) -> None:
        self._input.arm(self._params.acq, on_trigger)

    def trigger(self) -> None:
        self._input.software()

    def external_trigger(self, level: bool) -> None:
        """Set the level of the trigger input; raises StateError where this run does not look at it."""
        mode = self._params.acq.trigger_mode
        if mode not in {TriggerMode.EXTERNAL, TriggerMode.GATE}:
            raise StateError(f"acq.trigger_mode is {mode}: prepare with external or gate to use the trigger input")
        self._input.level(level)

    def stop(self) -> None:
        self._input.disarm()

    def close(self) -> None:
        self.stop()
        if self._port is not None:
            self._port.close()
            self._port = None


_PARTIAL: dict[Sharing, type[Parts]] = {
    Sharing.PARTIAL_FRAMES: Parts,
    Sharing.KEPT_PARTIAL_FRAMES: Rectangles,
}


def _check_sharing(det: Detector) -> None:
    if det.acquisition_rank >= 0 and det.topology is not Sharing.DISTRIBUTED_PROCESSING:
        reason = (
            f"with $.det.topology {det.topology} every receiver acquires: give -1, or choose distributed_processing"
        )
        raise ParamError("$.det.acquisition_rank", det.acquisition_rank, reason)
    if det.modules and det.topology not in _PARTIAL:
        reason = (
            f"with $.det.topology {det.topology} frames have no parts: choose {' or '.join(_PARTIAL)}, or give none"
        )
        raise ParamError("$.det.modules", f"{len(det.modules)} modules", reason)


class SimulatorReceiver(PacedReceiver[SimulatorParams]):
    def __init__(self) -> None:
        self._ring: Ring | None = None
        self._made: tuple[View, Order] | None = None

    def promise(self, params: SimulatorParams) -> FrameSpec:
        _check_sharing(params.det)
        return Whole(params.det.generator, params.det.height, params.det.width).spec

    def prepare(self, params: SimulatorParams, rank: int, receivers: int, pool: Pool) -> FrameSpec:
        det = params.det
        self._params, self._det, self._pool = params, det, pool
        _check_sharing(det)
        dealt = det.dispatch_mode is Dispatch.ROUND_ROBIN and det.topology not in _PARTIAL
        count = det.nb_prefetch_frames
        self._see(rank, receivers, Order(rank, receivers, count) if dealt else Order(0, 1, count))
        return self._view.spec

    def begin(self, series: Series) -> None:
        topology = series.topology
        self._see(series.rank, topology.receivers, Order.of(topology, series.rank, self._det.nb_prefetch_frames))
        self._lateness = self._view.delay + series.exposure

    def _see(self, rank: int, receivers: int, order: Order) -> None:
        """This receiver is that one of so many, and shows images in this order."""
        det = self._det
        partial = _PARTIAL.get(det.topology)
        if partial is None:
            self._view: View = Whole(det.generator, det.height, det.width)
        else:
            self._view = partial(det.generator, det.modules, self._params.layout(receivers), rank)
        self._spec = self._view.spec
        self.frames_per_block = block_length(self._spec)
        self.losses = Losses(det.overload, det.nb_buffered_frames, self._spec)
        self._make_images(order)

    def read(self, local: int, indices: NDArray[np.int64], times: NDArray[np.float64]) -> Iterator[Block]:
        if self._view.delay:
            time.sleep(max(0.0, times[-1] + self._lateness - time.time()))
        start = 0
        for position in self._special(indices):
            yield from self._blocks(local + start, indices[start:position], times[start:position])
            if indices[position] == self._det.failed_frame_idx:
                raise DetectorError(
                    f"frame {indices[position]} failed, as $.det.failed_frame_idx asks: set it to 0 for a run without",
                    frame_idx=int(indices[position]),
                )
            start = position + 1
            yield from placeholders(self._spec, local + position, indices[position:start], times[position:start])
        yield from self._blocks(local + start, indices[start:], times[start:])

    def _blocks(self, local: int, indices: NDArray[np.int64], times: NDArray[np.float64]) -> Iterator[Block]:
        assert self._ring is not None
        return map(self._view.dress, self._ring.blocks(local, indices, times))

    def close(self) -> None:
        if self._ring is not None:
            self._ring.close()
        self._ring = self._made = None

    def _make_images(self, order: Order) -> None:
        """Have the images of this order in memory; those of the last run stay where they are the same."""
        wanted = (self._view, order)
        if self._made != wanted:
            self.close()
            self._ring = Ring(order, self._spec, self.frames_per_block, self._pool, self._view.fill)
            self._ring.load()
            self._made = wanted

    def _special(self, indices: NDArray[np.int64]) -> list[int]:
        """Positions of the dropped and the failed frame among these, in order."""
        asked = [number for number in (self._det.dropped_frame_idx, self._det.failed_frame_idx) if number]
        return np.flatnonzero(np.isin(indices, asked)).tolist() if asked else []


PLUGIN = Plugin(
    name="Simulator",
    params=SimulatorParams,
    control=SimulatorControl,
    receiver=SimulatorReceiver,
    warm=warm,
    commands={
        "ExternalTrigger": ExtraCommand(
            run=SimulatorControl.external_trigger,
            argument=bool,
            doc="Level of the trigger input: a rising edge triggers (external), a frame is exposed while high (gate).",
        )
    },
)
