"""Background of a frame: mean and deviation of each ring, after the pixels that stand out are left out."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lima2_tango.core.errors import GraphError
from lima2_tango.core.frame import Block, FrameSpec
from lima2_tango.core.pool import Pool
from lima2_tango.processing.kernels import clipping as kernels
from lima2_tango.processing.kernels.layout import channel_of
from lima2_tango.processing.matrix import Matrix
from lima2_tango.processing.node import Mask, Node
from lima2_tango.processing.products import PixelTables

from .derive import derive
from .integration import Dummy, ErrorModel

MEAN, DEVIATION = 0, 1
"""Channels of what the node makes."""
MODELS = {
    ErrorModel.VARIANCE: kernels.COUNTS,
    ErrorModel.POISSON: kernels.COUNTS,
    ErrorModel.AZIMUTHAL: kernels.AZIMUTHAL,
    ErrorModel.HYBRID: kernels.HYBRID,
}


@dataclass(frozen=True, slots=True)
class Clipping:
    """How far from the mean a pixel may be, and how often that is asked."""

    cutoff: float = 0.0
    """In deviations; the limit after Chauvenet where that is larger."""
    cycles: int = 3
    error_model: ErrorModel = ErrorModel.POISSON


class Background(Node):
    """Mean and standard deviation of a pixel at weight 1, of each bin: float32 of (2, 1, bins).

    With c the coefficient of a pixel in a bin, w its weight and x its value less the dark current, the mean is
    sum(c x) / sum(c w), the deviation sqrt(sum(c**2 variance) / sum((c w)**2)). Each cycle leaves out the pixels with
    |x / w - mean| > max(cutoff, sqrt(2 ln(n / sqrt(2 pi)))) * deviation, where n is the number of pixels left, 3 at
    least (Chauvenet's criterion). Each bin does so by itself: a pixel that is split may count in one of its bins and
    not in the other. A bin that loses all its pixels, as its values are no background that the error model could
    explain, is 0. Bins that had none get what lies on a line between the nearest ones that had some; a frame without
    any, and the placeholder of a lost frame, is 0.

    As pyFAI's sigma_clip does it (Kieffer et al. 2025, J. Appl. Cryst. 58 138).
    """

    def __init__(
        self,
        matrix: Matrix,
        spec: FrameSpec,
        tables: PixelTables | None = None,
        clipping: Clipping = Clipping(),
        dummy: Dummy | None = None,
        channel: int = 0,
    ) -> None:
        """For this channel of frames of `spec`, whose rows and columns are the matrix'.

        Raises GraphError for an error model without variances.
        """
        if clipping.error_model not in MODELS:
            raise GraphError(f"error model {clipping.error_model} has no deviation to clip by; choose azimuthal")
        tables = PixelTables.plain(matrix) if tables is None else tables
        self._spec, self._nb_bins = spec, matrix.nb_bins
        self.channel = channel
        """Of the frames, the one whose background it is."""
        self._settings = MODELS[clipping.error_model], clipping.cutoff, clipping.cycles
        used = (tables.weight[matrix.pixels] > 0) & (matrix.coefficients > 0)
        bounds = np.concatenate([[0], np.cumsum(used)])[matrix.bounds]
        pixels = matrix.pixels[used].astype(np.int32)
        weights = tables.weight[pixels].astype(np.float32)
        self._matrix = matrix.coefficients[used], pixels, weights, bounds
        self.nb_filled = int(np.count_nonzero(np.diff(bounds)))
        """Bins that get a value from a frame whose pixels are all valid."""
        self._totals = self._summed()
        poisson = clipping.error_model.poissonian
        none = np.empty(0, np.float32)
        dark, variance = (none if each is None else each[pixels] for each in (tables.dark, tables.variance))
        self._tables = dark.astype(np.float32), variance.astype(np.float32), poisson
        self._sought = sought_of(dummy, spec.dtype)
        plain = dummy is None and tables.dark is None and tables.variance is None and spec.dtype.kind != "f"
        self._counts = plain and clipping.error_model is not ErrorModel.VARIANCE

    def ready(self) -> None:
        """Compile what the first frame needs."""
        self.of(channel_of(np.empty((0, *self._spec.shape), self._spec.dtype), self.channel))

    def output_spec(self, spec: FrameSpec) -> FrameSpec:
        if spec != self._spec:
            raise GraphError(f"the background is for {self._spec}, not for {spec}")
        return FrameSpec(2, 1, self._nb_bins, np.dtype(np.float32))

    def output_valid(self, valid: Mask | None) -> Mask | None:
        """Masked pixels have no weight: `tables` says which."""
        return None

    def process(self, block: Block, pool: Pool) -> Block:
        spec = self.output_spec(block.spec)

        def fill(out: NDArray[Any]) -> None:
            out[:, :, 0] = self.of(channel_of(block.data, self.channel))
            if block.valid is not None:
                out[~block.valid] = 0

        return derive(block, spec, pool, fill)

    def of(self, frames: NDArray[Any]) -> NDArray[np.float64]:
        """[frame, 2, bin], of one channel of frames as `kernels.layout.channel_of` gives it."""
        made = np.empty((len(frames), 2, self._nb_bins))
        if self._counts:
            kernels.clip_counts(frames, self._matrix, self._totals, self._settings, made)
        else:
            kernels.clip_valid(frames, self._matrix, self._tables, self._sought, self._settings, made)
        for own in made:
            _fill_gaps(own)
        return made

    def _summed(self) -> NDArray[np.float64]:
        """[bin, 3] sums of weights, of their squares, and of coefficients."""
        coefficients, _, weights, bounds = self._matrix
        shares = coefficients.astype(np.float64)
        own = shares * weights
        columns = np.stack([own, own * own, shares], axis=1)
        sums = np.concatenate([np.zeros((1, 3)), np.cumsum(columns, axis=0)])[bounds]
        return np.ascontiguousarray(np.diff(sums, axis=0))


def sought_of(dummy: Dummy | None, dtype: np.dtype) -> tuple[bool, float, float]:
    """Whether there is a dummy, its value as the frames have it, and how near to it is a dummy."""
    if dummy is None:
        return False, 0.0, 0.0
    return True, float(dtype.type(dummy.value)) if dtype.kind == "f" else dummy.value, dummy.delta


def _fill_gaps(own: NDArray[np.float64]) -> None:
    """Replace NaN in [channel, bin] by what lies on a line between the nearest bins, 0 where there is none."""
    filled = np.isfinite(own[MEAN])
    if filled.all():
        return
    if not filled.any():
        own[:] = 0.0
        return
    positions = np.arange(own.shape[1])
    for values in own:
        values[~filled] = np.interp(positions[~filled], positions[filled], values[filled])
