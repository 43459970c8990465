"""Writes the reference pages that the code already knows: parameters, errors, states, Tango interface.

    python docs/generate.py

A test compares each page with what comes out here, so that a page that has gone stale fails the build.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tango

from lima2_tango.cameras.base import Plugin
from lima2_tango.control.parameters import pipelines
from lima2_tango.core import errors
from lima2_tango.core.acquisition import AcquisitionParams
from lima2_tango.core.params import Params
from lima2_tango.core.plugins import available, load
from lima2_tango.core.state import STATUS, TANGO_STATE, Event, State, allowed, diagram
from lima2_tango.core.storage import SavingParams
from lima2_tango.devices.factory import camera_classes, processing_classes
from lima2_tango.processing.drawing import Drawing

FOLDER = Path(__file__).parent
NOTE = "<!-- Made by docs/generate.py from the code: change the code, then run it again. -->"
BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"
"""Around the table of docs/how-to/save-data.md."""
BOUNDS = {
    "minimum": ">= {}",
    "exclusiveMinimum": "> {}",
    "maximum": "<= {}",
    "exclusiveMaximum": "< {}",
    "minLength": "at least {} characters",
    "pattern": "matches `{}`",
}

Json = dict[str, Any]


@dataclass(slots=True)
class Interface:
    """What a Tango class offers."""

    attributes: list[str] = field(default_factory=list)
    """Rows of a table."""
    commands: list[str] = field(default_factory=list)
    properties: list[str] = field(default_factory=list)


def parameters() -> str:
    """Every parameter of every set, from the schemas that clients read."""
    cameras: dict[str, Plugin] = {name: load("cameras", name) for name in available("cameras")}
    parts = [
        f"# Parameters\n\n{NOTE}\n\nPaths begin at the root of `acq_params` or `proc_params`, as they do in refusals. "
        "A number such as `2.0` is taken as 2 where a whole number is due; a key that is not listed is refused. "
        "Files and folders must lie below the device property `data_roots`, where that is set.",
        "## Acquisition, common to all cameras",
        _table(_schema(AcquisitionParams), skip="det"),
    ]
    for plugin in cameras.values():
        parts += [f"## Camera {plugin.name}: `det`", _table(_schema(plugin.params)["properties"]["det"], "$.det")]
    for name, pipeline in pipelines().items():
        parts += [f"## Pipeline `{name}`", pipeline.doc, _table(_schema(pipeline.params))]
    return "\n\n".join(parts) + "\n"


def graphs() -> str:
    """The graph of every pipeline that declares one."""
    parts = [
        f"# Pipelines\n\n{NOTE}\n\n`lima2 pipelines NAME` prints these graphs, and with `--frames 512x1024:uint16 "
        "--params FILE` what leaves each node. A node whose parameters ask for nothing passes on what it reads. What "
        "is stored (round) is written, then readable, then counted; then come its rows. See "
        "[how to write one](../how-to/write-a-pipeline.md)."
    ]
    for name, pipeline in pipelines().items():
        if pipeline.graph is not None:
            drawing = Drawing.declared(pipeline)
            rows = [
                [f"`{node['name']}`", node["does"], f"`{node['reads']}`", _listed(node["params"]), node["makes"]]
                for node in drawing.document()["nodes"]
            ]
            table = _markdown(["Node", "Does", "Reads", "Parameters", "Makes"], rows)
            parts += [f"## `{name}`", pipeline.doc, f"```mermaid\n{drawing.mermaid()}\n```", table]
    return "\n\n".join(parts) + "\n"


def saving_table() -> str:
    """The table of the saving parameters."""
    return _table(_schema(SavingParams), "$.saving")


def save_data() -> str:
    """The how-to page with its table as the schema has it now."""
    page = (FOLDER / "how-to" / "save-data.md").read_text(encoding="utf-8")
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{saving_table()}\n{END}{after}"


def error_tree() -> str:
    """The errors and what each asks of its reader."""
    tree = (errors.__doc__ or "").strip()
    return f"""# Errors

{NOTE}

Whatever we refuse or fail at on purpose is one of these. The arrow says what helps.

```text
{tree}
```

A refusal names the parameter by its JSON path, shows the value and says what to give instead:

```text
{errors.ParamError("$.acq.nb_frames", -1, "give a number of at least 0").what}
```

## On the wire

In a Tango error the reason is `LIMA_Exception` and the description is JSON, `{{"what": sentence, "errinfo": facts}}`.
The attribute `last_error` of receivers and processing devices holds the same JSON, or `No error`.
"""


def state_machine() -> str:
    """The diagram, and what each state shows and accepts."""
    rows = [
        [state.name, int(state), TANGO_STATE[state], _listed(sorted(allowed(state))), STATUS[state]] for state in State
    ]
    table = _markdown(["acq_state", "Code", "Tango State", "Accepts", "Status says"], rows)
    return f"""# State machine

{NOTE}

Control and receivers have the same states. One table in `lima2_tango/core/state.py` decides; commands that the table
does not accept are refused with the list of those that it does. Events: {_listed(sorted(Event))}. `done` and `fail`
come from the run itself, the others from clients. Nothing leads to STOPPED or TERMINATE: clients know them, we skip
them.

```mermaid
{diagram()}
```

{table}

