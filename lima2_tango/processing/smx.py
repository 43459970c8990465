"""The Smx pipeline: its graph, and the sums of a run that it keeps beside it."""

import os
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lima2_tango.core.errors import ParamError
from lima2_tango.core.frame import Block, FrameSpec, Lease
from lima2_tango.core.sink import Sink
from lima2_tango.core.sparse import SparseSpec
from lima2_tango.core.storage import SavingParams

from .calibration import calibrated, dummy_of, nothing_left
from .flow import Work
from .graph import Graph, Output
from .graphed import Graphed
from .nodes.clipping import Background, Clipping, sought_of
from .nodes.integration import ErrorModel
from .nodes.peaks import PeakPicker, Picking
from .nodes.sparse import Overfull, PeakCounts, Sparsification
from .pipeline import Setup
from .pipelines.smx import PeakParams, SmxParams
from .radius import load_radii
from .sums import Pace, RunningSums, SumHistory
from .task import Frames, Place, Rows, Watch
from .tasks import IMAGE, regions_of

SUMS = {
    "acc_corrected": ("saving_accumulation_corrected", "$.saving_accumulation_corrected"),
    "acc_peaks": ("saving_accumulation_peak", "$.saving_accumulation_peak"),
}
"""Label of a sum -> name and JSON path of its saving parameters."""


def sparsification(place: Place, params: PeakParams) -> Sparsification:
    return sparsification_of(params, place.stream.spec, place.stream.valid)


def sparsification_of(params: PeakParams, spec: FrameSpec, valid: NDArray[np.bool_] | None) -> Sparsification:
    """For one channel of frames of `spec`, of whose pixels those that are not `valid` are left out.

    Raises ParamError for what is missing, does not fit the frames, contradicts itself or leaves no pixel.
    """
    if params.error_model == "no_var":
        reason = "pixels are clipped by their deviation, and this model has none; choose azimuthal"
        raise ParamError("$.fai.error_model", params.error_model, reason)
    matrix, tables = calibrated(params, spec, valid)
    radius, radius2d = load_radii(params.radius1d_path, params.radius2d_path, spec, matrix)
    weight = tables.weight.reshape(spec.height, spec.width).astype(np.float32)
    masked = np.where(weight > 0, radius2d, np.float32(np.nan))
    plain = bool(np.all(weight[weight > 0] == 1))
    dummy, sought = params.dummy if params.do_dummy else float("nan"), sought_of(dummy_of(params), spec.dtype)
    layout = SparseSpec(spec.height, spec.width, radius, masked, None if plain else weight, dummy, params.cutoff_pick)
    clipping = Clipping(params.cutoff_clip, params.cycle, ErrorModel(params.error_model))
    background = Background(matrix, spec, tables, clipping, dummy_of(params), params.channel)
    picker = PeakPicker(layout, tables, Picking(params.cutoff_pick, params.noise), sought)
    if not (background.nb_filled and picker.nb_usable):
        raise nothing_left(params)
    return Sparsification(background, picker, layout, tables, spec)


def peak_counts(_: Place) -> PeakCounts:
    return PeakCounts()


def overfull(place: Place) -> Overfull:
    assert place.stream.sparse is not None, place
    return Overfull(place.stream.sparse)


GRAPH = Graph(
    tasks=(
        *IMAGE,
        Frames(
            name="sparsification",
            does="of one channel: background of each radius, and the pixels that stand out of it",
            reads="region",
            params=("$.fai",),
            make=sparsification,
        ),
        Rows(
            name="peaks",
            does="how many pixels were picked",
            reads="sparsification",
            make=peak_counts,
            command="popPeakCounters",
        ),
        Watch(
            name="overfull",
            does="frames with more pixels picked than there is room for",
            reads="sparsification",
            make=overfull,
        ),
        *regions_of("region"),
    ),
    outputs=(
        Output(
            label="input",
            stream="region",
            buffer="$.buffers.nb_frames_buffer",
            info="processed_frame_info",
            saving="$.saving_dense",
            counts=("nb_frames_source", "nb_frames_input"),
            saved="nb_frames_saved",
            index="$.frame_idx_enabled",
            rows=("peaks", "statistics", "profiles"),
        ),
        Output(
            label="sparse",
            stream="sparsification",
            buffer="$.buffers.nb_frames_buffer",
            info="sparse_frame_info",
            saving="$.saving_sparse",
            counts=("nb_frames_sparse",),
            tallies={"nb_frames_cut": "overfull"},
        ),
    ),
)


