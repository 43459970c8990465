"""A camera on the bench: what the contract suite drives, and tests of single cameras too."""

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lima2_tango.cameras.base import Plugin
from lima2_tango.core.acquisition import AcquisitionParams
from lima2_tango.core.frame import Block, EndOfSeries, FrameSpec
from lima2_tango.core.plugins import load
from lima2_tango.core.pool import Pool
from lima2_tango.core.series import Series
from lima2_tango.transport.topology import RoundRobin

BUDGET = 256 << 20
Bench = Callable[[Path], dict[str, Any]]
"""Makes what a camera needs in a folder, and gives the `det` parameters of a small, endless detector."""


def _small_simulator(_folder: Path) -> dict[str, Any]:
    return {"width": 32, "height": 24, "nb_prefetch_frames": 6}


def _small_files(folder: Path) -> dict[str, Any]:
    import h5py

    with h5py.File(folder / "lima2_0_00000.h5", "w") as file:
        file["/entry_0000/measurement/data"] = np.arange(5 * 24 * 32, dtype=np.uint16).reshape(5, 24, 32)
    return {"base_path": str(folder), "loop": True}


def _nothing(_folder: Path) -> dict[str, Any]:
    return {}


@dataclass(frozen=True, slots=True)
class Place:
    """A detector of a camera that has one on the network."""

    address: str
    det: dict[str, Any]


def _small_dectris(stack: ExitStack) -> Place:
    from lima2_tango.simulators.dectris.frames import Powder
    from lima2_tango.simulators.dectris.models import find_model
    from lima2_tango.simulators.dectris.options import Options
    from lima2_tango.simulators.dectris.server import SimulatedDetector

    model = find_model("eiger2-500k")
    fast = replace(model, full=replace(model.full, period=1e-4))
    made = SimulatedDetector(fast, Options(distinct=4, rate=2000), source=Powder(shape=(24, 32)))
    detector = stack.enter_context(made)
    det = {"thresholds": [{"energy": 6000.0}], "stream_port": detector.stream_ports[0]}
    return Place(f"{detector.address}:{detector.port}", det)


NETWORKED: dict[str, Callable[[ExitStack], Place]] = {"dectris": _small_dectris}
"""By file name: cameras whose detector is on the network; a simulated one, which the stack ends."""
BENCHES: dict[str, Bench] = {"simulator": _small_simulator, "reader": _small_files}
"""By file name; a camera that needs nothing has none."""


@dataclass
class Delivery:
    """What one receiver delivered."""

    blocks: list[Block] = field(default_factory=list)
    ends: list[EndOfSeries] = field(default_factory=list)

    @property
    def indices(self) -> list[int]:
        return [int(index) for block in self.blocks for index in block.index]

    def frames(self) -> dict[int, NDArray[Any]]:
        """Copies by global index."""
        return {int(i): frame.copy() for block in self.blocks for i, frame in zip(block.index, block.data, strict=True)}

    def release(self) -> None:
        for block in self.blocks:
            block.lease.release()


class Rig:
    """A camera on the bench: both halves, small frames."""

    def __init__(self, plugin: Plugin, det: dict[str, Any], address: str = "", stack: ExitStack | None = None) -> None:
        """`address` is that of a detector on the network; `stack` is what is closed behind the camera."""
        self.plugin, self.det = plugin, det
        self._stack = stack or ExitStack()
        self.pool = Pool(BUDGET)
        self.control = plugin.control()
        self.receivers = [plugin.receiver() for _ in range(3)]
        if address:
            self.control.locate(address)
            for half in self.receivers:
                half.locate(address)

    def params(self, **acq: object) -> AcquisitionParams:
        """Parameters of fast frames, unless `acq` says otherwise."""
        return self.plugin.params.parse(
            json.dumps({"acq": {"expo_time": 100, "latency_time": 0, **acq}, "det": self.det})
        )

    def prepare(self, params: AcquisitionParams, receivers: int = 1) -> list[FrameSpec]:
        self.control.prepare(params)
        return [
            half.prepare(params, rank, receivers, self.pool) for rank, half in enumerate(self.receivers[:receivers])
        ]

    def series(self, params: AcquisitionParams, receivers: int = 1) -> list[Series]:
        """Of these receivers; the others do not take part."""
        made = [Series(params.acq, RoundRobin(receivers), rank) for rank in range(receivers)]
        for one in made:
            one.tag = self.control.tag
        for half in self.receivers[receivers:]:
            half.abandon()
        return made

    def start(self, series: Sequence[Series], also: Callable[[int], None] = lambda _: None) -> None:
        """Begin: what the control half grants goes to all receivers, and is told."""

        def on_trigger(limit: int) -> None:
            also(limit)
            for one in series:
                one.grant(limit)

        self.control.start(on_trigger)

    def deliver_all(self, series: Sequence[Series], count: int) -> list[Delivery]:
        """Everything of all receivers. Where they share a stream, at once, and they end when all frames have come."""
        if not self.plugin.free_running or len(series) == 1:
            return [self.deliver(one) for one in series]
        deliveries = [Delivery() for _ in series]

        def look() -> None:
            if sum(len(delivery.indices) for delivery in deliveries) == count:
                for one in series:
                    one.cut(count)

        tasks = [partial(self.pull, one, delivery, look) for one, delivery in zip(series, deliveries, strict=True)]
        threads = [Thread(target=task) for task in tasks]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return deliveries

    def deliver(self, series: Series) -> Delivery:
        """Everything until the end; the series must end by itself."""
        delivery = Delivery()
        self.pull(series, delivery, lambda: None)
        return delivery

    def pull(self, series: Series, delivery: Delivery, on_block: Callable[[], None]) -> None:
        """Add to `delivery` until the end, and tell of every block."""
        for item in self.receivers[series.rank].blocks(series):
            if isinstance(item, EndOfSeries):
                delivery.ends.append(item)
            else:
                delivery.blocks.append(item)
                on_block()

    def run(self, receivers: int = 1, **acq: object) -> list[Delivery]:
        """Prepare, start, deliver on all receivers, stop."""
        params = self.params(**acq)
        self.prepare(params, receivers)
        series = self.series(params, receivers)
        self.start(series)
        deliveries = self.deliver_all(series, params.acq.nb_frames)
        self.control.stop()
        return deliveries

    def close(self) -> None:
        self.control.close()
        for half in self.receivers:
            half.close()
        self._stack.close()


def make_rig(name: str, folder: Path) -> Rig:
    """The camera of this file name on its bench."""
    if name in NETWORKED:
        stack = ExitStack()
        place = NETWORKED[name](stack)
        return Rig(load("cameras", name), place.det, place.address, stack)
    return Rig(load("cameras", name), BENCHES.get(name, _nothing)(folder))