`Stop` is no event of its own: it asks the ranks to agree on a last frame, and `done` follows.
"""


def wire() -> str:
    """Attributes, commands and properties of every Tango class."""
    cameras, processing = camera_classes(), processing_classes()
    parts = [f"# Tango interface\n\n{NOTE}"]
    parts += _family("Control", {n: c for n, c in cameras.items() if n.endswith("Control")})
    parts += _family("Receiver", {n: c for n, c in cameras.items() if n.endswith("Receiver")})
    parts += _family("Processing", processing)
    return "\n\n".join(parts) + "\n"


def _family(role: str, classes: Json) -> list[str]:
    """What all classes of a role have, then what each adds."""
    found = {name: _interface(made) for name, made in classes.items()}
    shared = _common(list(found.values()))
    parts = [f"## {role}: {_listed(found)}", *_sections(shared, "###")]
    for name, interface in found.items():
        own = Interface(*(_without(getattr(interface, key), getattr(shared, key)) for key in Interface.__slots__))
        if sections := _sections(own, "####"):
            parts += [f"### `{name}` also has", *sections]
    return parts


def _common(interfaces: list[Interface]) -> Interface:
    first, *others = interfaces
    return Interface(
        *(
            [row for row in getattr(first, key) if all(row in getattr(other, key) for other in others)]
            for key in Interface.__slots__
        )
    )


def _without(rows: list[str], known: list[str]) -> list[str]:
    return [row for row in rows if row not in known]


def _sections(interface: Interface, level: str) -> list[str]:
    heads = {
        "attributes": ("Attributes", ["Attribute", "Type", "Access", "What"]),
        "commands": ("Commands", ["Command", "Takes", "Gives", "What"]),
        "properties": ("Device properties", ["Property", "Type", "Default", "What"]),
    }
    parts = []
    for key, (title, columns) in heads.items():
        if rows := getattr(interface, key):
            parts += [f"{level} {title}", _head(columns) + "\n".join(rows)]
    return parts


def _interface(made: Any) -> Interface:
    listed = made.TangoClassClass
    return Interface(
        [_attribute_row(name, spec) for name, spec in sorted(listed.attr_list.items())],
        [_command_row(name, spec, getattr(made, name)) for name, spec in sorted(listed.cmd_list.items())],
        [_row([f"`{n}`", _type(s[0]), f"`{s[2]!r}`", s[1]]) for n, s in sorted(listed.device_property_list.items())],
    )


def _attribute_row(name: str, spec: Any) -> str:
    access = {tango.AttrWriteType.READ: "read"}.get(spec.attr_write, "read, write")
    shape = "" if spec.attr_format == tango.AttrDataFormat.SCALAR else f" [{spec.dim_x}]"
    return _row([f"`{name}`", _type(spec.attr_type) + shape, access, spec.__doc__])


def _command_row(name: str, spec: Any, body: Any) -> str:
    (taken, _), (given, _) = spec[0], spec[1]
    return _row([f"`{name}`", _type(taken), _type(given), (body.__doc__ or "").split("\n\n")[0]])


def _type(kind: Any) -> str:
    name = str(kind).rsplit(".", maxsplit=1)[-1]
    return "" if name == "DevVoid" else name


def _schema(params: type[Params]) -> Json:
    schema: Json = json.loads(params.schema_text())
    return schema


def _table(schema: Json, path: str = "$", skip: str = "") -> str:
    rows = [
        [f"`{name}`", _kind(leaf), _default(leaf), " ".join([leaf.get("description", ""), _bounds(leaf)]).strip()]
        for name, leaf in _leaves(schema, path, skip)
    ]
    return _markdown(["Parameter", "Type", "Default", "What"], rows)


def _leaves(node: Json, path: str, skip: str) -> Iterator[tuple[str, Json]]:
    """JSON path and schema of every value; `[]` stands for each item of a list."""
    if "properties" in node:
        for name, child in node["properties"].items():
            if name != skip:
                yield from _leaves(child, f"{path}.{name}", "")
        return
    yield path, node
    if "properties" in node.get("items", {}):
        yield from _leaves(node["items"], f"{path}[]", "")


def _kind(leaf: Json) -> str:
    if "enum" in leaf:
        return ", ".join(f"`{choice}`" for choice in leaf["enum"])
    if leaf.get("type") == "array":
        items = leaf.get("items", {})
        return f"list of {'objects' if 'properties' in items else _kind(items)}"
    return str(leaf.get("type", ""))


def _default(leaf: Json) -> str:
    return f"`{json.dumps(leaf['default'])}`" if "default" in leaf else ""


def _bounds(leaf: Json) -> str:
    found = [text.format(leaf[key]) for key, text in BOUNDS.items() if key in leaf]
    return f"({', '.join(found)})" if found else ""


def _markdown(columns: list[str], rows: list[list[Any]]) -> str:
    return _head(columns) + "\n".join(_row(row) for row in rows)


def _head(columns: list[str]) -> str:
    return f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}\n"


def _row(cells: list[Any]) -> str:
    texts = [re.sub(r"\s+", " ", str(cell)).replace("|", "\\|") for cell in cells]
    return f"| {' | '.join(texts)} |"


def _listed(names: Any) -> str:
    return ", ".join(f"`{name}`" for name in names) or "nothing"


PAGES: dict[str, Callable[[], str]] = {
    "reference/parameters.md": parameters,
    "reference/pipelines.md": graphs,
    "reference/errors.md": error_tree,
    "reference/state-machine.md": state_machine,
    "reference/wire.md": wire,
    "how-to/save-data.md": save_data,
}
"""Page -> what it must be."""


def main() -> None:
    for name, make in PAGES.items():
        text = make()
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
