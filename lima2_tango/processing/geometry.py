"""From a detector's geometry to the images and the matrix that the integrating pipelines read, by pyFAI."""

from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lima2_tango.core.errors import Lima2Error, ParamError
from lima2_tango.core.frame import FrameSpec

from .images import load_image
from .matrix import BINS_MAX, IMAGE_BINS_MAX

PIXELS_MAX = 2**28
"""Of a frame: more than any detector has."""
UNREADABLE = (OSError, ValueError, TypeError, LookupError, AttributeError, RuntimeError, AssertionError)
"""What pyFAI raises for a file that is no geometry."""


class Splitting(StrEnum):
    """How a pixel is shared among the bins that it touches."""

    NO = "no"
    BBOX = "bbox"
    FULL = "full"


class Unit(StrEnum):
    """Of the radius; pyFAI's names."""

    TWO_THETA_DEG = "2th_deg"
    TWO_THETA_RAD = "2th_rad"
    Q_NM = "q_nm^-1"
    Q_ANGSTROM = "q_A^-1"
    R_MM = "r_mm"

    @property
    def needs_wavelength(self) -> bool:
        return self in {Unit.Q_NM, Unit.Q_ANGSTROM}


@dataclass(frozen=True, slots=True)
class Grid:
    """What the bins of an integration are."""

    bins: int = 0
    """How many; 0 is one for each pixel between the beam and the farthest corner."""
    splitting: Splitting = Splitting.FULL
    unit: Unit = Unit.Q_NM
    azimuths: int = 1
    """Into how many parts each ring is divided."""


@dataclass(frozen=True, slots=True)
class Calibrated:
    """Everything that depends on the geometry alone."""

    grid: Grid
    shape: tuple[int, int]
    """(row, column) of the frames."""
    matrix: tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.int32]]
    """data, indices, indptr of pyFAI's csr engine."""
    radius1d: NDArray[np.float64]
    """[bin] centre of each bin, in the unit of the grid."""
    radius2d: NDArray[np.float64]
    """[row, column] radius at the centre of each pixel, in that unit."""
    mask: NDArray[np.uint8]
    """[row, column] 1 is masked, as pyFAI has it."""
    solid_angle: NDArray[np.float32]
    """[row, column] relative to that at the point of normal incidence."""
    polarization: NDArray[np.float32] | None = None
    """[row, column]; None where no factor was given."""
    azimuth: NDArray[np.float64] | None = None
    """[azimuth] centre of each part of a ring [degree]; None where rings are whole."""


def calibrate(
    poni: Path, grid: Grid, shape: tuple[int, int] | None = None, mask: str = "", polarization: float | None = None
) -> Calibrated:
    """Make everything for frames of the detector of a .poni file.

    `shape` (rows, columns) is needed where the file does not name a detector that has one. `mask` is the path of an
    image that is not 0 where a pixel is masked; the detector's own gaps are masked too. `polarization` is pyFAI's
    factor, -1 to 1. Raises ParamError, named after the option of `lima2 calibrate`, for what cannot be.
    """
    integrator = _load(poni)
    shape = _shape_of(integrator, shape, poni)
    if grid.unit.needs_wavelength and not integrator.wavelength:
        reason = f"{poni} has no wavelength: add its line, or choose 2th_deg or r_mm"
        raise ParamError("--unit", str(grid.unit), reason)
    if polarization is not None and not -1 <= polarization <= 1:
        raise ParamError("--polarization", polarization, "give a factor from -1 (vertical) to 1 (horizontal)")
    masked = _mask(integrator, shape, mask)
    bins = grid.bins or min(BINS_MAX, integrator.guess_npt_rad())
    if not 1 <= bins <= BINS_MAX:
        raise ParamError("--bins", bins, f"give 1 to {BINS_MAX}, or 0 for one a pixel")
    if not 1 <= grid.azimuths <= BINS_MAX or bins * grid.azimuths > IMAGE_BINS_MAX:
        reason = f"give 1 (whole rings) to {BINS_MAX}, and with --bins {bins} not more than {IMAGE_BINS_MAX // bins}"
        raise ParamError("--azimuths", grid.azimuths, reason)
    try:
        return _calibrated(integrator, replace(grid, bins=bins), shape, masked, polarization)
    except MemoryError as error:
        reason = f"this host has not enough memory for {shape[0]} x {shape[1]} pixels: use a larger one"
        raise ParamError("GEOMETRY", str(poni), reason) from error


def _calibrated(
    integrator: Any, made: Grid, shape: tuple[int, int], masked: NDArray[np.bool_], polarization: float | None
) -> Calibrated:
    """What can be made of a geometry; raises MemoryError."""
    azimuth = None
    if made.azimuths > 1:
        matrix, radius1d, azimuth = _matrix_of_parts(integrator, made, shape, masked)
    else:
        matrix, radius1d = _matrix(integrator, made, shape, masked)
    radius2d = integrator.array_from_unit(shape, "center", integrator_unit(made.unit), scale=True)
    factor = None if polarization is None else integrator.polarization(shape, factor=polarization)
    return Calibrated(
        made,
        shape,
        matrix,
        radius1d,
        np.asarray(radius2d, np.float64),
        masked.astype(np.uint8),
        integrator.solidAngleArray(shape).astype(np.float32),
        None if factor is None else factor.astype(np.float32),
        azimuth,
    )


def integrator_unit(unit: Unit) -> Any:
    """pyFAI's own object for a unit."""
    from pyFAI.units import to_unit

    return to_unit(str(unit))


