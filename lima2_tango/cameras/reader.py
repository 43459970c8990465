"""A detector that replays files, in real time: HDF5/NeXus, and what fabio reads."""

from collections.abc import Generator, Iterator
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from lima2_tango.core.acquisition import AcquisitionParams
from lima2_tango.core.errors import ParamError
from lima2_tango.core.frame import Block, EndOfSeries, FrameSpec
from lima2_tango.core.params import Int
from lima2_tango.core.pool import MIN_SLABS, Pool
from lima2_tango.core.series import OnTrigger, Series

from ._edges import TriggerInput
from ._fileset import FileSelection, FrameFiles
from ._ring import Order, Ring
from .base import ControlHalf, DetectorInfo, PacedReceiver, Plugin, block_length

BLOCKS_IN_FLIGHT = 16
"""Blocks of file frames that `prepare` makes memory for at most; a run that needs more makes it on its way."""
RESERVE = 256 << 20
"""Memory for blocks that `prepare` makes at most, but never less than the pool's least: it costs seconds [byte]."""


class Detector(FileSelection):
    """Frame i of the series is selected frame i; receivers share them as they would a detector's."""

    nb_prefetch_frames: Annotated[Int, Field(ge=1)] = 16
    """A receiver with at most this many different frames to show reads each of them only once [frame]."""
    loop: bool = False
    """Begin again after the last frame; else a series longer than the files is refused."""


class ReaderParams(AcquisitionParams):
    det: Detector = Detector()


class ReaderControl(ControlHalf[ReaderParams]):
    def __init__(self) -> None:
        self._params = ReaderParams()
        self._dimensions = (0, 0)
        self._input = TriggerInput()

    def info(self) -> DetectorInfo:
        """Dimensions are those of the files of the last `prepare`, 0 before."""
        return DetectorInfo("Reader", "Reader", "0", (100e-6, 100e-6), self._dimensions)

    def status(self) -> dict[str, object]:
        return {"state": "running" if self._input.armed else "idle", "temperature": 20.0, "humidity": 40.0}

    def prepare(self, params: ReaderParams) -> None:
        self.capabilities.check(params.acq)
        self.close()
        files = FrameFiles(params.det, at_most=1)
        files.close()
        self._dimensions = (files.spec.width, files.spec.height)
        self._params = params

    def start(self, on_trigger: OnTrigger) -> None:
        self._input.arm(self._params.acq, on_trigger)

    def trigger(self) -> None:
        self._input.software()

    def stop(self) -> None:
        self._input.disarm()


class ReaderReceiver(PacedReceiver[ReaderParams]):
    def __init__(self) -> None:
        self._files: FrameFiles | None = None
        self._ring: Ring | None = None

    def prepare(self, params: ReaderParams, rank: int, receivers: int, pool: Pool) -> FrameSpec:
        self.close()
        _warm()
        acq, self._det, self._pool = params.acq, params.det, pool
        at_most = 0 if self._det.loop else acq.nb_frames
        self._files = FrameFiles(self._det, at_most, keep=self._det.nb_prefetch_frames)
        if not self._det.loop and not 0 < acq.nb_frames <= self._files.count:
            held, asked = self._files.count, acq.nb_frames or "endlessly many"
            self.close()
            reason = f"the files give {held} frames, not {asked}: ask for fewer, or set $.det.loop to true"
            raise ParamError("$.acq.nb_frames", acq.nb_frames, reason)
        self._count = self._files.count if self._det.loop else acq.nb_frames
        self.frames_per_block = block_length(self._files.spec)
        self._arrange(Order(rank, receivers, self._count, self._det.loop))
        if self._ring is not None:
            self._ring.load()
        return self._files.spec

    def begin(self, series: Series) -> None:
        self._arrange(Order.of(series.topology, series.rank, self._count, self._det.loop))

    def blocks(self, series: Series) -> Generator[Block | EndOfSeries]:
        """As in the base; afterwards the files are closed, so that they can be written again."""
        try:
            yield from super().blocks(series)
        finally:
            if self._files is not None:
                self._files.close()

    def read(self, local: int, indices: NDArray[np.int64], times: NDArray[np.float64]) -> Iterator[Block]:
        if self._ring is not None:
            yield from self._ring.blocks(local, indices, times)
        else:
            yield self._from_files(local, indices, times)

    def close(self) -> None:
        if self._files is not None:
            self._files.close()
        if self._ring is not None:
            self._ring.close()
        self._files = self._ring = None

    def _arrange(self, order: Order) -> None:
        """Keep the frames of this order in memory where they are few; else have memory to read blocks into."""
        assert self._files is not None
        if self._ring is not None:
            if self._ring.order == order:
                return
            self._ring.close()
            self._ring = None
        spec = self._files.spec
        if 0 < len(order.numbers()) <= self._det.nb_prefetch_frames:
            self._ring = Ring(order, spec, self.frames_per_block, self._pool, self._files.read)
        else:
            block = self.frames_per_block * spec.nbytes
            self._pool.reserve(block, max(MIN_SLABS, min(BLOCKS_IN_FLIGHT, RESERVE // block)))

    def _from_files(self, local: int, indices: NDArray[np.int64], times: NDArray[np.float64]) -> Block:
        assert self._files is not None
        spec = self._files.spec
        lease = self._pool.take(self.frames_per_block * spec.nbytes)
        buffer: NDArray[np.uint8] = lease.buffer  # type: ignore[assignment]  # a slab's lease has one
        data = buffer[: len(indices) * spec.nbytes].view(spec.dtype).reshape(len(indices), *spec.shape)
        try:
            self._files.read(indices % self._count, data)
        except BaseException:
            lease.release()
            raise
        return Block(data, indices, local, times, lease)


def _warm() -> None:
    """Load what decompresses; at once where that is done."""
    from ._stored import warm

    warm()


PLUGIN = Plugin(name="Reader", params=ReaderParams, control=ReaderControl, receiver=ReaderReceiver, warm=_warm)
