"""The modules of a simulated detector: where they lie, who gets them, and what goes wrong with them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from lima2_tango.core.errors import ParamError
from lima2_tango.core.frame import Block, FrameSpec, Lease
from lima2_tango.core.modules import MOST_MODULES, Layout
from lima2_tango.core.modules import Module as Placed
from lima2_tango.core.params import Int, Params

from ._images import Generator, fill

PATH = "$.det.modules"


class Module(Params):
    """One module of the detector."""

    x: Annotated[Int, Field(ge=0, le=65534)] = 0
    """Column of its left edge in the frame [pixel]."""
    y: Annotated[Int, Field(ge=0, le=65534)] = 0
    """Row of its upper edge in the frame [pixel]."""
    width: Annotated[Int, Field(ge=1, le=65535)] = 1024
    """Columns, as it is read out [pixel]."""
    height: Annotated[Int, Field(ge=1, le=65535)] = 512
    """Rows, as it is read out [pixel]."""
    rotation: Literal[0, 90, 180, 270] = 0
    """Anticlockwise turn from how it is read out to how it lies in the frame [degree]."""
    receiver: Annotated[Int, Field(ge=-1, le=1023)] = -1
    """Receiver that gets it; -1: modules are shared out in their order, each receiver as many."""
    missing_every: Annotated[Int, Field(ge=0, le=2**31 - 1)] = 0
    """Each so many frames it does not deliver one: its pixels are zero, and its bit is set in the frame's mask; 0
    for never [frame]."""
    delay: Annotated[Int, Field(ge=0, le=1_000_000)] = 0
    """Its data, and all that its receiver gets, come later by this [us]."""


Modules = Annotated[tuple[Module, ...], Field(max_length=MOST_MODULES)]


def layout(modules: Sequence[Module], height: int, width: int, receivers: int, *, everyone: bool = False) -> Layout:
    """The modules in their frame; stripes over the whole frame, one for each receiver, where none are given.

    `everyone`: each receiver needs a module. Raises ParamError with the JSON path of the module that cannot be there.
    """
    made = Layout(height, width, tuple(_placed(modules, receivers)) or tuple(_stripes(height, width, receivers)))
    made.check(receivers)
    without = [rank for rank in range(receivers) if everyone and not made.numbers(rank)]
    if without:
        reason = f"receivers {without} get none, and with it no part to keep: give each of {receivers} one or more"
        raise ParamError(PATH, f"{len(modules)} modules", reason)
    return made


def _placed(modules: Sequence[Module], receivers: int) -> list[Placed]:
    shared = [number for number, module in enumerate(modules) if module.receiver < 0]
    owners = {number: turn * receivers // len(shared) for turn, number in enumerate(shared)}
    return [
        Placed(m.y, m.x, m.height, m.width, m.rotation, owners.get(number, m.receiver), f"{PATH}[{number}]")
        for number, m in enumerate(modules)
    ]


def _stripes(height: int, width: int, receivers: int) -> list[Placed]:
    if height < receivers:
        raise ParamError("$.det.height", height, f"{receivers} receivers need at least a row each")
    edges = [receiver * height // receivers for receiver in range(receivers + 1)]
    return [
        Placed(top, 0, bottom - top, width, 0, receiver, PATH)
        for receiver, (top, bottom) in enumerate(zip(edges, edges[1:], strict=False))
    ]


class View(Protocol):
    """What one receiver's camera sees of the images."""

    @property
    def spec(self) -> FrameSpec:
        """Of its blocks."""

    @property
    def delay(self) -> float:
        """How much later its data comes [s]."""

    def fill(self, numbers: NDArray[np.int64], images: NDArray[np.generic]) -> None:
        """Make what it sees of the images with these numbers."""

    def dress(self, block: Block) -> Block:
        """Say what is missing in these frames."""


