"""Nodes one after the other, in memory that each block gives back as soon as the next node is done with it."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lima2_tango.core.acquisition import Flip, Image
from lima2_tango.core.errors import ParamError
from lima2_tango.core.frame import Block, FrameSpec
from lima2_tango.core.pool import Pool

from .images import load_image, load_mask
from .node import Node, check
from .nodes.binning import Binning
from .nodes.correction import Correction
from .nodes.crop import Crop
from .nodes.derive import derive
from .nodes.mirror import Mirror
from .params import ImageFile
from .pipeline import Setup

Load = Callable[[str, str, FrameSpec], NDArray[Any]]


def image_nodes(image: Image) -> list[Node]:
    """The image operations that change something, in their order: binning, flip, region."""
    nodes: list[Node] = []
    binning, roi = image.binning, image.roi
    if (binning.x, binning.y) != (1, 1):
        nodes.append(Binning(binning.x, binning.y))
    if image.flip is not Flip.NONE:
        nodes.append(Mirror(image.flip))
    if (roi.dimensions.x, roi.dimensions.y) != (0, 0):
        nodes.append(Crop(roi.topleft.x, roi.topleft.y, roi.dimensions.x, roi.dimensions.y))
    return nodes


def framed(setup: Setup) -> FrameSpec:
    """The camera's frames after the image operations; raises GraphError or ParamError where these do not fit."""
    return check(image_nodes(setup.acquisition.img), setup.spec)


def correction_of(background: ImageFile, flatfield: ImageFile, mask: ImageFile, spec: FrameSpec) -> Correction | None:
    """One node for the parameters `background`, `flatfield` and `mask`; None where none is enabled.

    Raises ParamError for a file that is not given, cannot be read or does not fit frames of this spec.
    """
    if not (background.enabled or flatfield.enabled or mask.enabled):
        return None
    return Correction(
        _loaded("background", background, load_image, spec),
        _loaded("flatfield", flatfield, load_image, spec),
        _loaded("mask", mask, load_mask, spec),
    )


def _loaded(name: str, file: ImageFile, load: Load, spec: FrameSpec) -> NDArray[Any] | None:
    if not file.enabled:
        return None
    if not file.path:
        raise ParamError(f"$.{name}.path", file.path, f"give the file with the {name} image, or disable {name}")
    return load(file.path, f"$.{name}.path", spec)


def run(nodes: Iterable[Node], block: Block, pool: Pool) -> Block:
    """What leaves the last node, with a claim of the caller's own; `block` stays the caller's too."""
    block.lease.retain()
    for node in nodes:
        try:
            made = node.process(block, pool)
        finally:
            block.lease.release()
        block = made
    return block


def placeholders(block: Block) -> NDArray[np.intp] | None:
    """Positions of the placeholders of lost frames; None when all frames are real."""
    if block.valid is None or block.valid.all():
        return None
    return np.flatnonzero(~block.valid)


def zeroed(block: Block, lost: NDArray[np.intp], pool: Pool) -> Block:
    """A copy, with a claim of the caller's own, whose frames `lost` are zero."""

    def fill(out: NDArray[Any]) -> None:
        np.copyto(out, block.data)
        out[lost] = 0

    return derive(block, block.spec, pool, fill)
