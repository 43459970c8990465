"""Random frames, masks and regions."""

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

from lima2_tango.core.roi import Arc, PixelPosition, PixelSize, Position, Rectangle

modest = settings(deadline=None, max_examples=30)
dtypes = st.sampled_from([np.dtype(code) for code in ("u2", "i4", "f4")])
"""As few as show integers of both signs and sizes, and floats: each costs a compilation."""


@st.composite
def frames(draw, kinds=dtypes):
    """[n, channel, row, column] over the whole range of integers, and a few orders of magnitude of floats."""
    dtype = draw(kinds)
    shape = tuple(draw(st.integers(1, most)) for most in (3, 2, 12, 40))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    if dtype.kind == "f":
        return (random.normal(size=shape) * 10.0 ** draw(st.integers(-3, 6))).astype(dtype)
    limits = np.iinfo(dtype)
    top = draw(st.sampled_from([3, 1000, limits.max]))
    return random.integers(max(limits.min, -top), top, shape, dtype, endpoint=True)


@st.composite
def images(draw, data, low, high):
    """None, or an image of real numbers for the frames `data`, for one channel or for all."""
    if draw(st.booleans()):
        return None
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    return random.uniform(low, high, data.shape[draw(st.sampled_from([1, 2])) :])


@st.composite
def masks(draw, data):
    """None, or the valid pixels of the frames `data`."""
    image = draw(images(data, 0, 1))
    return None if image is None else image < draw(st.sampled_from([0.0, 0.5, 0.95]))


@st.composite
def rectangles(draw, data):
    height, width = data.shape[2:]
    x, y = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    size = PixelSize(x=draw(st.integers(1, width - x)), y=draw(st.integers(1, height - y)))
    return Rectangle(topleft=PixelPosition(x=x, y=y), dimensions=size)


@st.composite
def arcs(draw, data):
    """Arcs with whole or halved numbers: pixel centres fall on their borders."""
    height, width = data.shape[2:]
    x = draw(st.integers(-4, 2 * width + 4)) / 2
    y = draw(st.integers(-4, 2 * height + 4)) / 2
    r1, a1 = draw(st.integers(0, 20)) / 2, float(draw(st.integers(-24, 24)) * 15)
    r2, a2 = r1 + draw(st.integers(1, 30)) / 2, a1 + draw(st.integers(1, 26)) * 15
    return Arc(center=Position(x=x, y=y), r1=r1, r2=r2, a1=a1, a2=a2)
