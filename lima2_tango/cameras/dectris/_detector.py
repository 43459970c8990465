"""A Dectris detector beyond single values: what it is, what it can do, and how it is made ready and armed."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lima2_tango.core.errors import DetectorError
from lima2_tango.core.frame import FrameSpec

from ._messages import pixel_type
from ._order import Arm
from ._params import Stream
from ._simplon import ARM_LIMIT, INITIALIZE_LIMIT, RefusedError, Simplon

MOST_THRESHOLDS = 8
MOST_IMAGES = 2_000_000_000
"""Images of a series that only a stop ends, where the detector does not say how many it can."""
IDLE = {"idle", "ready"}
"""States after an abort or initialize. Some simulators are ready for ever; a real detector would refuse parameters."""
BUSY = {"configure", "initialize", "test"}
"""States that pass by themselves."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What does not change while a detector is switched on."""

    model: str
    serial: str
    sensor_material: str
    sensor_thickness: float
    """[m]"""
    pixel_size: tuple[float, float]
    """(x, y) [m]"""
    dimensions: tuple[int, int]
    """(columns, rows) of the whole detector [pixel]"""
    nb_thresholds: int
    readout_time: float
    """Least dead time [s]."""
    count_time: tuple[float, float]
    """[shortest, longest] exposure [s]"""
    frame_time: float
    """Shortest from one exposure to the next [s]."""
    nb_images: int
    """Most images of one trigger."""


def identify(simplon: Simplon) -> Identity:
    """Ask a detector what it is; raises DetectorError."""
    count, frame, images = (simplon.get(key) for key in ("count_time", "frame_time", "nimages"))
    width, height = (int(simplon.get(key).value) for key in ("x_pixels_in_detector", "y_pixels_in_detector"))
    readout = simplon.find("detector_readout_time")
    return Identity(
        model=str(simplon.get("description").value),
        serial=str(simplon.get("detector_number").value),
        sensor_material=str(simplon.get("sensor_material").value),
        sensor_thickness=float(simplon.get("sensor_thickness").value),
        pixel_size=(float(simplon.get("x_pixel_size").value), float(simplon.get("y_pixel_size").value)),
        dimensions=(width, height),
        nb_thresholds=sum(1 for _ in _modes(simplon)) or 1,
        readout_time=0.0 if readout is None else float(readout.value),
        count_time=(count.least or 1e-6, count.most or 3600.0),
        frame_time=frame.least or 0.0,
        nb_images=int(images.most or MOST_IMAGES),
    )


def _modes(simplon: Simplon) -> Iterator[str]:
    """Whether each threshold is enabled, in order; none where the detector has one and no mode for it."""
    for number in range(1, MOST_THRESHOLDS + 1):
        mode = simplon.find(f"threshold/{number}/mode")
        if mode is None:
            return
        yield str(mode.value)


def channels(simplon: Simplon, stream: Stream) -> tuple[str, ...]:
    """What the detector streams of each exposure, as it is set now; the legacy stream has one image."""
    names = [f"threshold_{number}" for number, mode in enumerate(_modes(simplon), 1) if mode == "enabled"]
    difference = simplon.find("threshold/difference/mode")
    if difference is not None and difference.value == "enabled":
        names.append("difference")
    if stream is Stream.LEGACY:
        return tuple(names[:1]) or ("threshold_1",)
    return tuple(names) or ("threshold_1",)


def frame_spec(simplon: Simplon, stream: Stream) -> FrameSpec:
    """The frames that the detector will stream, as it is set now; raises DetectorError."""
    width, height, bits = (
        int(simplon.get(key).value) for key in ("x_pixels_in_detector", "y_pixels_in_detector", "bit_depth_image")
    )
    dtype = pixel_type(f"uint{bits}", f"the detector at {simplon.address}")
    return FrameSpec(len(channels(simplon, stream)), height, width, np.dtype(dtype))


def make_ready(simplon: Simplon) -> None:
    """Bring a detector in any state to idle: switched on, disarmed. Raises DetectorError, within bounds."""
    deadline = time.monotonic() + INITIALIZE_LIMIT
    while (state := simplon.state) in BUSY:
        if time.monotonic() > deadline:
            raise DetectorError(
                f"the detector at {simplon.address} has been in state {state} for {INITIALIZE_LIMIT:.0f} s: look at "
                "its web page, restart its control unit if it does not end"
            )
        time.sleep(0.1)
    if state in {"ready", "acquire"}:
        simplon.command("abort", limit=ARM_LIMIT)
    elif state != "idle":
        simplon.command("initialize", limit=INITIALIZE_LIMIT)
    if (state := simplon.state) not in IDLE:
        raise DetectorError(f"the detector at {simplon.address} is in state {state}{errors(simplon)}: it must be idle")


def errors(simplon: Simplon) -> str:
    """What the detector says is wrong, for the end of a sentence."""
    found = simplon.find("error", "status")
    told = found.value if found is not None else []
    text = ", ".join(map(str, told)) if isinstance(told, list) else str(told)
    return f" ({text[:200]})" if text else ""


def arm(simplon: Simplon) -> Arm:
    """Arm a detector that is set; which series its messages will belong to. Raises DetectorError."""
    try:
        told = simplon.command("arm", limit=ARM_LIMIT).get("sequence id")
    except RefusedError as error:
        raise DetectorError(f"the detector cannot be armed: {error.reason}") from error
    if (state := simplon.state) != "ready":
        raise DetectorError(f"the detector is in state {state} after arm{errors(simplon)}, not ready")
    try:
        unique_id = simplon.find("series_unique_id", "status")
    except DetectorError:
        unique_id = None
    return Arm(told if isinstance(told, int) else -1, "" if unique_id is None else str(unique_id.value or ""))
