"""The Legacy pipeline at work: each block through its nodes, then written, readable and counted, in order."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lima2_tango.core.errors import Lima2Error, ProcessingError, SavingError
from lima2_tango.core.frame import Block, FrameSpec
from lima2_tango.core.meter import Meter
from lima2_tango.core.sink import Sink

from . import chain
from .executor import OrderedStage
from .guard import Guard
from .kernels.warm import ready_kernels
from .node import Node, check, specs
from .nodes.accumulation import Accumulator
from .pipeline import Counters, Pipeline, Pressure, Setup
from .pipelines.legacy import LegacyParams
from .reduction import Reduction
from .rows import FRAME_IDX, RowQueue

COUNTERS = ("nb_frames_source", "nb_frames_input", "nb_frames_processed", "nb_frames_saved", "nb_frames_over_limit")


@dataclass(slots=True)
class _Result:
    """What the workers made of one block; holds a claim on each of its blocks."""

    source: Block
    processed: Block
    over_limit: int
    rows: list[NDArray[np.void]] = field(default_factory=list)
    encoded: Any = None


class Legacy(Pipeline[LegacyParams]):
    """Dense frames in, dense frames out. A frame is counted when it is written and readable, and its rows come after.

    Placeholders of lost frames stay in the series as frames of zeros, with rows of zeros. To a sum they add nothing;
    a sum that misses a frame is written as it is, and its rows are zeros.
    """

    def __init__(self, params: LegacyParams, setup: Setup) -> None:
        super().__init__(params, setup)
        self._finished = False
        self._image = chain.image_nodes(setup.acquisition.img)
        framed = check(self._image, setup.spec)
        correction = chain.correction_of(params.background, params.flatfield, params.mask, framed)
        self._corrections: list[Node] = [] if correction is None else [correction]
        corrected, valid = check(self._corrections, framed), None if correction is None else correction.valid
        limit = params.max_countrate_protection
        self._guard = Guard(limit, setup, framed, valid) if limit.enabled else None
        summing = params.accumulation
        self._accumulator = Accumulator(summing.nb_frames, corrected) if summing.enabled else None
        final = corrected if self._accumulator is None else self._accumulator.output_spec
        self.infos = {"input_frame_info": setup.spec, "processed_frame_info": final}
        self._reduction = Reduction(params.statistics, params.profiles, final, valid)
        self._frame_idx = RowQueue("popFrameIdx")
        self.rows = {**self._reduction.queues, "popFrameIdx": self._frame_idx}
        self.counters = Counters(*COUNTERS)
        made = specs([*self._image, *self._corrections], setup.spec)
        depth = self.reserve(made)
        if self._accumulator is not None:
            setup.pool.reserve(final.nbytes, 2)
        fifo = params.fifo.nb_fifo_frames
        self._stage = OrderedStage(setup.workers, depth, self._work, self._commit, self._discard, fifo)
        self._stage.on_error = lambda: self.on_failure()  # it is set later
        self._sink: Sink | None = setup.open_sink(params.saving, final, "$.saving") if params.saving.enabled else None
        self._keep_frames(same=not made and self._accumulator is None)
        self._ready_kernels(framed, corrected, final)

    def pressure(self) -> Pressure:
        stage, written = self._stage, Meter() if self._sink is None else self._sink.written
        return Pressure(stage.in_flight, stage.high_water, stage.waits, written.total, written.rate())

    def put(self, block: Block) -> None:
        self._stage.put(block)

    def finish(self) -> None:
        try:
            self._stage.drain()
            self._close()
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
            self._close()
        except Lima2Error as second:
            _add(error, second.what)

    def erase(self) -> None:
        if not self._finished:
            self.abort(ProcessingError("this pipeline was erased before it was finished: prepare a new one"))
        super().erase()

    def _ready_kernels(self, framed: FrameSpec, corrected: FrameSpec, final: FrameSpec) -> None:
        """The first frame must not wait for a compiler; where the background has done it, this costs nothing."""
        needed = {
            ("binning", self.setup.spec): bool(self._image),
            ("protection", framed): self._guard is not None,
            ("correction", framed): bool(self._corrections),
            ("accumulation", corrected): self._accumulator is not None,
            ("statistics", final): "popRoiStatistics" in self.rows,
            ("profiles", final): "popRoiProfiles" in self.rows,
        }
        for (kind, spec), wanted in needed.items():
            if wanted:
                ready_kernels(kind, spec.dtype)

    def _keep_frames(self, same: bool) -> None:
        """`same`: nothing changes the camera's frames, so one history serves both streams."""
        buffers = self.params.buffers
        if same:
            longest = max(buffers.nb_input_frames_buffer, buffers.nb_frames_buffer)
            self._input = self._processed = self.keep(("input", "processed"), longest)
        else:
            self._input = self.keep(("input",), buffers.nb_input_frames_buffer)
            self._processed = self.keep(("processed",), buffers.nb_frames_buffer)

    def _work(self, block: Block) -> _Result:
        processed, over_limit = self._process(block)
        block.lease.retain()
        result = _Result(block, processed, over_limit)
        try:
            if self._accumulator is None:
                result.rows = self._reduction.rows(processed, self.setup.rank)
                result.encoded = None if self._sink is None else self._sink.encode(processed)
        except Exception:
            self._discard(result)
            raise
        return result

    def _process(self, block: Block) -> tuple[Block, int]:
        """The corrected block, with a claim of its own, and how many of its frames were over the count-rate limit."""
        pool, lost = self.setup.pool, chain.placeholders(block)
        begin = block if lost is None else chain.zeroed(block, lost, pool)
        try:
            framed = chain.run(self._image, begin, pool)
        finally:
            if begin is not block:
                begin.lease.release()
        try:
            over_limit = 0 if self._guard is None else self._guard.watch(framed)
            processed = chain.run(self._corrections, framed, pool)
        finally:
            framed.lease.release()
        if lost is not None:
            processed.data[lost] = 0
        return processed, over_limit

    def _commit(self, result: _Result) -> None:
        try:
            if self._accumulator is None:
                self._accept(result)
            else:
                self._accumulate(self._accumulator, result)
        finally:
            self._discard(result)

    def _accept(self, result: _Result) -> None:
        """Written, then readable, then counted, then its rows: no client can see a count without its frame."""
        count = len(result.source)
        if self._sink is None:
            self._count(result, count)
            return
        before, encoded, result.encoded = self._sink.nb_frames_saved, result.encoded, None
        try:
            self._sink.append(encoded)
        except SavingError:
            self._count(result, self._sink.nb_frames_saved - before)  # the file has them
            raise
        self._count(result, count)

    def _count(self, result: _Result, count: int) -> None:
        """The first `count` frames of the block are complete."""
        if not count:
            return
        source, processed = _first(result.source, count), _first(result.processed, count)
        self._processed.add(processed)
        if self._input is not self._processed:
            self._input.add(source)
        self.counters.add(
            nb_frames_source=count,
            nb_frames_input=count,
            nb_frames_processed=count,
            nb_frames_saved=0 if self._sink is None else count,
            nb_frames_over_limit=result.over_limit,
        )
        self._publish_index(source)
        self._reduction.publish([rows[: len(rows) // len(result.source) * count] for rows in result.rows])

    def _accumulate(self, accumulator: Accumulator, result: _Result) -> None:
        count = len(result.source)
        self._input.add(result.source)
        self.counters.add(nb_frames_source=count, nb_frames_input=count, nb_frames_over_limit=result.over_limit)
        self._publish_index(result.source)
        for block in accumulator.add(result.processed, self.setup.pool):
            try:
                self._accept_sum(block)
            finally:
                block.lease.release()

    def _accept_sum(self, block: Block) -> None:
        """Sums are dealt round robin: number m of receiver r of N is m * N + r for every client."""
        block.index = block.index * self.receivers + self.setup.rank
        rows = self._reduction.rows(block, self.setup.rank)
        saved = 0
        if self._sink is not None:
            self._sink.append(self._sink.encode(block))
            saved = len(block)
        self._processed.add(block)
        self.counters.add(nb_frames_processed=len(block), nb_frames_saved=saved)
        self._reduction.publish(rows)

    def _publish_index(self, source: Block) -> None:
        if self.params.frame_idx_enabled:
            rows = np.empty(len(source), FRAME_IDX)
            rows["recv_idx"], rows["frame_idx"] = self.setup.rank, source.index
            self._frame_idx.append(rows)

    def _discard(self, result: _Result) -> None:
        result.source.lease.release()
        result.processed.lease.release()
        if self._sink is not None and result.encoded is not None:
            self._sink.discard(result.encoded)

    def _close(self) -> None:
        """Safe twice."""
        if self._accumulator is not None:
            self._accumulator.close()
        if self._sink is not None:
            self._sink.close()
        if self._guard is not None:
            self._guard.close()


def _first(block: Block, count: int) -> Block:
    """The first frames of a block, on its lease."""
    if count == len(block):
        return block
    valid = None if block.valid is None else block.valid[:count]
    return replace(block, data=block.data[:count], index=block.index[:count], time=block.time[:count], valid=valid)


def _add(error: Exception, also: str) -> None:
    """What went wrong after the error that stopped the run, for its reader."""
    if isinstance(error, Lima2Error) and also != error.what:
        error.info["also"] = also
