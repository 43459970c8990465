"""The Fai pipeline at work: each frame integrated azimuthally; frames and vectors written, readable and counted."""

import os
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lima2_tango.core.errors import ParamError
from lima2_tango.core.frame import Block, VectorSpec
from lima2_tango.core.sink import Sink

from . import chain
from .calibration import integration_of
from .params import ImageFile
from .pipeline import Counters, Setup
from .pipelines.fai import FaiParams
from .preprocessing import Preprocessing
from .reduction import Reduction
from .staged import Staged, first, save

COUNTERS = ("nb_frames_source", "nb_frames_integrated", "nb_frames_saved", "nb_frames_over_limit")


@dataclass(slots=True)
class _Result:
    """What the workers made of one block; holds a claim on each of its blocks."""

    frames: Block
    over_limit: int
    vectors: Block | None = None
    rows: list[NDArray[np.void]] = field(default_factory=list)
    encoded_frames: Any = None
    encoded_vectors: Any = None


class Fai(Staged[FaiParams, _Result]):
    """Frames in; out the frames, masked, and a vector for each.

    A frame is counted when it and its vector are written and readable; its rows come after. Placeholders of lost
    frames stay in the series, with frames, vectors and rows of zeros.
    """

    def __init__(self, params: FaiParams, setup: Setup) -> None:
        super().__init__(params, setup)
        _check_names(params)
        correction = chain.correction_of(ImageFile(), ImageFile(), params.mask, chain.framed(setup))
        self._preprocessing = Preprocessing(setup, correction, params.max_countrate_protection)
        spec, valid = self._preprocessing.spec, self._preprocessing.valid
        self._integration = integration_of(params.fai, spec, valid)
        vector = self._integration.output_spec(spec)
        self.infos = {"processed_frame_info": spec, "vector_info": VectorSpec(vector.width, vector.dtype)}
        self._reduction = Reduction(params.statistics, params.profiles, spec, valid)
        self.rows |= self._reduction.queues
        self.counters = Counters(*COUNTERS)
        depth = self.reserve([*self._preprocessing.made, vector])
        opened, dense, fai = setup.open_sink, params.saving_dense, params.saving_fai
        self._dense = opened(dense, spec, "$.saving_dense") if dense.enabled else None
        self._sinks = [] if self._dense is None else [self._dense]
        self._vectors: Sink | None = opened(fai, vector, "$.saving_fai", vectors=True) if fai.enabled else None
        self._sinks += [] if self._vectors is None else [self._vectors]
        self._source = self.keep(("source",), params.buffers.nb_frames_buffer)
        self._integrated = self.keep(("integrated",), params.buffers.nb_frames_buffer)
        kernels = [*self._preprocessing.kernels(), *((kind, spec.dtype) for kind in self._reduction.kernels())]
        self.begin(depth, params.fifo.nb_fifo_frames, kernels)
        self._integration.ready()

    def work(self, block: Block) -> _Result:
        result = _Result(*self._preprocessing.run(block))
        try:
            frames = result.frames
            vectors = result.vectors = self._integration.process(frames, self.setup.pool)
            result.rows = self._reduction.rows(frames, self.setup.rank)
            result.encoded_frames = None if self._dense is None else self._dense.encode(frames)
            result.encoded_vectors = None if self._vectors is None else self._vectors.encode(vectors)
        except Exception:
            self.discard(result)
            raise
        return result

    def commit(self, result: _Result) -> None:
        try:
            encoded, result.encoded_vectors = result.encoded_vectors, None
            save(self._vectors, encoded, len(result.frames), lambda count: self._keep_vectors(result, count))
            encoded, result.encoded_frames = result.encoded_frames, None
            save(self._dense, encoded, len(result.frames), lambda count: self._keep_frames(result, count))
        finally:
            self.discard(result)

    def discard(self, result: _Result) -> None:
        result.frames.lease.release()
        if result.vectors is not None:
            result.vectors.lease.release()
        if self._dense is not None and result.encoded_frames is not None:
            self._dense.discard(result.encoded_frames)
        if self._vectors is not None and result.encoded_vectors is not None:
            self._vectors.discard(result.encoded_vectors)

    def close(self) -> None:
        try:
            super().close()
        finally:
            self._preprocessing.close()

    def _keep_vectors(self, result: _Result, count: int) -> None:
        if count and result.vectors is not None:
            self._integrated.add(first(result.vectors, count))
            self.counters.add(nb_frames_integrated=count)

    def _keep_frames(self, result: _Result, count: int) -> None:
        """The first `count` frames of the block are complete: count them, then make their rows poppable."""
        if not count:
            return
        frames = first(result.frames, count)
        self._source.add(frames)
        self.counters.add(
            nb_frames_source=count,
            nb_frames_saved=count if self._sinks else 0,
            nb_frames_over_limit=result.over_limit,
        )
        self.publish_index(frames, self.params.frame_idx_enabled)
        self._reduction.publish([rows[: len(rows) // len(result.frames) * count] for rows in result.rows])


def _check_names(params: FaiParams) -> None:
    """Raise ParamError where frames and vectors, or their master files, would have the same names."""
    dense, vectors = params.saving_dense, params.saving_fai
    names = [os.path.join(os.path.realpath(each.base_path), each.filename_prefix) for each in (dense, vectors)]
    if dense.enabled and vectors.enabled and names[0] == names[1]:
        raise ParamError(
            "$.saving_fai.filename_prefix",
            vectors.filename_prefix,
            "the frames ($.saving_dense) have files of the same names in the same folder; choose another prefix or "
            "base_path",
        )
