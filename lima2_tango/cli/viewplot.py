"""Pictures of a frame: as a PNG with its curves, or as coloured blocks in a terminal."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.color import Color
from rich.segment import Segment, Segments
from rich.style import Style

from lima2_tango.core.errors import SavingError
from lima2_tango.web.picture import MASKED, Picture, draw
from lima2_tango.web.view import Scale, View

from .process import LaunchError
from .viewed import Curve, Summary

LARGEST = 1600
"""Columns and rows of the picture of a frame; larger frames are pooled by their brightest pixels."""
WIDTH, CURVES = 8.0, 2.5
"""Of a picture, and the height of the curves below it [inch]."""
STRIP = 24
"""Of the colours below a picture in a terminal [character]."""
HALF = "\N{UPPER HALF BLOCK}"
COLOURS = ((0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164))
"""Dark to bright: points of matplotlib's colour map inferno (CC0)."""
GREY = (110, 110, 110)
"""A masked pixel."""


def save(path: Path, summary: Summary, data: NDArray[Any], log: bool) -> None:
    """A PNG of the frame [channel, row, column] and the curves of its regions; raises SavingError.

    A file that holds curves gives a plot.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise LaunchError(f"pictures need {error.name}: pip install matplotlib, or use --show") from error
    height = WIDTH * min(1.0, max(0.4, data.shape[-2] / data.shape[-1])) if data.ndim > 2 else WIDTH / 2
    figure = Figure(figsize=(WIDTH, height + CURVES * bool(summary.rois)), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    if summary.rois:
        upper, lower = figure.subplots(2, 1, height_ratios=[height, CURVES])
        _plot_curves(lower, summary)
    else:
        upper = figure.subplots()
    _plot_frame(figure, upper, summary, data, log)
    try:
        figure.savefig(path, format="png")
    except OSError as error:
        raise SavingError(f"{path} cannot be written: {error.strerror or error}", file=str(path)) from error


def blocks(data: NDArray[Any], columns: int, rows: int, log: bool) -> Segments:
    """The frame as coloured blocks, at most so many characters wide and high; two rows of pixels are one of text.

    Below it is a line more: the colours, and of which counts they are.
    """
    view = View(columns=max(16, columns), rows=max(16, 2 * rows), scale=_scale(log))
    picture = draw(_image(data), view)
    colours = _colours()[picture.indices]
    colours[picture.indices == MASKED] = GREY
    if len(colours) % 2:
        colours = np.concatenate([colours, np.zeros_like(colours[:1])])
    segments = []
    for upper, lower in zip(colours[::2], colours[1::2], strict=True):
        segments += [_block(above, below) for above, below in zip(upper.tolist(), lower.tolist(), strict=True)]
        segments.append(Segment.line())
    return Segments([*segments, *_scale_line(picture, log)])


def _scale_line(picture: Picture, log: bool) -> list[Segment]:
    """Darkest count, the colours up to the brightest, and that one."""
    strip = _colours()[np.linspace(0, MASKED - 1, STRIP).round().astype(int)].tolist()
    colours = [Segment(" ", Style(bgcolor=Color.from_rgb(*colour))) for colour in strip]
    scale = ", logarithmic" if log else ""
    return [
        Segment(f"{picture.low:.4g} "),
        *colours,
        Segment(f" {picture.high:.4g} counts{scale}"),
        Segment.line(),
    ]


def _plot_frame(figure: Any, axes: Any, summary: Summary, data: NDArray[Any], log: bool) -> None:
    axes.set_title(f"{Path(summary.file).name}, frame {summary.shown.index}{_position(summary)}", fontsize=10)
    if data.ndim < 3:  # a vector for each frame
        axes.plot(data.reshape(-1), lw=0.9)
        axes.set(xlabel="bin", ylabel="value", yscale="log" if log else "linear")
        return
    from matplotlib.patches import Rectangle

    picture = draw(_image(data), View(columns=LARGEST, rows=LARGEST, scale=_scale(log)))
    _plot_picture(figure, axes, picture, log)
    for number, curve in enumerate(summary.rois):
        x, y, width, height = curve.roi
        axes.add_patch(Rectangle((x - 0.5, y - 0.5), width, height, fill=False, ec=f"C{number}", lw=1.5))


def _plot_picture(figure: Any, axes: Any, picture: Picture, log: bool) -> None:
    import matplotlib as mpl
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import FuncNorm, Normalize

    colours = mpl.colormaps["inferno"].with_extremes(bad="0.45")
    shown = np.ma.masked_equal(picture.indices, MASKED)
    extent = (-0.5, picture.width - 0.5, picture.height - 0.5, -0.5)
    axes.imshow(shown, cmap=colours, vmin=0, vmax=MASKED - 1, extent=extent, interpolation="nearest")
    axes.set(xlabel="column", ylabel="row")
    low, high = picture.low, picture.high
    # The same function as that of the indices, so that the bar says what the colours are.
    logarithm = (lambda value: np.log1p(np.maximum(value - low, 0)), lambda index: np.expm1(index) + low)
    norm = FuncNorm(logarithm, vmin=low, vmax=high) if log else Normalize(low, high)
    bar = figure.colorbar(ScalarMappable(norm, colours), ax=axes, label="counts", fraction=0.05)
    if log:
        bar.set_ticks(_decades(low, high))


def _decades(low: float, high: float) -> list[float]:
    """Both ends, and the powers of ten between them."""
    return [low, *(10.0**power for power in range(13) if low < 10.0**power < high), high]


def _plot_curves(axes: Any, summary: Summary) -> None:
    axis = next((each for each in summary.columns if len(each.values) == summary.frames), None)
    for number, curve in enumerate(summary.rois):
        x = range(summary.frames) if axis is None else axis.values
        y = [np.nan if value is None else value for value in curve.sum]
        axes.plot(x, y, ".-", color=f"C{number}", lw=0.9, label=_name(curve))
    unit = f" ({axis.unit})" if axis is not None and axis.unit else ""
    axes.set(xlabel="frame" if axis is None else f"{axis.name}{unit}", ylabel="sum of counts")
    axes.legend(fontsize=8)


def _name(curve: Curve) -> str:
    x, y, width, height = curve.roi
    return f"{width} x {height} at {x}, {y}"


def _position(summary: Summary) -> str:
    """Where the first motor was at the frame that is shown."""
    for column in summary.columns:
        number = summary.shown.index - summary.first
        if len(column.values) == summary.frames == summary.last - summary.first + 1:
            return f", {column.name} at {column.values[number]:.4g} {column.unit}".rstrip()
    return ""


def _image(data: NDArray[Any]) -> NDArray[Any]:
    """[row, column] of the first channel; a vector is one row."""
    return data.reshape(-1, *data.shape[-2:])[0] if data.ndim > 2 else data.reshape(1, -1)


def _scale(log: bool) -> Scale:
    return Scale.LOG if log else Scale.LINEAR


def _colours() -> NDArray[np.uint8]:
    """[index, 3] red, green, blue."""
    at = np.linspace(0, MASKED, len(COLOURS))
    table = np.stack([np.interp(np.arange(MASKED + 1), at, channel) for channel in zip(*COLOURS, strict=True)], axis=1)
    found: NDArray[np.uint8] = table.round().astype(np.uint8)
    return found


def _block(above: list[int], below: list[int]) -> Segment:
    return Segment(HALF, Style(color=Color.from_rgb(*above), bgcolor=Color.from_rgb(*below)))
