"""One picture of one frame, with its regions of interest."""

from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle as Box
from matplotlib.patches import Wedge
from numpy.typing import NDArray

from .frames import MASKED, Image
from .rois import ARCS, RECTANGLES

SHRINK = 4
"""Pixels along an axis that become one in the picture: the brightest of them, so that spots stay visible."""
COLOUR = "#00d0ff"


def draw(image: Image, index: int, path: Path) -> None:
    """Write a PNG of frame `index`: counts in a logarithmic scale, gaps and bad pixels grey, regions outlined."""
    rows, columns = image.shape
    figure = Figure(figsize=(9.5, 9), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    colours = mpl.colormaps["inferno"].with_extremes(bad="0.35")
    extent = (-0.5, columns - 0.5, rows - 0.5, -0.5)
    shown = axes.imshow(_shrunk(image), cmap=colours, norm=LogNorm(1, 2000), extent=extent, interpolation="nearest")
    for patch in _outlines():
        axes.add_patch(patch)
    axes.set(title=f"frame {index}, regions of interest outlined, masked pixels grey", xlabel="column", ylabel="row")
    figure.colorbar(shown, ax=axes, label="counts", shrink=0.8)
    figure.savefig(path)


def _shrunk(image: Image) -> "np.ma.MaskedArray[tuple[int, ...], np.dtype[np.float32]]":
    rows, columns = (length // SHRINK * SHRINK for length in image.shape)
    tiles = image[:rows, :columns].reshape(rows // SHRINK, SHRINK, columns // SHRINK, SHRINK)
    counts: NDArray[np.uint16] = np.where(tiles == MASKED, 0, tiles).max(axis=(1, 3))
    masked: NDArray[np.bool_] = (tiles == MASKED).mean(axis=(1, 3)) > 0.5
    return np.ma.masked_array(np.maximum(counts, 0.5).astype(np.float32), masked)


def _outlines() -> list[Box | Wedge]:
    boxes = [
        Box(
            (roi.topleft.x - 0.5, roi.topleft.y - 0.5),
            roi.dimensions.x,
            roi.dimensions.y,
            fill=False,
            ec=COLOUR,
            lw=1.5,
        )
        for roi in RECTANGLES
    ]
    wedges = [
        Wedge(
            (arc.center.x, arc.center.y), arc.r2, arc.a1, arc.a2, width=arc.r2 - arc.r1, fill=False, ec=COLOUR, lw=1.5
        )
        for arc in ARCS
    ]
    return [*boxes, *wedges]
