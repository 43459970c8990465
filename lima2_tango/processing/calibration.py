"""The integration that the parameters `fai` ask for: matrix, corrections and error model, from their files."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from lima2_tango.core.errors import ParamError
from lima2_tango.core.frame import FrameSpec

from .channels import check_channel
from .images import LARGEST, load_image
from .matrix import BINS_MAX, IMAGE_BINS_MAX, Matrix, load_matrix
from .nodes.integration import Dummy, ErrorModel, Integration
from .pipelines.fai import IntegrationParams
from .products import PixelTables

NORMALISATIONS = ("flat_path", "solid_angle_path", "polarization_path", "absorption_path")
SMALLEST = float(np.finfo(np.float32).tiny)
"""Weights below would make averages that single precision does not hold."""
Load = Callable[[str], NDArray[np.float64] | None]
"""The flat image of a parameter, None where its path is empty."""


def integration_of(
    params: IntegrationParams, spec: FrameSpec, valid: NDArray[np.bool_] | None, *, as_image: bool = False
) -> Integration:
    """For one channel of frames of `spec`, of whose pixels those that are not `valid` are left out.

    `as_image` makes images (azimuth, radius) of a matrix in two dimensions, which may have any number of bins; else
    vectors are made. Raises ParamError for what is missing, does not fit the frames, contradicts itself or leaves no
    pixel.
    """
    matrix, tables = calibrated(params, spec, valid, IMAGE_BINS_MAX if as_image else BINS_MAX)
    if as_image and matrix.bin_shape is None:
        reason = "its bins have one dimension: make it with azimuthal bins, and let it say its bin_shape"
        raise ParamError("$.fai.csr_path", params.csr_path, reason)
    model = ErrorModel(params.error_model)
    integration = Integration(matrix, spec, tables, model, dummy_of(params), as_image=as_image, channel=params.channel)
    if not integration.nb_filled:
        raise nothing_left(params)
    return integration


def calibrated(
    params: IntegrationParams, spec: FrameSpec, valid: NDArray[np.bool_] | None, most_bins: int = BINS_MAX
) -> tuple[Matrix, PixelTables]:
    """The matrix, and what is known of each pixel of the channel that `params` ask for.

    Images are (row, column), or (channel, row, column), of which that channel is taken. Raises as `integration_of`, but
    not where no pixel is left.
    """
    check_channel(params.channel, "$.fai.channel", spec)
    _check_variances(params, ErrorModel(params.error_model))
    matrix = load_matrix(params.csr_path, "$.fai.csr_path", spec, most_bins)

    def load(name: str) -> NDArray[np.float64] | None:
        path = getattr(params, name)
        if not path:
            return None
        image = load_image(path, f"$.fai.{name}", spec)
        return (image[params.channel] if image.ndim == 3 else image).reshape(-1).astype(np.float64)

    return matrix, PixelTables(_weight(params, spec, valid, load), load("dark_path"), _variance(params, load))


def dummy_of(params: IntegrationParams) -> Dummy | None:
    """Raises ParamError for one that a vector cannot hold."""
    if params.do_dummy and abs(params.dummy) > LARGEST:
        raise ParamError("$.fai.dummy", params.dummy, f"empty bins get it, in single precision: {LARGEST:.1e} at most")
    return Dummy(params.dummy, params.delta_dummy) if params.do_dummy else None


def _check_variances(params: IntegrationParams, model: ErrorModel) -> None:
    """Raise ParamError for a variance that is missing, or that the error model has no use for."""
    if model is ErrorModel.VARIANCE and not params.variance_path:
        reason = "error_model variance needs the variance of each pixel; give its file, or choose another error_model"
        raise ParamError("$.fai.variance_path", "", reason)
    if params.variance_path and model is not ErrorModel.VARIANCE:
        reason = f"error_model {model} has no use for it; choose error_model variance, or leave it empty"
        raise ParamError("$.fai.variance_path", params.variance_path, reason)
    if params.dark_variance_path and not params.dark_path:
        raise ParamError("$.fai.dark_variance_path", params.dark_variance_path, "give dark_path too, or leave it empty")
    if params.dark_variance_path and model in {ErrorModel.NO_VAR, ErrorModel.AZIMUTHAL}:
        reason = f"error_model {model} has no use for it; choose variance or poisson, or leave it empty"
        raise ParamError("$.fai.dark_variance_path", params.dark_variance_path, reason)


def _weight(
    params: IntegrationParams, spec: FrameSpec, valid: NDArray[np.bool_] | None, load: Load
) -> NDArray[np.float64]:
    """The product of all normalisations, 0 where a pixel is masked or its product is less than `SMALLEST`."""
    weight = np.full(spec.height * spec.width, params.normalization_factor)
    for name in NORMALISATIONS:
        factor = load(name)
        if factor is None:
            continue
        weight *= factor
        if name == "flat_path" and params.do_dummy:  # as pyFAI: a flat field marks its dead pixels with the dummy too
            weight[np.abs(factor - params.dummy) <= params.delta_dummy] = 0
    masked = load("mask_path")
    if masked is not None:
        weight[masked != 0] = 0
    if valid is not None:
        weight[~np.broadcast_to(valid, spec.shape)[params.channel].reshape(-1)] = 0
    return np.where(weight >= SMALLEST, weight, 0.0)


def _variance(params: IntegrationParams, load: Load) -> NDArray[np.float64] | None:
    variance = None
    for name in ("variance_path", "dark_variance_path"):
        image = load(name)
        if image is None:
            continue
        if (image < 0).any():
            reason = f"{int((image < 0).sum())} pixels have a negative variance; correct the image"
            raise ParamError(f"$.fai.{name}", getattr(params, name), reason)
        variance = image if variance is None else variance + image
    return variance


def nothing_left(params: IntegrationParams) -> ParamError:
    """The refusal of a calibration that leaves no pixel."""
    if params.mask_path:
        reason = (
            "no pixel that the matrix uses is left; here a pixel is masked where the image is not 0, as in pyFAI: is "
            "this mask the other way round?"
        )
        return ParamError("$.fai.mask_path", params.mask_path, reason)
    reason = "no pixel that the matrix uses is valid; look at the mask, the flat field and the other normalisations"
    return ParamError("$.fai.csr_path", params.csr_path, reason)
