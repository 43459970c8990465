"""Where the modules of a detector lie in its frame, and which receiver gets which of them. Pure geometry."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .errors import ParamError
from .frame import FrameSpec

MOST_MODULES = 64
"""A mask of missing modules has one bit for each."""
PLACE = ("source", "rows", "columns", "base", "row_step", "column_step")
"""Columns of `Layout.places`: a module's first pixel in its part, its size as read out, its first pixel in the frame
(or in the part's rectangle), and how far apart in it the pixels below each other and beside each other are."""


@dataclass(frozen=True, slots=True)
class Rectangle:
    """Part of a frame [pixel]."""

    top: int
    left: int
    height: int
    width: int

    def overlaps(self, other: "Rectangle") -> bool:
        beside = self.left + self.width <= other.left or other.left + other.width <= self.left
        above = self.top + self.height <= other.top or other.top + other.height <= self.top
        return not (beside or above)


@dataclass(frozen=True, slots=True)
class Module:
    """One module: its place in the frame, and its pixels as they are read out."""

    top: int
    left: int
    height: int
    """Rows as read out [pixel]."""
    width: int
    """Columns as read out [pixel]."""
    rotation: int
    """Anticlockwise turn from how it is read out to how it lies in the frame: 0, 90, 180 or 270 [degree]."""
    receiver: int
    path: str
    """Where the parameters say this, for errors."""

    @property
    def pixels(self) -> int:
        return self.height * self.width

    @property
    def place(self) -> Rectangle:
        """What it covers of the frame."""
        turned = self.rotation % 180 != 0
        height, width = (self.width, self.height) if turned else (self.height, self.width)
        return Rectangle(self.top, self.left, height, width)

    def steps(self, pitch: int) -> tuple[int, int, int]:
        """Position of its first pixel from its top left corner, and the steps along its columns and rows.

        In pixels of a frame whose rows are `pitch` pixels apart; as `numpy.rot90` turns.
        """
        below, beside = self.height - 1, self.width - 1
        return {
            0: (0, pitch, 1),
            90: (beside * pitch, 1, -pitch),
            180: (below * pitch + beside, -pitch, -1),
            270: (below, -1, pitch),
        }[self.rotation]


@dataclass(frozen=True, slots=True)
class Layout:
    """All modules of a frame."""

    height: int
    """Rows of the frame [pixel]."""
    width: int
    """Columns of the frame [pixel]."""
    modules: tuple[Module, ...]

    def check(self, receivers: int) -> None:
        """Raise ParamError, with the JSON path of the module, for what cannot be."""
        if len(self.modules) > MOST_MODULES:
            path = self.modules[MOST_MODULES].path
            raise ParamError(path, len(self.modules), f"a frame has at most {MOST_MODULES} modules")
        for number, module in enumerate(self.modules):
            self._check_inside(module)
            if not 0 <= module.receiver < receivers:
                reason = f"there are {receivers} receivers: give 0 to {receivers - 1}, or -1 to share modules out"
                raise ParamError(f"{module.path}.receiver", module.receiver, reason)
            for other in self.modules[:number]:
                if module.place.overlaps(other.place):
                    reason = f"this module overlaps {other.path}: no pixel belongs to two modules"
                    raise ParamError(module.path, [module.left, module.top], reason)

    def _check_inside(self, module: Module) -> None:
        place = module.place
        if place.left + place.width > self.width or place.top + place.height > self.height:
            reason = (
                f"it covers columns {place.left} to {place.left + place.width - 1} and rows {place.top} to "
                f"{place.top + place.height - 1}, which leaves the frame of {self.width} x {self.height} pixels"
            )
            raise ParamError(module.path, [module.left, module.top], reason)

    def numbers(self, receiver: int) -> list[int]:
        """The modules that this receiver gets, in their order."""
        return [number for number, module in enumerate(self.modules) if module.receiver == receiver]

    def pixels(self, receiver: int) -> int:
        """Pixels of all modules of this receiver."""
        return sum(self.modules[number].pixels for number in self.numbers(receiver))

    def bits(self, receiver: int) -> int:
        """The modules of this receiver in a mask of missing ones: bit m is module m."""
        return sum(1 << number for number in self.numbers(receiver))

    @property
    def covered(self) -> frozenset[Rectangle]:
        """What modules fill of the frame: all of it, as one, where they leave no gaps between them."""
        places = frozenset(module.place for module in self.modules)
        full = Rectangle(0, 0, self.height, self.width)
        return (
            frozenset({full}) if sum(module.pixels for module in self.modules) == full.height * full.width else places
        )

    def part(self, receiver: int) -> Rectangle:
        """The smallest rectangle that holds all modules of this receiver; empty where it has none."""
        places = [self.modules[number].place for number in self.numbers(receiver)]
        if not places:
            return Rectangle(0, 0, 0, 0)
        top, left = min(place.top for place in places), min(place.left for place in places)
        bottom = max(place.top + place.height for place in places)
        right = max(place.left + place.width for place in places)
        return Rectangle(top, left, bottom - top, right - left)

    def places(self, receiver: int, within: Rectangle | None = None) -> NDArray[np.int64]:
        """[module of this receiver, column of `PLACE`]: from its modules one after the other to the frame.

        `within` is the part of the frame to fill; all of it, where it is not given.
        """
        target = within or Rectangle(0, 0, self.height, self.width)
        return np.array(list(self._rows(receiver, target)), np.int64).reshape(-1, len(PLACE))

    def _rows(self, receiver: int, target: Rectangle) -> Iterator[tuple[int, ...]]:
        source = 0
        for number in self.numbers(receiver):
            module = self.modules[number]
            offset, row_step, column_step = module.steps(target.width)
            corner = (module.top - target.top) * target.width + module.left - target.left
            yield source, module.height, module.width, corner + offset, row_step, column_step
            source += module.pixels


def whole(spec: FrameSpec) -> Layout:
    """The frame as one module."""
    return Layout(spec.height, spec.width, (Module(0, 0, spec.height, spec.width, 0, 0, "$.det"),))
