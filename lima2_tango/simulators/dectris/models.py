"""Models of detectors: sizes, gaps, limits."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from lima2_tango.core.errors import ParamError


@dataclass(frozen=True, slots=True)
class Readout:
    """The pixels that are read out, and how fast."""

    width: int
    """Columns [pixel]."""
    height: int
    """Rows [pixel]."""
    period: float
    """Shortest frame time with 16 bits for each pixel [s]; half of it with 8 bits."""


@dataclass(frozen=True, slots=True)
class Model:
    """Sizes are those of the detector's drawings; frame rates are of the right order, and the simulator's own."""

    name: str
    """As `lima2 simulate dectris --model` takes it."""
    description: str
    serial: str
    full: Readout
    rois: Mapping[str, Readout] = field(default_factory=dict)
    """What `roi_mode` may be beside `disabled`."""
    thresholds: int = 2
    pixel_size: float = 75e-6
    """[m]"""
    module: tuple[int, int] = (512, 1028)
    """(rows, columns) of a module [pixel]"""
    gap: tuple[int, int] = (38, 12)
    """(rows, columns) between two modules [pixel]"""
    sensor: str = "Si"
    sensor_thickness: float = 450e-6
    """[m]"""
    trigger_modes: tuple[str, ...] = ("exte", "extg", "exts", "inte", "ints")

    def readout(self, roi_mode: str) -> Readout:
        return self.rois.get(roi_mode, self.full)


READOUT_TIME = 1e-7
"""By which a frame time is longer than its count time at least [s]; real EIGER2 files have this."""
_ROI_4M = Readout(2068, 2162, 1 / 560)


def _eiger2(size: str, serial: str, full: Readout, *rois: str) -> Model:
    return Model(f"eiger2-{size.lower()}", f"Dectris EIGER2 Si {size}", serial, full, dict.fromkeys(rois, _ROI_4M))


def _pilatus4(size: str, serial: str, full: Readout) -> Model:
    return Model(
        f"pilatus4-{size.lower()}",
        f"Dectris PILATUS4 Si {size}",
        serial,
        full,
        thresholds=4,
        pixel_size=150e-6,
        module=(255, 513),
        gap=(20, 7),
        trigger_modes=("exte", "exts", "inte", "ints"),
    )


MODELS = {
    model.name: model
    for model in (
        _eiger2("500K", "E-08-9001", Readout(1028, 512, 1 / 2000)),
        _eiger2("1M", "E-04-9002", Readout(1028, 1062, 1 / 2000)),
        _eiger2("4M", "E-08-9003", Readout(2068, 2162, 1 / 560)),
        _eiger2("9M", "E-18-9004", Readout(3108, 3262, 1 / 230), "4M"),
        _eiger2("16M", "E-32-9005", Readout(4148, 4362, 1 / 133), "4M-L", "4M-R"),
        _pilatus4("1M", "P4-01-9006", Readout(1033, 1080, 1 / 2000)),
        _pilatus4("2M", "P4-02-9007", Readout(1553, 1630, 1 / 1000)),
        _pilatus4("4M", "P4-04-9008", Readout(2073, 2180, 1 / 500)),
    )
}


def find_model(name: str) -> Model:
    """A model by its name, in any case; raises ParamError."""
    try:
        return MODELS[name.lower()]
    except KeyError:
        raise ParamError("--model", name, f"there is no such model; have: {', '.join(MODELS)}") from None
