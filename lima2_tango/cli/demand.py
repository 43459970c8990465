"""What a detector sends: from the configuration of a system, or from options."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lima2_tango.control.parameters import DEFAULT_PIPELINE, choose
from lima2_tango.control.scaling import Detector
from lima2_tango.control.settings import Settings
from lima2_tango.core.acquisition import AcquisitionParams, Sharing
from lima2_tango.core.errors import ParamError
from lima2_tango.core.frame import PixelType
from lima2_tango.core.plugins import load
from lima2_tango.core.storage import Compression, SavingParams

from .config import SystemConfig, load_config

UNMEASURED = "no rate of it is measured: plan with bshuf_lz4 or none"


@dataclass(frozen=True, slots=True)
class Given:
    """Options; None where they were not given."""

    width: int | None = None
    height: int | None = None
    pixel: PixelType | None = None
    rate: float | None = None
    topology: Sharing | None = None
    compression: Compression | None = None


@dataclass(frozen=True, slots=True)
class Demand:
    """A detector, and what there is for it."""

    name: str
    detector: Detector
    pixel: PixelType
    receivers: int = 0
    """That the configuration has; 0 where there is none."""
    workers: int = 0
    """Threads of each that it asks for; 0 for their share of the cores."""


def demand(path: Path | None, given: Given, buffer: float) -> Demand:
    """What the file or the options describe, options first; `buffer` seconds of frames are to find room.

    Raises ParamError for what is missing, or cannot be planned.
    """
    if given.compression is Compression.ZIP:
        raise ParamError("--compression", str(given.compression), UNMEASURED)
    found = _by_options(given) if path is None else _by_file(load_config(path), given)
    return replace(found, detector=replace(found.detector, buffer=buffer))


def _by_options(given: Given) -> Demand:
    needed = {"--width": given.width, "--height": given.height, "--rate": given.rate}
    for name, value in needed.items():
        if value is None:
            remedy = "name a CONFIG of `lima2 up`, or give --width, --height and --rate"
            raise ParamError(name, None, remedy)
    pixel = given.pixel or PixelType.GRAY16
    return Demand("detector", _changed(Detector(0, 0, pixel.dtype.itemsize, 0.0), given), pixel)


def _by_file(config: SystemConfig, given: Given) -> Demand:
    acq: AcquisitionParams = load("cameras", config.camera.lower()).params.parse(json.dumps(config.acq_params))
    detector, pixel = _camera(config, acq, given)
    saving = _saving(config)
    compressed = saving.compression is not Compression.NONE
    if saving.enabled and saving.compression is Compression.ZIP and given.compression is None:
        path = "$.proc_params.saving.compression"
        raise ParamError(path, str(saving.compression), UNMEASURED)
    detector = replace(detector, saved=saving.enabled, compressed=compressed, sharing=acq.sharing)
    return Demand(config.name, _changed(detector, given), pixel, len(config.receivers), _workers(config))


def _camera(config: SystemConfig, acq: AcquisitionParams, given: Given) -> tuple[Detector, PixelType]:
    """Frames as the camera promises them, or as the options say where it cannot."""
    rate = 1 / acq.acq.period
    if given.width is not None and given.height is not None:
        pixel = given.pixel or PixelType.GRAY16
        return Detector(given.width, given.height, pixel.dtype.itemsize, rate), pixel
    try:
        receiver: Any = load("cameras", config.camera.lower()).receiver()
        spec = receiver.promise(acq)
    except ParamError as error:
        remedy = f"{config.camera} knows its frames only at Prepare: give --width, --height and --pixel"
        raise ParamError("$.camera", config.camera, remedy) from error
    pixel = given.pixel or PixelType.of(spec.dtype)
    return Detector(spec.width, spec.height, pixel.dtype.itemsize, rate, spec.channels), pixel


def _saving(config: SystemConfig) -> SavingParams:
    """Of frames; raises ParamError for a pipeline whose work was not measured."""
    if not config.proc_params:
        return SavingParams()
    choice = choose(json.dumps(config.proc_params), Settings(data_roots=config.data_roots))
    if (name := choice.plugin.class_name) != DEFAULT_PIPELINE:
        remedy = f"what it computes was not measured, only {DEFAULT_PIPELINE} can be planned: describe the detector "
        raise ParamError("$.proc_params.class_name", name, remedy + "by --width, --height and --rate")
    saving: SavingParams = getattr(choice.params, "saving", SavingParams())
    return saving


def _workers(config: SystemConfig) -> int:
    """Fewest threads that a receiver is given."""
    return min(int(member.properties.get("workers", ["0"])[0] or 0) for member in config.receivers)


def _changed(detector: Detector, given: Given) -> Detector:
    """With the options that were given."""
    itemsize = None if given.pixel is None else given.pixel.dtype.itemsize
    compressed = None if given.compression is None else given.compression is not Compression.NONE
    changes: dict[str, Any] = {
        "width": given.width,
        "height": given.height,
        "itemsize": itemsize,
        "rate": given.rate,
        "sharing": given.topology,
        "compressed": compressed,
    }
    return replace(detector, **{name: value for name, value in changes.items() if value is not None})