@dataclass(slots=True)
class _Kept:
    """Where one of the sums goes."""

    label: str
    history: SumHistory
    sink: Sink | None


class Smx(Graphed[SmxParams]):
    """Frames in; out the frames, a sparse one for each, and now and then the sums of both.

    A sparse frame is written, readable and counted before the frame it was made of.
    """

    def __init__(self, params: SmxParams, setup: Setup) -> None:
        _check_names(params)
        _check_pace(params.fai)
        super().__init__(params, setup, GRAPH)
        self._sums: RunningSums | None = None
        self._kept: list[_Kept] = []
        self._memory: Lease | None = None
        if params.fai.acc_nb_frames_xfer:
            try:
                self._begin_sums(params)
            except BaseException:
                self.erase()
                raise

    def commit(self, result: Work) -> None:
        if self._sums is None:
            super().commit(result)
            return
        blocks = [result.blocks[self._made.stands_for[stream]] for stream in ("region", "sparsification")]
        for block in blocks:
            block.lease.retain()
        try:
            super().commit(result)
            for made in self._sums.add(blocks[0], blocks[1], self.setup.pool):
                self._transfer(made)
        finally:
            for block in blocks:
                block.lease.release()

    def close(self) -> None:
        if self._sums is not None and self._stage.error is None:
            for made in self._sums.rest(self.setup.pool):
                self._transfer(made)
        super().close()

    def erase(self) -> None:
        super().erase()
        memory, self._memory = self._memory, None
        if memory is not None:
            memory.release()

    def _begin_sums(self, params: SmxParams) -> None:
        node = self._made.nodes["sparsification"]
        assert isinstance(node, Sparsification), node
        spec = self._made.streams[self._made.stands_for["region"]].spec
        pace = Pace(params.fai.acc_nb_frames_xfer, params.fai.acc_nb_frames_reset)
        sought = sought_of(dummy_of(params.fai), spec.dtype)
        self._sums = RunningSums(spec, node.tables, sought, pace, node.channel)
        self._sums.ready(node.sparse.packed)
        self._memory = self.setup.pool.charge(self._sums.nbytes, "the sums of frames and peaks")
        self.setup.pool.reserve(self._sums.spec.nbytes, 2 * len(SUMS))
        self.counters.also(*(f"nb_frames_{label}" for label in SUMS))
        self._kept = [self._opened(label, self._sums.spec) for label in SUMS]
        self._sinks += [kept.sink for kept in self._kept if kept.sink is not None]

    def _opened(self, label: str, spec: FrameSpec) -> _Kept:
        name, path = SUMS[label]
        saving: SavingParams = getattr(self.params, name)
        sink = self.setup.open_sink(saving, spec, path, fewer=True) if saving.enabled else None
        history = self.register(SumHistory(label, self.params.buffers.nb_frames_buffer), (label,))
        return _Kept(label, history, sink)

    def _transfer(self, made: tuple[Block, Block]) -> None:
        """Each sum written, then readable, then counted."""
        try:
            for kept, block in zip(self._kept, made, strict=True):
                if kept.sink is not None:
                    kept.sink.append(kept.sink.encode(block))
                kept.history.add(block)
                self.counters.add(**{f"nb_frames_{kept.label}": 1})
        finally:
            for block in made:
                block.lease.release()


def _check_pace(params: PeakParams) -> None:
    if params.acc_nb_frames_reset and not params.acc_nb_frames_xfer:
        reason = "there are no sums to begin anew; give acc_nb_frames_xfer, or 0 here"
        raise ParamError("$.fai.acc_nb_frames_reset", params.acc_nb_frames_reset, reason)


def _check_names(params: SmxParams) -> None:
    """Raise ParamError where a sum and another stream, or their master files, would have the same names."""
    names: dict[str, str] = {}
    for name in ("saving_dense", "saving_sparse", *(name for name, _ in SUMS.values())):
        saving: SavingParams = getattr(params, name)
        if not saving.enabled:
            continue
        other = names.setdefault(os.path.join(os.path.realpath(saving.base_path), saving.filename_prefix), name)
        if other != name:
            raise ParamError(
                f"$.{name}.filename_prefix",
                saving.filename_prefix,
                f"$.{other} has files of the same names in the same folder; choose another prefix or base_path",
            )