def _load(poni: Path) -> Any:
    """pyFAI's integrator."""
    try:
        import pyFAI  # half a second, and an extra of the installation
    except ModuleNotFoundError as error:
        raise Lima2Error(f"calibration needs {error.name}: pip install 'lima2_tango[fai]'") from error
    if not poni.is_file():
        raise ParamError("GEOMETRY", str(poni), "there is no such file: correct its name")
    try:
        text = poni.read_text(encoding="utf-8").lower()
        if "distance" not in text or "poni1" not in text:
            raise ValueError("Distance, Poni1 and Poni2 are not in it")
        integrator = pyFAI.load(str(poni))
        fault = _fault(integrator)
    except UNREADABLE as error:
        reason = f"it cannot be read as a geometry ({' '.join(str(error).split())}): give a .poni file of pyFAI"
        raise ParamError("GEOMETRY", str(poni), reason) from error
    if fault:
        raise ParamError("GEOMETRY", str(poni), f"{fault}: calibrate again")
    return integrator


def _fault(integrator: Any) -> str:
    """What is no geometry in it; pyFAI takes any number."""
    detector = integrator.detector
    for name in ("dist", "poni1", "poni2", "rot1", "rot2", "rot3"):
        if not np.isfinite(value := getattr(integrator, name)):
            return f"its {name} is {value}"
    lengths = {"distance": integrator.dist, "pixel height": detector.pixel1, "pixel width": detector.pixel2}
    if integrator.wavelength:
        lengths["wavelength"] = integrator.wavelength
    for name, value in lengths.items():
        if value is None or not (np.isfinite(value) and value > 0):
            return f"its {name} is {value} m"
    shape = detector.shape
    if shape is not None and (len(shape) != 2 or not all(int(length) == length > 0 for length in shape)):
        return f"its detector has the shape {tuple(shape)}, not rows and columns"
    return ""


def _shape_of(integrator: Any, asked: tuple[int, int] | None, poni: Path) -> tuple[int, int]:
    """(row, column), which the integrator has from now on."""
    known = integrator.detector.shape
    if known is None and asked is None:
        reason = f"{poni} names no detector with a shape: give the rows and columns of the frames"
        raise ParamError("--shape", None, reason)
    if asked is not None and min(asked) < 1:
        raise ParamError("--shape", list(asked), "give the rows and the columns of the frames, 1 or more")
    if known is not None and asked is not None and tuple(known) != tuple(asked):
        reason = f"{poni} is of a detector of {known[0]} x {known[1]} pixels (rows, columns): leave it out"
        raise ParamError("--shape", list(asked), reason)
    shape = asked if known is None else known
    assert shape is not None  # refused above
    if shape[0] * shape[1] > PIXELS_MAX:
        reason = f"no detector has {shape[0]} x {shape[1]} pixels: give the rows and columns of the frames"
        raise ParamError("--shape", list(shape), reason)
    integrator.detector.shape = tuple(shape)
    return int(shape[0]), int(shape[1])


def _mask(integrator: Any, shape: tuple[int, int], path: str) -> NDArray[np.bool_]:
    """Gaps of the detector, and pixels of the file."""
    gaps = integrator.detector.mask
    masked = np.zeros(shape, np.bool_) if gaps is None else np.asarray(gaps) != 0
    if path:
        masked = masked | (load_image(path, "--mask", FrameSpec(1, *shape, np.dtype(np.uint8))) != 0)
    if masked.all():
        reason = "every pixel is masked; here a pixel is masked where the image is not 0, as in pyFAI"
        raise ParamError("--mask", path, reason)
    return masked


def _matrix(integrator: Any, grid: Grid, shape: tuple[int, int], masked: NDArray[np.bool_]) -> tuple[Any, Any]:
    """Matrix of pyFAI's csr engine, and the centres of its bins."""
    method = (str(grid.splitting), "csr", "cython")
    ones = np.ones(shape, np.float32)
    integrated = integrator.integrate1d(
        ones, grid.bins, method=method, mask=masked, unit=integrator_unit(grid.unit), correctSolidAngle=False
    )
    (engine,) = (made.engine for made in integrator.engines.values())
    return (engine.data, engine.indices, engine.indptr), np.asarray(integrated.radial, np.float64)


def _matrix_of_parts(
    integrator: Any, grid: Grid, shape: tuple[int, int], masked: NDArray[np.bool_]
) -> tuple[Any, NDArray[np.float64], NDArray[np.float64]]:
    """The same of bins in two dimensions, and the azimuth of their centres [degree]; pyFAI has the azimuth fastest."""
    method = (str(grid.splitting), "csr", "cython")
    ones, unit = np.ones(shape, np.float32), integrator_unit(grid.unit)
    integrated = integrator.integrate2d_ng(
        ones, grid.bins, grid.azimuths, method=method, mask=masked, unit=unit, correctSolidAngle=False
    )
    (engine,) = (made.engine for made in integrator.engines.values())
    rows = np.arange(grid.bins * grid.azimuths).reshape(grid.bins, grid.azimuths).T.reshape(-1)
    bounds = np.asarray(engine.indptr)
    lengths = np.diff(bounds)[rows]
    ends = np.concatenate([[0], np.cumsum(lengths)])
    order = np.arange(ends[-1]) - np.repeat(ends[:-1] - bounds[rows], lengths)
    matrix = np.asarray(engine.data)[order], np.asarray(engine.indices)[order], ends.astype(np.int32)
    return matrix, np.asarray(integrated.radial, np.float64), np.asarray(integrated.azimuthal, np.float64)
