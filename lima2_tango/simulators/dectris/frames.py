"""The images that a simulated detector shows: rings of powder with the noise of photons, or those of files."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from hashlib import md5
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lima2_tango.core.errors import ParamError

from .models import Model
from .packing import packed

LEVELS = 64
"""Different means of a pixel."""
DRAWS = 1 << 12
"""A pixel is one of so many Poisson counts of its mean, at random."""
STEPS = 1 << 12
"""Steps of the radius, up to twice the shorter side."""
ROWS = 64
"""Rows of an image that are made at once: they stay in the caches."""
GAP, DEAD = 1, 2
"""Bits of the pixel mask."""

Pixels = NDArray[Any]
"""[row, column]"""


class Source(Protocol):
    """Where images come from."""

    @property
    def shape(self) -> tuple[int, int] | None:
        """(rows, columns), or None where the detector's size will do."""

    def image(self, number: int, channel: int, shape: tuple[int, int], dtype: np.dtype) -> Pixels:
        """Image `number` of a channel, without the mask."""


@dataclass(frozen=True, slots=True)
class Powder:
    """Images of rings, no two alike; `mean` is that of a pixel [photon]."""

    mean: float = 1.0
    shape: tuple[int, int] | None = None

    def image(self, number: int, channel: int, shape: tuple[int, int], dtype: np.dtype) -> Pixels:
        levels, draws = _levels(shape), _draws(self.mean / (1 + channel)).astype(dtype)
        random = np.random.default_rng((number, channel))
        out = np.empty(shape, dtype)
        for row in range(0, shape[0], ROWS):
            part = levels[row : row + ROWS]
            which = random.integers(0, DRAWS, part.shape, np.uint16)
            np.take(draws, (part << np.uint32(12)) | which, out=out[row : row + ROWS], mode="clip")
        return out


@cache
def _levels(shape: tuple[int, int]) -> NDArray[np.uint32]:
    """[row, column] which of the means a pixel has: background that falls with the radius, and six rings."""
    radius = np.linspace(0.0, 4.0, STEPS)
    bright = np.exp(-radius)
    for ring in (0.2, 0.32, 0.45, 0.6, 0.78, 0.95):
        bright += 2 * np.exp(-(((radius - ring) / 0.01) ** 2))
    profile = (bright / bright.max() * (LEVELS - 1)).astype(np.uint32)
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    scale = STEPS / 2 / min(shape)
    squares = (rows - shape[0] / 2) ** 2, (columns - shape[1] / 2) ** 2
    steps = np.sqrt(np.add(*squares, dtype=np.float32), dtype=np.float32) * np.float32(scale)
    return np.take(profile, steps.astype(np.uint16), mode="clip")


@cache
def _draws(mean: float) -> NDArray[np.int64]:
    """[level * DRAWS + draw] photons."""
    means = np.linspace(0.05, 6 * mean, LEVELS)[:, np.newaxis]
    return np.random.default_rng(0).poisson(means, (LEVELS, DRAWS)).ravel()


@dataclass(frozen=True, slots=True)
class Given:
    """Images of files, again and again; a second channel begins with the second image."""

    images: Sequence[Pixels]

    @property
    def shape(self) -> tuple[int, int] | None:
        rows, columns = self.images[0].shape
        return rows, columns

    def image(self, number: int, channel: int, shape: tuple[int, int], dtype: np.dtype) -> Pixels:
        """What does not fit the type is its largest value, and so is what is negative: files mark bad pixels so."""
        pixels = self.images[(number + channel) % len(self.images)][: shape[0], : shape[1]]
        most = np.iinfo(dtype).max
        return np.where((pixels < 0) | (pixels > most), most, pixels).astype(dtype)


def read_files(paths: Sequence[Path], at_most: int) -> Given:
    """The first `at_most` images of HDF5, CBF, EDF or TIFF files; raises ParamError."""
    images = list(islice((image for path in paths for image in _images(path, at_most)), at_most))
    if not images:
        raise ParamError("--frames", [str(path) for path in paths], "there are no images in these files")
    if len(shapes := {image.shape for image in images}) > 1:
        raise ParamError("--frames", [str(path) for path in paths], f"the images have different shapes: {shapes}")
    return Given(images)


