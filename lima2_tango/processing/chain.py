"""What graphs are made of besides their nodes: images of calibration files, and placeholders cleared."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lima2_tango.core.errors import ParamError
from lima2_tango.core.frame import Block, FrameSpec
from lima2_tango.core.pool import Pool

from .images import load_image, load_mask
from .nodes.correction import Correction
from .nodes.derive import derive
from .params import ImageFile

Load = Callable[[str, str, FrameSpec], NDArray[Any]]


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
