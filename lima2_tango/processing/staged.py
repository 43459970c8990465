"""A pipeline whose workers take a block each, and which commits what they made in order."""

from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

import numpy as np

from lima2_tango.core.errors import Lima2Error, ProcessingError, SavingError
from lima2_tango.core.frame import Block
from lima2_tango.core.params import Params
from lima2_tango.core.sink import Sink

from .executor import OrderedStage
from .kernels.warm import ready_kernels
from .nodes.derive import part
from .pipeline import Pipeline, Pressure, Setup
from .rows import RowQueue

P = TypeVar("P", bound=Params)
R = TypeVar("R")
Kernels = tuple[str, np.dtype[Any]]
"""A kind of kernels (a key of `kernels.warm.KINDS`) and the pixel type they are needed for."""


class Staged(Pipeline[P], Generic[P, R]):
    """A subclass says what a worker makes of a block (`work`), what of that is kept (`commit`), and how it ends."""

    def __init__(self, params: P, setup: Setup) -> None:
        super().__init__(params, setup)
        self._finished = False
        self._stage: OrderedStage[R]
        self._sinks: list[Sink] = []
        self._frame_idx = RowQueue("popFrameIdx")
        self.rows["popFrameIdx"] = self._frame_idx

    @abstractmethod
    def work(self, block: Block) -> R:
        """On any worker: everything that needs no order; `block` stays the caller's."""

    @abstractmethod
    def commit(self, result: R) -> None:
        """One at a time, in order; owns the result, also when it raises."""

    @abstractmethod
    def discard(self, result: R) -> None:
        """Give back what a result holds that is not committed."""

    def begin(self, depth: int, frames: int, kernels: Iterable[Kernels]) -> None:
        """Last act of a constructor: at most `depth` blocks and `frames` frames are in flight.

        Waits for the kernels: the first frame must not. Where the background has made them, this costs nothing.
        """
        self._stage = OrderedStage(self.setup.workers, depth, self.work, self.commit, self.discard, frames)
        self._stage.on_error = lambda: self.on_failure()  # it is set later
        for kind, dtype in kernels:
            ready_kernels(kind, dtype)

    def pressure(self) -> Pressure:
        stage, written = self._stage, [sink.written for sink in self._sinks]
        total, rate = sum(meter.total for meter in written), sum(meter.rate() for meter in written)
        return Pressure(stage.in_flight, stage.high_water, stage.waits, total, rate)

    def put(self, block: Block) -> None:
        self._stage.put(block)

    def finish(self) -> None:
        try:
            self._stage.drain()
            self.close()
        except Exception as error:
            self.abort(error)
            raise
        self._finished = True
        self.let_go()

    def abort(self, error: Exception) -> None:
        self._stage.fail(error)
        self._finished = True
        self.let_go()
        if not self._stage.settle():
            _add(error, "a worker still holds a block, so the last file is not closed: the disk or a worker hangs")
            return
        try:
            self.close()
        except Lima2Error as second:
            _add(error, second.what)

    def erase(self) -> None:
        if not self._finished:
            self.abort(ProcessingError("this pipeline was erased before it was finished: prepare a new one"))
        super().erase()

    def close(self) -> None:
        """Nothing comes any more: complete the files. Safe twice; raises Lima2Error, after all are completed."""
        errors: list[Lima2Error] = []
        for sink in self._sinks:
            try:
                sink.close()
            except Lima2Error as error:
                errors.append(error)
        if errors:
            raise errors[0]


def save(sink: Sink | None, encoded: Any, frames: int, then: Callable[[int], None]) -> None:
    """Write a block of so many frames, where there is a sink, and tell `then` how many of them are complete.

    After a failure these are the ones that the file has; the error is raised after that.
    """
    if sink is None:
        then(frames)
        return
    before = sink.nb_frames_saved
    try:
        sink.append(encoded)
    except SavingError:
        then(sink.nb_frames_saved - before)
        raise
    then(frames)


def first(block: Block, count: int) -> Block:
    """The first frames of a block, on its lease."""
    return block if count == len(block) else part(block, slice(count))


def _add(error: Exception, also: str) -> None:
    """What went wrong after the error that stopped the run, for its reader."""
    if isinstance(error, Lima2Error) and also != error.what:
        error.info["also"] = also
