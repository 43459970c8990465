"""The Legacy pipeline at work: each block through its nodes, then written, readable and counted, in order."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lima2_tango.core.frame import Block, FrameSpec
from lima2_tango.core.sink import Sink

from . import chain
from .nodes.accumulation import Accumulator
from .pipeline import Counters, Setup
from .pipelines.legacy import LegacyParams
from .preprocessing import Kernels, Preprocessing
from .reduction import Reduction
from .staged import Staged, first, save

COUNTERS = ("nb_frames_source", "nb_frames_input", "nb_frames_processed", "nb_frames_saved", "nb_frames_over_limit")


@dataclass(slots=True)
class _Result:
    """What the workers made of one block; holds a claim on each of its blocks."""

    source: Block
    processed: Block
    over_limit: int
    rows: list[NDArray[np.void]] = field(default_factory=list)
    encoded: Any = None


class Legacy(Staged[LegacyParams, _Result]):
    """Dense frames in, dense frames out. A frame is counted when it is written and readable, and its rows come after.

    Placeholders of lost frames stay in the series as frames of zeros, with rows of zeros. To a sum they add nothing;
    a sum that misses a frame is written as it is, and its rows are zeros.
    """

    def __init__(self, params: LegacyParams, setup: Setup) -> None:
        super().__init__(params, setup)
        framed = chain.framed(setup)
        correction = chain.correction_of(params.background, params.flatfield, params.mask, framed)
        self._preprocessing = Preprocessing(setup, correction, params.max_countrate_protection)
        corrected, summing = self._preprocessing.spec, params.accumulation
        self._accumulator = Accumulator(summing.nb_frames, corrected) if summing.enabled else None
        final = corrected if self._accumulator is None else self._accumulator.output_spec
        self.infos = {"input_frame_info": setup.spec, "processed_frame_info": final}
        self._reduction = Reduction(params.statistics, params.profiles, final, self._preprocessing.valid)
        self.rows |= self._reduction.queues
        self.counters = Counters(*COUNTERS)
        made = self._preprocessing.made
        depth = self.reserve(made)
        if self._accumulator is not None:
            setup.pool.reserve(final.nbytes, 2)
        self._sink: Sink | None = setup.open_sink(params.saving, final, "$.saving") if params.saving.enabled else None
        self._sinks = [] if self._sink is None else [self._sink]
        self._keep_frames(same=not made and self._accumulator is None)
        self.begin(depth, params.fifo.nb_fifo_frames, self._kernels(corrected, final))

    def close(self) -> None:
        if self._accumulator is not None:
            self._accumulator.close()
        super().close()
        self._preprocessing.close()

    def _kernels(self, corrected: FrameSpec, final: FrameSpec) -> Iterator[Kernels]:
        yield from self._preprocessing.kernels()
        if self._accumulator is not None:
            yield "accumulation", corrected.dtype
        for kind in self._reduction.kernels():
            yield kind, final.dtype

    def _keep_frames(self, same: bool) -> None:
        """`same`: nothing changes the camera's frames, so one history serves both streams."""
        buffers = self.params.buffers
        if same:
            longest = max(buffers.nb_input_frames_buffer, buffers.nb_frames_buffer)
            self._input = self._processed = self.keep(("input", "processed"), longest)
        else:
            self._input = self.keep(("input",), buffers.nb_input_frames_buffer)
            self._processed = self.keep(("processed",), buffers.nb_frames_buffer)

    def work(self, block: Block) -> _Result:
        processed, over_limit = self._preprocessing.run(block)
        block.lease.retain()
        result = _Result(block, processed, over_limit)
        try:
            if self._accumulator is None:
                result.rows = self._reduction.rows(processed, self.setup.rank)
                result.encoded = None if self._sink is None else self._sink.encode(processed)
        except Exception:
            self.discard(result)
            raise
        return result

    def commit(self, result: _Result) -> None:
        try:
            if self._accumulator is None:
                self._accept(result)
            else:
                self._accumulate(self._accumulator, result)
        finally:
            self.discard(result)

    def _accept(self, result: _Result) -> None:
        """Written, then readable, then counted, then its rows: no client can see a count without its frame."""
        encoded, result.encoded = result.encoded, None
        save(self._sink, encoded, len(result.source), lambda count: self._count(result, count))

    def _count(self, result: _Result, count: int) -> None:
        """The first `count` frames of the block are complete."""
        if not count:
            return
        source, processed = first(result.source, count), first(result.processed, count)
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
        self.publish_index(source, self.params.frame_idx_enabled)
        self._reduction.publish([rows[: len(rows) // len(result.source) * count] for rows in result.rows])

    def _accumulate(self, accumulator: Accumulator, result: _Result) -> None:
        count = len(result.source)
        self._input.add(result.source)
        self.counters.add(nb_frames_source=count, nb_frames_input=count, nb_frames_over_limit=result.over_limit)
        self.publish_index(result.source, self.params.frame_idx_enabled)
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

    def discard(self, result: _Result) -> None:
        result.source.lease.release()
        result.processed.lease.release()
        if self._sink is not None and result.encoded is not None:
            self._sink.discard(result.encoded)
