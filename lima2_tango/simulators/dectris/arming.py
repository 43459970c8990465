"""What arm finds out from the parameters."""

import numpy as np
from numpy.typing import NDArray

from .frames import Recipe, Ring, Source
from .options import Options
from .settings import Table
from .values import RefusedError

ENABLED = ("inte", "exte")
"""Trigger modes with one image for each trigger."""
MOST_IMAGES = 2_000_000_000


def count_images(table: Table) -> int:
    """Images of the series; raises RefusedError for what the trigger mode cannot do."""
    nimages, ntrigger, mode = table["nimages"].value, table["ntrigger"].value, table["trigger_mode"].value
    doubled = mode == "extg" and table["extg_mode"].value == "double"
    if doubled and (nimages % 2 or ntrigger != 1):
        raise RefusedError(400, 'value error: extg_mode "double" needs an even "nimages", and "ntrigger" = 1')
    count: int = ntrigger if mode in ENABLED else nimages * ntrigger
    if count > MOST_IMAGES:
        raise RefusedError(400, f'value error: "nimages" * "ntrigger" = {count} are more than {MOST_IMAGES} images')
    return count


class Rings:
    """The images that were made last, which the next series will have again."""

    def __init__(self, source: Source, options: Options) -> None:
        self._source, self._options = source, options
        self._mask: NDArray[np.uint32] | None = None
        self._ring: Ring | None = None

    def ring(self, table: Table, nb_channels: int, framed: bool) -> Ring:
        """Images as the parameters want them; new ones take some seconds. `framed` as of `packing.packed`."""
        bits = self._options.bit_depth or table["bit_depth_image"].value
        mask, compression = table["pixel_mask"].value, table["compression"].value
        masked, to_zero = table["pixel_mask_applied"].value, table["mask_to_zero"].value
        framed = framed or compression != "lz4"
        recipe = Recipe(nb_channels, mask.shape, f"u{bits // 8}", compression, framed, masked, to_zero)
        if self._ring is None or self._ring.recipe != recipe or self._mask is not mask:
            self._ring = None  # not both in memory
            self._ring, self._mask = Ring(self._source, recipe, self._options.distinct, mask), mask
        return self._ring
