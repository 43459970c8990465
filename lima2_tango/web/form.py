"""A form out of the JSON schemas that the devices publish: what everybody sets first, the rest folded."""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from lima2_tango.core.errors import ParamError
from lima2_tango.core.leaves import label_of

Json = Mapping[str, Any]

COMMON = {
    "acq.nb_frames": "Frames",
    "acq.expo_time": "Exposure",
    "acq.latency_time": "Latency",
    "acq.trigger_mode": "Trigger",
    "acq.nb_frames_per_trigger": "Frames per trigger",
    "saving.enabled": "Save",
    "saving.base_path": "Folder",
    "saving.filename_prefix": "File prefix",
    "saving.file_exists_policy": "If files exist",
    "saving_dense.enabled": "Save",
    "saving_dense.base_path": "Folder",
    "saving_dense.filename_prefix": "File prefix",
}
"""What everybody sets, by path, and how it is called."""
FILLED_IN = ("filename_rank", "class_name")
"""What is set by others: the control, and the choice of the pipeline."""
MICROSECONDS = "[us]"
LARGEST = 1e300
"""Beyond it a number is a slip of the finger."""
UNIT = re.compile(r"\s*\[([^]]+)\]")
KINDS = {"integer": "integer", "number": "number", "boolean": "switch", "string": "text", "array": "json"}
LIMITS = {"least": "minimum", "more_than": "exclusiveMinimum", "most": "maximum", "less_than": "exclusiveMaximum"}


@dataclass(frozen=True, slots=True)
class Field:
    """One parameter as a person fills it in."""

    path: str
    """`acq.nb_frames`"""
    label: str
    kind: str
    """integer, number, switch, text, choice or json"""
    value: Any
    unit: str = ""
    help: str = ""
    group: str = ""
    """The block that it is in, for those that are folded."""
    choices: list[str] = field(default_factory=list)
    limits: dict[str, float] = field(default_factory=dict)
    common: bool = False
    seconds: bool = False
    """Microseconds in the parameters, seconds for people."""


def fields(acq_schema: Json, acq: Json, proc_schema: Json, proc: Json) -> list[Field]:
    """All of both parameter sets, the common ones first and in their own order."""
    found = [*_fields(acq_schema, acq, ()), *_fields(proc_schema, proc, ())]
    order = list(COMMON)
    common = sorted((each for each in found if each.common), key=lambda each: order.index(each.path))
    return [*common, *(each for each in found if not each.common)]


def as_json(found: list[Field]) -> list[dict[str, Any]]:
    return [asdict(each) for each in found]


def changes(found: list[Field], given: Mapping[str, Any]) -> dict[str, Any]:
    """What a person filled in, by path, as the parameters have it; raises ParamError for what is no such value."""
    known = {each.path: each for each in found}
    result = {}
    for path, value in given.items():
        if path not in known:
            raise ParamError(f"$.{path}", value, "the form has no such field: reload the page")
        result[path] = _parsed(known[path], value)
    return result


def _parsed(one: Field, value: Any) -> Any:
    address = f"$.{one.path}"
    match one.kind:
        case "switch" if isinstance(value, bool):
            return value
        case "choice" | "text" if isinstance(value, str):
            return value
        case "json" if isinstance(value, list | dict):
            return value
        case "integer" | "number" if isinstance(value, int | float) and not isinstance(value, bool):
            if not abs(value) <= LARGEST:
                raise ParamError(address, str(value), "give a number")
            return _number(one, value)
    wanted = {"switch": "true or false", "integer": "a whole number", "number": "a number", "json": "a JSON list"}
    raise ParamError(address, value, f"give {wanted.get(one.kind, 'a text')}")


def _number(one: Field, value: float) -> float:
    least, most = one.limits.get("least", -math.inf), one.limits.get("most", math.inf)
    if not least <= value <= most:
        bound = f"least {least:g}" if value < least else f"most {most:g}"
        raise ParamError(f"$.{one.path}", value, f"give at {bound} {one.unit}".rstrip())
    if one.seconds:
        return round(value * 1e6)
    if one.kind == "integer" and float(value).is_integer():
        return int(value)
    return value  # a part of a whole number is refused by the device, with its path


def _fields(schema: Json, values: Json, path: tuple[str, ...]) -> Iterator[Field]:
    for name, node in (schema.get("properties") or {}).items():
        if name in FILLED_IN or name not in values:
            continue
        here = (*path, name)
        if "properties" in node:
            yield from _fields(node, values[name], here)
        elif len(node.get("enum", (0, 0))) > 1:  # one that can have only one value is no choice
            yield _field(node, values[name], here)


def _field(node: Json, value: Any, path: tuple[str, ...]) -> Field:
    address, text = ".".join(path), str(node.get("description", ""))
    seconds = MICROSECONDS in text and node.get("type") == "integer"
    unit = UNIT.search(text)
    scale = 1e6 if seconds else 1
    return Field(
        path=address,
        label=COMMON.get(address) or label_of(path[-1]),
        kind="choice" if "enum" in node else "number" if seconds else KINDS.get(str(node.get("type")), "json"),
        value=value / scale if seconds else value,
        unit="s" if seconds else unit[1] if unit else "",
        help=UNIT.sub("", text),
        group=".".join(path[:-1]) or "other",
        choices=[str(each) for each in node.get("enum", ())],
        limits={name: node[key] / scale for name, key in LIMITS.items() if key in node},
        common=address in COMMON,
        seconds=seconds,
    )