@dataclass(frozen=True)
class Whole:
    """All of every frame."""

    generator: Generator
    height: int
    width: int
    delay: float = 0.0

    @property
    def spec(self) -> FrameSpec:
        return FrameSpec(self.generator.nb_channels, self.height, self.width, self.generator.pixel_type.dtype)

    def fill(self, numbers: NDArray[np.int64], images: NDArray[np.generic]) -> None:
        fill(self.generator, numbers, images)

    def dress(self, block: Block) -> Block:
        return block


@dataclass(frozen=True)
class Parts:
    """The modules of one receiver, one after the other in one row, as they are read out."""

    generator: Generator
    modules: tuple[Module, ...]
    layout: Layout
    receiver: int

    @property
    def spec(self) -> FrameSpec:
        pixels = self.layout.pixels(self.receiver)
        return FrameSpec(self.generator.nb_channels, 1, pixels, self.generator.pixel_type.dtype)

    @property
    def delay(self) -> float:
        return max((module.delay for _, module in self._mine()), default=0) * 1e-6

    def fill(self, numbers: NDArray[np.int64], images: NDArray[np.generic]) -> None:
        start = 0
        for placed, made in self._images(numbers, images):
            turned = np.rot90(made, -(placed.rotation // 90), axes=(2, 3))
            images[:, :, 0, start : start + placed.pixels] = turned.reshape(*turned.shape[:2], placed.pixels)
            start += placed.pixels

    def dress(self, block: Block) -> Block:
        block.missing = self._missing(block.index)
        return block

    def _images(self, numbers: NDArray[np.int64], images: NDArray[np.generic]) -> Iterator[tuple[Placed, NDArray[Any]]]:
        """Each module of this receiver, and the images in its place."""
        for number in self.layout.numbers(self.receiver):
            placed = self.layout.modules[number]
            place = placed.place
            made = np.empty((len(numbers), images.shape[1], place.height, place.width), images.dtype)
            fill(self.generator, numbers, made, place.top, place.left)
            yield placed, made

    def _missing(self, index: NDArray[np.int64]) -> NDArray[np.uint64] | None:
        """[frame] the modules that do not deliver, as bits; None where all do."""
        bits = np.zeros(len(index), np.uint64)
        for number, module in self._mine():
            if module.missing_every:
                bits[(index + 1) % module.missing_every == 0] |= np.uint64(1 << number)
        return bits if bits.any() else None

    def _mine(self) -> list[tuple[int, Module]]:
        """Number and parameters of this receiver's modules; none where the parameters give none."""
        return [(n, self.modules[n]) for n in self.layout.numbers(self.receiver)] if self.modules else []


@dataclass(frozen=True)
class Rectangles(Parts):
    """The smallest rectangle with all modules of one receiver, as they lie in the frame; gaps are zero."""

    @property
    def spec(self) -> FrameSpec:
        part = self.layout.part(self.receiver)
        return FrameSpec(self.generator.nb_channels, part.height, part.width, self.generator.pixel_type.dtype)

    def fill(self, numbers: NDArray[np.int64], images: NDArray[np.generic]) -> None:
        images[...] = 0
        for placed, made in self._images(numbers, images):
            images[(..., *self._inside(placed))] = made

    def dress(self, block: Block) -> Block:
        missing = self._missing(block.index)
        if missing is None:
            return block
        data = block.data.copy()
        for number in self.layout.numbers(self.receiver):
            lost = missing & np.uint64(1 << number) != 0
            data[(lost, ..., *self._inside(self.layout.modules[number]))] = 0
        valid = missing != np.uint64(self.layout.bits(self.receiver))
        block.lease.release()
        return Block(data, block.index, block.local, block.time, Lease(), None if valid.all() else valid, missing)

    def _inside(self, placed: Placed) -> tuple[slice, slice]:
        place, part = placed.place, self.layout.part(self.receiver)
        top, left = place.top - part.top, place.left - part.left
        return slice(top, top + place.height), slice(left, left + place.width)
