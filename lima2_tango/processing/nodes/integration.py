"""Azimuthal integration in one and in two dimensions."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lima2_tango.core.errors import GraphError
from lima2_tango.core.frame import Block, FrameSpec
from lima2_tango.core.pool import Pool
from lima2_tango.processing.kernels.layout import channel_of
from lima2_tango.processing.matrix import Matrix
from lima2_tango.processing.node import Mask, Node
from lima2_tango.processing.products import Azimuthal, PixelTables, Product, Steady, Valid

from .derive import derive

AVERAGE, ERROR = 0, 1
"""Channels of what the node makes."""


class ErrorModel(StrEnum):
    """Where the variance of a pixel comes from."""

    NO_VAR = "no_var"
    VARIANCE = "variance"
    POISSON = "poisson"
    AZIMUTHAL = "azimuthal"
    HYBRID = "hybrid"

    @property
    def poissonian(self) -> bool:
        """Counts are their own variance; hybrid differs from poisson only where pixels are clipped, not here."""
        return self in {ErrorModel.POISSON, ErrorModel.HYBRID}


@dataclass(frozen=True, slots=True)
class Dummy:
    """A value that marks pixels of a frame as not valid."""

    value: float
    delta: float = 0.0
    """Values this near to it are dummies, too."""


class Integration(Node):
    """The weighted average of each bin and, but for `no_var`, its standard error: float32 of (1 or 2, 1, bins).

    As an image of (1 or 2, azimuth, radius) where `as_image` asks for the shape that the bins of the matrix have. Of
    frames of several channels one is integrated.

    With c the coefficient of a pixel in a bin, w its weight and x its value less the dark current, the average is
    sum(c x) / sum(c w), the standard error sqrt(sum(c**2 variance)) / sum(c w). Bins without a weight, and only these,
    have the value `empty` in both. Placeholders of lost frames become 0. As pyFAI does it (Kieffer and Karkoulis 2013,
    J. Phys. Conf. Ser. 425 202012; Kieffer et al. 2025, J. Appl. Cryst. 58 138).
    """

    def __init__(
        self,
        matrix: Matrix,
        spec: FrameSpec,
        tables: PixelTables | None = None,
        error_model: ErrorModel = ErrorModel.NO_VAR,
        dummy: Dummy | None = None,
        *,
        as_image: bool = False,
        channel: int = 0,
    ) -> None:
        """For this channel of frames of `spec`, whose rows and columns are the matrix'.

        Raises GraphError for an image of bins in one dimension.
        """
        self._matrix, self._spec, self._channel = matrix, spec, channel
        if as_image and matrix.bin_shape is None:
            raise GraphError("the bins of the matrix have one dimension: make it with azimuthal bins")
        self._rows = matrix.bin_shape[0] if as_image and matrix.bin_shape is not None else 1
        self._tables = PixelTables.plain(matrix) if tables is None else tables
        self._model = error_model
        self.empty = 0.0 if dummy is None else dummy.value
        weight = matrix.dot(self._tables.weight)
        self.nb_filled = int(np.count_nonzero(weight > 0))
        """Bins that get a value from a frame whose pixels are all valid."""
        variance = None if error_model is ErrorModel.NO_VAR else error_model.poissonian
        self._product: Product
        if error_model is ErrorModel.AZIMUTHAL:
            self._product = Azimuthal(matrix, self._tables, _sought(dummy, spec.dtype))
        elif dummy is None and spec.dtype.kind != "f":
            self._product = Steady(matrix, self._tables, variance, weight)
        else:
            self._product = Valid(matrix, self._tables, variance, _sought(dummy, spec.dtype))

    def ready(self) -> None:
        """Compile what the first frame needs."""
        none = np.empty((0, *self._spec.shape), self._spec.dtype)
        made = self.output_spec(self._spec)
        self._integrate(channel_of(none, self._channel), np.empty((0, made.channels, self._matrix.nb_bins), made.dtype))

    def output_spec(self, spec: FrameSpec) -> FrameSpec:
        if spec != self._spec:
            raise GraphError(f"the integration is for {self._spec}, not for {spec}")
        channels = 1 if self._model is ErrorModel.NO_VAR else 2
        return FrameSpec(channels, self._rows, self._matrix.nb_bins // self._rows, np.dtype(np.float32))

    def output_valid(self, valid: Mask | None) -> Mask | None:
        """Masked pixels have no weight: `tables` says which."""
        return None

    def process(self, block: Block, pool: Pool) -> Block:
        spec = self.output_spec(block.spec)

        def fill(out: NDArray[Any]) -> None:
            frames = channel_of(block.data, self._channel)
            self._integrate(frames, out.reshape(*out.shape[:2], self._matrix.nb_bins))
            if block.valid is not None:
                out[~block.valid] = 0

        return derive(block, spec, pool, fill)

    def _integrate(self, frames: NDArray[Any], out: NDArray[np.float32]) -> None:
        """Fill `out` [frame, channel, bin]."""
        signal, variance, weight = self._product.sums(frames)
        filled = np.broadcast_to(weight > 0, signal.shape)
        out.fill(self.empty)
        np.divide(signal, weight, out=out[:, AVERAGE], where=filled, casting="same_kind")
        if variance is not None:
            np.divide(np.sqrt(variance), weight, out=out[:, ERROR], where=filled, casting="same_kind")


def _sought(dummy: Dummy | None, dtype: np.dtype) -> tuple[bool, float, float]:
    """Whether there is a dummy, its value as the frames have it, and how near to it is a dummy."""
    if dummy is None:
        return False, 0.0, 0.0
    return True, float(dtype.type(dummy.value)) if dtype.kind == "f" else dummy.value, dummy.delta
