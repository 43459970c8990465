"""What a run that the control drives asks of each receiver (contract section 6.6), and who has which frame."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from lima2_tango.core.acquisition import AcquisitionParams, Dispatch, Image
from lima2_tango.core.errors import ParamError
from lima2_tango.core.params import Params
from lima2_tango.core.series import Topology
from lima2_tango.core.storage import SavingParams
from lima2_tango.processing.plugin import Product
from lima2_tango.transport.topology import make_topology

from .parameters import Choice

P = TypeVar("P", bound=Params)

MAIN = "getFrame"
"""Getter of the processed frames."""
WITH_PARTS = "LimaProcessingLegacy"
"""The pipeline whose frames can stay in parts."""
OF_FRAMES = {
    "statistics": ("rect_rois", "arc_rois"),
    "profiles": ("rois",),
    "max_countrate_protection": ("pixel_capacity_override",),
    "mask": ("path",),
    "flatfield": ("path",),
    "background": ("path",),
}
"""Its parameters that say something of the pixels of whole frames, where their block is enabled."""

SHARED = ("acc_nb_frames_reset", "acc_nb_frames_xfer")
"""Counts of frames that the receivers share, each doing its part of them."""


def _nobody(_: str) -> Topology | None:
    return None


@dataclass(frozen=True)
class Plan:
    """Parameters of one run on `receivers` receivers."""

    uuid: str
    acq: AcquisitionParams
    choice: Choice
    receivers: int
    dealt: Callable[[str], Topology | None] = _nobody
    """Who got which frame of a run, by its uuid, where that is only known to the rank that dealt them."""

    @property
    def topology(self) -> Topology:
        return self.dealt(self.uuid) or self._declared

    @cached_property
    def _declared(self) -> Topology:
        return make_topology(self.acq.dispatch, self.receivers, crc32(self.uuid.encode()), self.acq.sharing)

    @property
    def in_turn(self) -> bool:
        """Frame i is on receiver i modulo their number."""
        return self.receivers == 1 or (self.acq.dispatch is Dispatch.ROUND_ROBIN and not self.acq.pulled)

    @property
    def copies(self) -> int:
        """Receivers that count the same frame: each has a part of it."""
        return self.receivers if self.acq.sharing.kept else 1

    @property
    def accumulated(self) -> bool:
        """The processed frames are sums, which are numbered in turn whatever the dispatch of the frames."""
        main = self.choice.plugin.frame_commands.get(MAIN)
        return any(self.are_sums(product) for product in self.products if product.label == main)

    @cached_property
    def products(self) -> tuple[Product, ...]:
        """What the pipeline delivers."""
        return self.choice.plugin.products()

    def are_sums(self, product: Product) -> bool:
        """Whether frames that a pipeline delivers are sums in this run."""
        block: object = self.choice.params if product.sums else None
        for key in product.sums.split("."):
            block = getattr(block, key, None)
        return bool(getattr(block, "enabled", block is not None))

    def check(self) -> None:
        """Raise ParamError for what cannot be done with this number of receivers."""
        sums = next((product.sums for product in self.products if self.are_sums(product)), "")
        if sums and not self.in_turn:
            reason = (
                f"the sums of {self.receivers} receivers are numbered in turn, which leaves holes where frames are "
                "dealt at random: accumulate with round_robin dispatch, or on one receiver"
            )
            raise ParamError(f"$.{sums}.enabled", True, reason)
        if self.acq.dispatch is Dispatch.LEAST_LOADED and self.acq.acquisition_rank >= 0:
            reason = "the control that drives has to know who got which frame: acquire in its own process, -1"
            raise ParamError("$.det.acquisition_rank", self.acq.acquisition_rank, reason)
        if self.acq.pulled and self.receivers > 1:
            reason = (
                f"{self.receivers} receivers that take what comes to them next are for a conductor of topology "
                "dynamic: choose distributed_processing, or let one receiver take part"
            )
            raise ParamError("$.det.topology", self.acq.sharing, reason)
        if self.acq.sharing.kept:
            self._check_kept()
        self.texts(0)

    def _check_kept(self) -> None:
        """Raise ParamError for what cannot be done with parts of frames."""
        if self.choice.plugin.class_name != WITH_PARTS:
            reason = f"with $.det.topology {self.acq.sharing} frames stay in parts, which only {WITH_PARTS} can save"
            raise ParamError("$.class_name", self.choice.plugin.class_name, reason)
        reason = f"not with $.det.topology {self.acq.sharing}: each receiver sees its part of a frame only"
        if self.acq.img != Image():
            raise ParamError("$.img", self.acq.img.model_dump(mode="json"), f"binning, roi and flip: {reason}")
        if self.accumulated:
            raise ParamError("$.accumulation.enabled", True, reason)
        for name, keys in OF_FRAMES.items():
            block = getattr(self.choice.params, name)
            for key in keys if block.enabled else ():
                if given := getattr(block, key):
                    value = given if isinstance(given, str) else f"{len(given)} regions"
                    raise ParamError(f"$.{name}.{key}", value, reason)

    def texts(self, rank: int) -> tuple[str, str]:
        """Acquisition and processing parameters of one receiver, JSON; raises ParamError."""
        return self._ranked(self.acq, rank).json_text(), self._ranked(self.choice.params, rank).json_text()

    def savings(self) -> Iterator[tuple[str, SavingParams]]:
        """Name and parameters of each stream of processed frames that is saved."""
        for name, saving in _saving_blocks(self.choice.params):
            if saving.enabled:
                yield name, saving

    def holder(self, index: int, label: str) -> int:
        """Rank of the receiver that has this frame of a stream."""
        sums = any(self.are_sums(product) for product in self.products if product.label == label)
        return index % self.receivers if sums else self.topology.owner(index)

    def rows(self, rank: int, count: int) -> NDArray[np.int64]:
        """Global number of each of the first `count` processed frames of a receiver."""
        return self.numbers(rank, count, sums=self.accumulated)

    def numbers(self, rank: int, count: int, *, sums: bool) -> NDArray[np.int64]:
        """The same of frames of any stream."""
        if sums:
            return np.arange(count, dtype=np.int64) * self.receivers + rank
        return self.topology.owned(rank, 0, count)

    def _ranked(self, params: P, rank: int) -> P:
        """One receiver's copy."""
        changes: dict[str, object] = {
            name: saving.model_copy(
                update={"filename_rank": rank, "include_frame_idx": saving.include_frame_idx or not self.in_turn}
            )
            for name, saving in _saving_blocks(params)
        }
        if "frame_idx_enabled" in type(params).model_fields and not self.in_turn:
            changes["frame_idx_enabled"] = True
        for name in type(params).model_fields:
            block = getattr(params, name)
            if isinstance(block, Params) and (shares := self._shares(f"$.{name}", block)):
                changes[name] = block.model_copy(update=shares)
        return params.model_copy(update=changes)

    def _shares(self, path: str, block: Params) -> dict[str, int]:
        """Each receiver's part of the counts that they share."""
        found = {name: getattr(block, name) for name in SHARED if name in type(block).model_fields}
        for name, count in found.items():
            if count % self.receivers:
                reason = f"give a multiple of {self.receivers}: that many receivers share it"
                raise ParamError(f"{path}.{name}", count, reason)
        return {name: count // self.receivers for name, count in found.items()}


def check_raw_names(acq: Params, proc: Params) -> None:
    """Raise ParamError where the files of the camera and those of the pipeline would have the same names."""
    for name, raw in _saving_blocks(acq):
        for other, saving in _saving_blocks(proc):
            alike = all(getattr(raw, key) == getattr(saving, key) for key in ("base_path", "filename_prefix"))
            if raw.enabled and saving.enabled and alike:
                reason = f"the frames of the processing parameters' {other} have the same name: choose another prefix"
                raise ParamError(f"$.{name}.filename_prefix", raw.filename_prefix, reason)


def _saving_blocks(params: Params) -> Iterator[tuple[str, SavingParams]]:
    for name in type(params).model_fields:
        block = getattr(params, name)
        if isinstance(block, SavingParams):
            yield name, block
