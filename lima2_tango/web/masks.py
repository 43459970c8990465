"""The mask of the pipeline, where this computer can read it too."""

import logging
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lima2_tango.core.errors import ParamError
from lima2_tango.core.frame import FrameSpec

log = logging.getLogger(__name__)


class Masks:
    """Masked pixels of the frames, loaded once for a file and a shape."""

    def __init__(self) -> None:
        self._path = ""
        self._written: int | None = None
        """When the file was [ns]."""
        self._known: dict[tuple[int, ...], NDArray[np.bool_] | None] = {}

    def ask(self, block: Mapping[str, Any]) -> None:
        """The pipeline's parameters of its mask, as they are now."""
        path = str(block.get("path") or "") if block.get("enabled") else ""
        written = _written(path)
        if (path, written) != (self._path, self._written):
            self._path, self._written, self._known = path, written, {}

    def of(self, shape: tuple[int, ...]) -> NDArray[np.bool_] | None:
        """True where a pixel is masked, [row, column]; None without a mask, or where it cannot be read here."""
        path, known = self._path, self._known  # another thread may begin anew
        if not path:
            return None
        if shape not in known:
            known.clear()
            known[shape] = self._load(path, shape)
        return known[shape]

    @staticmethod
    def _load(path: str, shape: tuple[int, ...]) -> NDArray[np.bool_] | None:
        from lima2_tango.processing.images import load_mask  # HDF5 loads when it is needed

        channels, rows, columns = shape
        try:
            valid = load_mask(path, "$.mask.path", FrameSpec(channels, rows, columns, np.dtype(np.uint8)))
        except ParamError as error:
            log.warning("the mask is not shown: %s", error)
            return None
        hidden: NDArray[np.bool_] = np.logical_not(valid).reshape(-1, rows, columns)
        bad: NDArray[np.bool_] = np.logical_or.reduce(hidden)
        return bad


def _written(path: str) -> int | None:
    try:
        return os.stat(path.partition("::")[0]).st_mtime_ns if path else None
    except (OSError, ValueError):  # it cannot be read here
        return None
