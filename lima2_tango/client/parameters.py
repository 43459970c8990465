"""From what a person asks for to the JSON parameters of the control; pure, so that nothing half right is sent."""

import copy
import difflib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

from lima2_tango.core.acquisition import TriggerMode
from lima2_tango.core.errors import ParamError
from lima2_tango.core.roi import Arc, Direction, Rectangle
from lima2_tango.core.storage import SavingParams

Json = dict[str, Any]

PREFIX = "LimaProcessing"
"""What the Tango class of every pipeline begins with."""
DEFAULT_PIPELINE = "LimaProcessingLegacy"
STEP = re.compile(r"\.?([^.\[\]]+)|\[(\d+)\]")

Saving = SavingParams | Mapping[str, object] | str | Path
"""Parameters of the saving, some of them by name, or the folder alone."""
Corners = tuple[int, int, int, int]
"""x, y, width, height [pixel]"""
Region = Rectangle | Arc | Corners


class Settings(TypedDict, total=False):
    """What can be asked for by name; what is left out stays as the control has it."""

    nb_frames: int
    """Frames in the series; 0 runs until stopped."""
    expo_time: float
    """Exposure time of one frame [s], rounded to whole microseconds."""
    latency_time: float
    """Dead time between two exposures [s], rounded to whole microseconds."""
    trigger_mode: TriggerMode | str
    nb_frames_per_trigger: int
    pipeline: str
    """Tango class of the processing, with or without LimaProcessing."""
    saving: Saving | None
    """Where and how to save; None saves nothing."""
    rois: Sequence[Region]
    """Regions whose statistics are computed; their rows come with rectangles first, then arcs."""
    profiles: Sequence[tuple[Rectangle | Corners, Direction | str]]
    """Rectangles whose profiles are computed: horizontal gives a value for each column, vertical for each row."""
    changes: Mapping[str, object]
    """Any other parameter by its path, such as `{"det.width": 256}`; applied last."""


def edited(acq: Json, proc: Json, settings: Settings) -> tuple[Json, Json]:
    """Copies of both parameter sets with the settings in them, but for `pipeline`; raises ParamError."""
    changes: dict[str, object] = {}
    for name in ("nb_frames", "trigger_mode", "nb_frames_per_trigger"):
        if name in settings:
            changes[f"acq.{name}"] = settings[name]
    for name in ("expo_time", "latency_time"):
        if name in settings:
            changes[f"acq.{name}"] = _microseconds(f"$.acq.{name}", settings[name])  # type: ignore[literal-required]
    if "saving" in settings:
        changes |= _saving(settings["saving"], proc)
    if "rois" in settings:
        changes |= _regions(settings["rois"], proc)
    if "profiles" in settings:
        changes |= _profiles(settings["profiles"], proc)
    return changed(acq, proc, {**changes, **settings.get("changes", {})})


def changed(acq: Json, proc: Json, changes: Mapping[str, object]) -> tuple[Json, Json]:
    """Copies of both sets with each `a.b[2].c` of `changes` set; raises ParamError for a path that neither has."""
    acq, proc = copy.deepcopy(acq), copy.deepcopy(proc)
    known = [*_paths(acq, ""), *_paths(proc, "")]
    for path, value in changes.items():
        steps = _steps(path)
        try:
            node: Any = acq if steps[0] in acq else proc
            for step in steps[:-1]:
                node = node[step]
            node[steps[-1]]  # it must be there: a new key is a typing error
            node[steps[-1]] = copy.deepcopy(value)
        except (KeyError, IndexError, TypeError) as error:
            raise ParamError(f"$.{path.removeprefix('$.')}", value, _remedy(path, known)) from error
    return acq, proc


def pipeline_class(name: str) -> str:
    """`Legacy` and `LimaProcessingLegacy` are the same."""
    return name if name.startswith(PREFIX) else PREFIX + name[:1].upper() + name[1:]


def _steps(path: str) -> list[str | int]:
    plain = path.removeprefix("$.")
    found = list(STEP.finditer(plain))
    if not plain or "".join(match[0] for match in found) != plain or plain.startswith((".", "[")):
        raise ParamError(path, None, "this is no path of a parameter: give one such as acq.nb_frames")
    return [match[1] if match[2] is None else int(match[2]) for match in found]


def _paths(node: Any, path: str) -> Iterator[str]:
    if isinstance(node, dict):
        for key, child in node.items():
            yield from _paths(child, f"{path}.{key}" if path else key)
    if path:
        yield path


def _remedy(path: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(path.removeprefix("$."), known, n=3)
    return "there is no such parameter" + (f"; did you mean {' or '.join(near)}?" if near else "; correct its name")


def _microseconds(path: str, seconds: float) -> int:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not math.isfinite(seconds):
        raise ParamError(path, str(seconds), "give a time in seconds, as a number")
    return round(seconds * 1e6)


def _saving(saving: Saving | None, proc: Json) -> dict[str, object]:
    if saving is None:
        return {f"{name}.enabled": False for name in proc if name.startswith("saving")}
    _require(proc, "saving", "saving")
    match saving:
        case str() | Path():
            wanted: Mapping[str, object] = {"base_path": str(saving)}
        case SavingParams():
            wanted = saving.model_dump(mode="json")
        case Mapping():
            wanted = {key: str(value) if isinstance(value, Path) else value for key, value in saving.items()}
        case _:
            raise ParamError("$.saving", str(saving), "give a folder, or parameters of the saving")
    return {f"saving.{key}": value for key, value in {"enabled": True, **wanted}.items()}


def _regions(regions: Sequence[Region], proc: Json) -> dict[str, object]:
    if not regions and "statistics" not in proc:
        return {}
    _require(proc, "statistics", "regions of interest")
    rectangles = [_rectangle(region) for region in regions if not isinstance(region, Arc)]
    arcs = [region.model_dump(mode="json") for region in regions if isinstance(region, Arc)]
    enabled = {"statistics.enabled": True} if regions else {}
    return {**enabled, "statistics.rect_rois": rectangles, "statistics.arc_rois": arcs}


def _profiles(profiles: Sequence[tuple[Rectangle | Corners, Direction | str]], proc: Json) -> dict[str, object]:
    if not profiles and "profiles" not in proc:
        return {}
    _require(proc, "profiles", "profiles")
    enabled = {"profiles.enabled": True} if profiles else {}
    rois = [_rectangle(region) for region, _ in profiles]
    return {**enabled, "profiles.rois": rois, "profiles.directions": [str(direction) for _, direction in profiles]}


def _rectangle(region: Rectangle | Corners) -> Json:
    if isinstance(region, Rectangle):
        plain: Json = region.model_dump(mode="json")
        return plain
    try:
        x, y, width, height = region
    except (TypeError, ValueError) as error:
        raise ParamError("$.statistics.rect_rois", region, "give x, y, width and height of a rectangle") from error
    return {"topleft": {"x": x, "y": y}, "dimensions": {"x": width, "y": height}}


def _require(proc: Json, block: str, what: str) -> None:
    if block not in proc:
        name = proc.get("class_name", "")
        raise ParamError("$.class_name", name, f"this pipeline has no {block!r}, so no {what}: choose another pipeline")