def _images(path: Path, at_most: int) -> Sequence[Pixels]:
    try:
        found = _hdf5(path, at_most) if _is_hdf5(path) else _fabio(path, at_most)
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, AttributeError) as error:
        raise ParamError("--frames", str(path), f"this file cannot be read: {error}") from error
    if any(image.ndim != 2 or image.dtype.kind not in "ui" for image in found):
        raise ParamError("--frames", str(path), "a detector counts photons: give images of whole numbers")
    return found


def _is_hdf5(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(8) == b"\x89HDF\r\n\x1a\n"


def _hdf5(path: Path, at_most: int) -> list[Pixels]:
    """The first images of the first dataset that is a stack of images."""
    import h5py
    import hdf5plugin  # noqa: F401 - to read what detectors compress

    with h5py.File(path) as file:
        stacks: list[Any] = []
        file.visititems(lambda _, node: stacks.append(node) if _is_stack(node) else None)
        if not stacks:
            raise ValueError("it has no dataset of images [image, row, column]")
        return [np.asarray(stacks[0][number]) for number in range(min(at_most, len(stacks[0])))]


def _is_stack(node: Any) -> bool:
    return getattr(node, "ndim", 0) == 3 and node.dtype.kind in "ui" and min(node.shape) > 0


def _fabio(path: Path, at_most: int) -> list[Pixels]:
    import fabio

    with fabio.open(str(path)) as file:
        return [np.array(file.get_frame(number).data) for number in range(min(at_most, file.nframes))]


def gaps(model: Model, shape: tuple[int, int]) -> NDArray[np.uint32]:
    """[row, column] the pixel mask that a detector comes with: what lies between its modules, and a few dead pixels."""
    mask = np.zeros(shape, np.uint32)
    for axis in (0, 1):
        pitch = model.module[axis] + model.gap[axis]
        between = np.arange(shape[axis]) % pitch >= model.module[axis]
        mask[between if axis == 0 else (slice(None), between)] = GAP
    random = np.random.default_rng(1)
    dead = random.integers(0, shape[0], 20), random.integers(0, shape[1], 20)
    mask[dead] |= DEAD
    return mask


@dataclass(frozen=True)
class Recipe:
    """What decides the bytes of an image."""

    channels: int
    shape: tuple[int, int]
    dtype: str
    compression: str
    framed: bool
    """As stream 2 has LZ4."""
    masked: bool
    to_zero: bool


@dataclass(frozen=True)
class Chunk:
    """One image of one channel, ready to be sent."""

    data: bytes
    hash: str


class Ring:
    """A few different images, compressed beforehand: making them must not be what limits the rate."""

    def __init__(self, source: Source, recipe: Recipe, count: int, mask: NDArray[np.uint32]) -> None:
        """Make `count` images on all cores; one of 16 million pixels takes some tenths of a second."""
        self.recipe = recipe
        self._source, self._mask = source, mask
        self._make(0)  # what all images share is made once, not by each thread
        with ThreadPoolExecutor(len(os.sched_getaffinity(0)), "lima2-simulated-frames") as pool:
            self.chunks: Sequence[Sequence[Chunk]] = list(pool.map(self._make, range(count)))
            """[image][channel]"""

    def __len__(self) -> int:
        return len(self.chunks)

    @property
    def nbytes(self) -> int:
        """Bytes of all images, compressed."""
        return sum(len(chunk.data) for image in self.chunks for chunk in image)

    def pixels(self, number: int, channel: int) -> Pixels:
        """What a receiver must find in image `number` of a series."""
        return self._image(number % len(self), channel)

    def _make(self, number: int) -> list[Chunk]:
        return [self._chunk(number, channel) for channel in range(self.recipe.channels)]

    def _chunk(self, number: int, channel: int) -> Chunk:
        data = packed(self._image(number, channel), self.recipe.compression, self.recipe.framed)
        return Chunk(data, md5(data, usedforsecurity=False).hexdigest())

    def _image(self, number: int, channel: int) -> Pixels:
        recipe, dtype = self.recipe, np.dtype(self.recipe.dtype)
        image = self._source.image(number, channel, recipe.shape, dtype)
        if recipe.masked:
            image[self._mask != 0] = 0 if recipe.to_zero else np.iinfo(dtype).max
        return image
