"""The mask of the pipeline, where this computer can read it too."""

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lima2_tango.core.errors import ParamError
from lima2_tango.core.frame import FrameSpec

log = logging.getLogger(__name__)


class Masks:
    """Masked pixels of the frames, loaded once for a path and a shape."""

    def __init__(self) -> None:
        self._path = ""
        self._known: dict[tuple[int, ...], NDArray[np.bool_] | None] = {}

    def ask(self, block: Mapping[str, Any]) -> None:
        """The pipeline's parameters of its mask, as they are now."""
        path = str(block.get("path") or "") if block.get("enabled") else ""
        if path != self._path:
            self._path, self._known = path, {}

    def of(self, shape: tuple[int, ...]) -> NDArray[np.bool_] | None:
        """True where a pixel is masked, [row, column]; None without a mask, or where it cannot be read here."""
        if not self._path:
            return None
        if shape not in self._known:
            self._known = {shape: self._load(shape)}
        return self._known[shape]

    def _load(self, shape: tuple[int, ...]) -> NDArray[np.bool_] | None:
        from lima2_tango.processing.images import load_mask  # HDF5 loads when it is needed

        channels, rows, columns = shape
        try:
            valid = load_mask(self._path, "$.mask.path", FrameSpec(channels, rows, columns, np.dtype(np.uint8)))
        except ParamError as error:
            log.warning("the mask is not shown: %s", error)
            return None
        hidden: NDArray[np.bool_] = np.logical_not(valid).reshape(-1, rows, columns)
        bad: NDArray[np.bool_] = np.logical_or.reduce(hidden)
        return bad
