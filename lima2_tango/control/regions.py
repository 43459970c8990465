"""Regions of interest as a person writes them, and where a pipeline keeps them."""

import json
from typing import Any

from lima2_tango.core.errors import ParamError
from lima2_tango.core.params import Params
from lima2_tango.core.roi import Coordinate, Direction, Pixel, Radius, Size

from .parameters import Parameterised

SYNTAX = (
    'JSON {"rectangles": [[x, y, width, height], ...], "arcs": [[x, y, r1, r2, a1, a2], ...], '
    '"profiles": [[x, y, width, height, "vertical" or "horizontal"], ...]} in pixels and degrees; '
    "what is left out has no regions, [] is none at all"
)
"""What `set_regions` takes."""


class Regions(Params):
    """All regions of a run, replacing those before."""

    rectangles: list[tuple[Pixel, Pixel, Size, Size]] = []
    """[first column, first row, columns, rows] [pixel]; statistics of each."""
    arcs: list[tuple[Coordinate, Coordinate, Radius, Radius, float, float]] = []
    """[column and row of the centre, inner and outer radius [pixel], first and last angle [degree]]; statistics."""
    profiles: list[tuple[Pixel, Pixel, Size, Size, Direction]] = []
    """[first column, first row, columns, rows, direction] [pixel]; statistics of each line."""

    def blocks(self) -> dict[str, dict[str, Any]]:
        """Keys and values of the blocks of processing parameters that hold regions."""
        arcs = ("r1", "r2", "a1", "a2")
        return {
            "statistics": {
                "rect_rois": [_rectangle(*sides) for sides in self.rectangles],
                "arc_rois": [
                    {"center": {"x": x, "y": y}, **dict(zip(arcs, rest, strict=True))} for x, y, *rest in self.arcs
                ],
            },
            "profiles": {
                "rois": [_rectangle(*sides) for *sides, _ in self.profiles],
                "directions": [direction for *_, direction in self.profiles],
            },
        }


def set_regions(source: Parameterised, text: str) -> None:
    """Replace the regions of the chosen pipeline; what has regions is enabled. Raises ParamError."""
    regions = Regions.parse("{}" if "".join(text.split()) == "[]" else text)
    with source.editing:
        chosen = source.chosen()
        data = json.loads(chosen.params.json_text())
        for name, lists in regions.blocks().items():
            if name in data:
                data[name] |= {key: found for key, found in lists.items() if found or key in data[name]}
                data[name]["enabled"] |= any(lists.values())
            elif any(lists.values()):
                reason = f"the pipeline {chosen.plugin.class_name} computes no {name} of regions: choose another"
                raise ParamError("SetRoi", json.loads(text), reason)
        source.set_proc_params(json.dumps(data))


def _rectangle(x: int, y: int, width: int, height: int) -> dict[str, dict[str, int]]:
    return {"topleft": {"x": x, "y": y}, "dimensions": {"x": width, "y": height}}
