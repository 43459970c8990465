"""`lima2 calibrate`: the files that integrating pipelines read, from a geometry."""

import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from lima2_tango.core.errors import Lima2Error, ParamError
from lima2_tango.processing.geometry import Calibrated, Grid, Splitting, Unit, calibrate
from lima2_tango.processing.offline import find_pipeline

from .acquiring import BAD_INPUT

EXAMPLES = """Example: lima2 calibrate detector.poni -o calibration

Example: lima2 calibrate detector.poni --bins 1000 --unit 2th_deg --splitting no --mask dead.edf -o calibration

Example: lima2 calibrate detector.poni --shape 1043 981 --pipeline Smx -o calibration > smx.json
"""
FILES = {
    "csr_path": "csr.h5",
    "mask_path": "mask.h5",
    "radius1d_path": "bin_centers.h5",
    "radius2d_path": "r_center.h5",
    "solid_angle_path": "solid_angle.h5",
    "polarization_path": "polarization.h5",
}
"""By parameter of the block `fai`; the names are those of the parameters' defaults, where these have one."""

Geometry = Annotated[Path, typer.Argument(metavar="GEOMETRY", help="A .poni file of pyFAI's calibration.")]
Folder = Annotated[Path, typer.Option("--output", "-o", help="Folder for the files, made where it is missing.")]
Bins = Annotated[int, typer.Option(help="Bins; 0 is one for each pixel from the beam to the farthest corner.")]
Azimuths = Annotated[int, typer.Option(help="Parts of each ring, for an integration in two dimensions.")]
Split = Annotated[Splitting, typer.Option(help="How a pixel is shared among the bins that it touches.")]
RadialUnit = Annotated[Unit, typer.Option(help="Unit of the radius.")]
Mask = Annotated[str, typer.Option(help="Image of pixels to leave out: not 0 is masked, as pyFAI has it.")]
Shape = Annotated[
    tuple[int, int] | None, typer.Option(help="Rows and columns of the frames, where GEOMETRY does not say.")
]
Polarization = Annotated[float | None, typer.Option(help="Factor of the beam, -1 to 1; without it no correction.")]
SolidAngle = Annotated[bool, typer.Option(help="Correct for the solid angle of each pixel.")]
Pipeline = Annotated[str, typer.Option(help="For which pipeline the parameters are printed.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")]


def calibrate_files(
    geometry: Geometry,
    output: Folder,
    bins: Bins = 0,
    azimuths: Azimuths = 1,
    splitting: Split = Splitting.FULL,
    unit: RadialUnit = Unit.Q_NM,
    mask: Mask = "",
    shape: Shape = None,
    polarization: Polarization = None,
    solid_angle: SolidAngle = True,
    pipeline: Pipeline = "Fai",
    overwrite: Overwrite = False,
) -> None:
    """Make the files of an integrating pipeline (Fai, Smx) from a detector's geometry.

    Writes the matrix (csr), the mask, the radius of bins and pixels, and the corrections, all for whole frames: after
    binning, flip or a region of interest they do not fit. Prints the parameters that use them, as JSON to paste.
    The pipeline then gives what pyFAI's csr engine gives. Exit codes: 0 written, 2 refused.
    """
    try:
        keys = _keys(pipeline)
        made = calibrate(geometry, Grid(bins, splitting, unit, azimuths), shape, mask, polarization)
        arrays = _arrays(made, solid_angle, geometry)
        files = _write(output.absolute(), arrays, overwrite)
    except Lima2Error as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(BAD_INPUT) from error
    left = 1 - float(made.mask.mean())
    what = f"{made.grid.bins} bins of {made.grid.unit}, {made.radius1d[0]:.4g} to {made.radius1d[-1]:.4g}"
    typer.echo(f"{what}; {made.shape[0]} x {made.shape[1]} pixels, {left:.1%} of them used", err=True)
    typer.echo(json.dumps({"fai": {key: str(files[key]) for key in keys if key in files}}, indent=2))


def _keys(pipeline: str) -> list[str]:
    """Parameters of the block `fai` of a pipeline; raises ParamError where it has no such block."""
    declared = find_pipeline(pipeline).params
    if "fai" not in declared.model_fields:
        raise ParamError("--pipeline", pipeline, "it reads no calibration of this kind: choose Fai or Smx")
    block: Any = declared.model_fields["fai"].default
    return list(type(block).model_fields)


def _arrays(made: Calibrated, solid_angle: bool, geometry: Path) -> dict[str, dict[str, NDArray[Any] | str]]:
    """Datasets of each file, by parameter."""
    data, indices, indptr = made.matrix
    matrix: dict[str, NDArray[Any] | str] = {
        "data": data,
        "indices": indices,
        "indptr": indptr,
        "shape": np.array([len(indptr) - 1, made.shape[0] * made.shape[1]]),
        "image_shape": np.array(made.shape),
        "radius": made.radius1d,
        "unit": str(made.grid.unit),
        "splitting": str(made.grid.splitting),
        "poni": geometry.read_text(encoding="utf-8"),
    }
    if made.azimuth is not None:
        matrix |= {"azimuth": made.azimuth, "bin_shape": np.array([made.grid.azimuths, made.grid.bins])}
    images: dict[str, NDArray[Any] | None] = {
        "mask_path": made.mask,
        "radius1d_path": made.radius1d,
        "radius2d_path": made.radius2d,
        "solid_angle_path": made.solid_angle if solid_angle else None,
        "polarization_path": made.polarization,
    }
    return {"csr_path": matrix} | {key: {"data": one} for key, one in images.items() if one is not None}


def _write(folder: Path, arrays: dict[str, dict[str, NDArray[Any] | str]], overwrite: bool) -> dict[str, Path]:
    """The files, by parameter; raises ParamError where one exists, before any is written."""
    from lima2_tango.saving.arrays import write_arrays

    files = {key: folder / FILES[key] for key in arrays}
    taken = [file for file in files.values() if file.exists()]
    if taken and not overwrite:
        raise ParamError("--output", str(taken[0]), "it exists: name another folder, or say --overwrite")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ParamError("--output", str(folder), f"this folder cannot be made: {error.strerror}") from error
    for key, file in files.items():
        write_arrays(file, arrays[key], overwrite)
    return files
