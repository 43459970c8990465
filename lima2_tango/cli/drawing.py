"""The graph of a pipeline, as `lima2 pipelines NAME` shows it."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from lima2_tango.core.acquisition import AcquisitionParams
from lima2_tango.core.errors import ParamError
from lima2_tango.core.frame import FrameSpec, PixelType
from lima2_tango.processing.drawing import Drawing
from lima2_tango.processing.plugin import PipelinePlugin

_FRAMES = re.compile(r"(?:(?P<channels>[1-9]\d{0,2})x)?(?P<height>[1-9]\d{0,5})x(?P<width>[1-9]\d{0,5}):(?P<type>\w+)")
OF_ACQUISITION = ("acq", "img", "shut", "accu", "vid", "xfer")
"""Parameters of every camera; those of its detector play no part in processing."""


def drawing(plugin: PipelinePlugin, frames: str, file: Path | None) -> Drawing:
    """As it is declared or, where frames are said, as it is at Prepare. Raises ParamError or GraphError."""
    drawn = Drawing.declared(plugin)
    if not frames:
        if file is not None:
            raise ParamError("--params", str(file), "say for which frames, too: --frames 512x1024:uint16")
        return drawn
    processing, acquisition = _parameters(file)
    return drawn.prepared(
        plugin.params.parse(json.dumps({"class_name": plugin.class_name, **processing})),
        AcquisitionParams.parse(json.dumps(acquisition)),
        spec_of(frames),
    )


def spec_of(text: str) -> FrameSpec:
    """`512x1024:uint16` or, with channels, `2x512x1024:uint16`; raises ParamError."""
    found = _FRAMES.fullmatch(text)
    known = {kind.dtype.name: kind.dtype for kind in PixelType}
    if found is None or found["type"] not in known:
        raise ParamError("--frames", text, f"give rows, columns and type: 512x1024:uint16; types: {', '.join(known)}")
    size = int(found["channels"] or 1), int(found["height"]), int(found["width"])
    return FrameSpec(*size, np.dtype(known[found["type"]]))


def _parameters(file: Path | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """(processing, acquisition) parameters of a file in the shape of `lima2 params`, or of processing ones alone."""
    if file is None:
        return {}, {}
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ParamError("--params", str(file), f"it is not a JSON file that can be read: {error}") from error
    if not isinstance(said, dict):
        raise ParamError("--params", str(file), "it holds no parameters: a JSON object is due")
    if "processing" not in said:
        return said, {}
    receiver = said.get("receiver", {})
    return said["processing"], {key: receiver[key] for key in OF_ACQUISITION if key in receiver}
