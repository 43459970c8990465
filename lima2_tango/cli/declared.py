"""`lima2 cameras`, `pipelines`, `params` and `schema`: what there is, and what can be set."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from lima2_tango.control.parameters import pipelines
from lima2_tango.core.errors import ParamError
from lima2_tango.core.params import Params
from lima2_tango.core.plugins import available, load
from lima2_tango.processing.plugin import PipelinePlugin

from .output import AsJson, add, print_json, print_rows, print_table, table

CAMERAS = "Example: lima2 cameras --json"
PIPELINES = """Example: lima2 pipelines

Example: lima2 pipelines Legacy --frames 512x1024:uint16

Example: lima2 pipelines Legacy --mermaid
"""
PARAMS = """Example: lima2 params Simulator --table

Example: lima2 params Simulator Legacy > prepare.json
"""
SCHEMA = "Example: lima2 schema Legacy"
AsTable = Annotated[bool, typer.Option("--table", help="Print a table for people: path, default, what it is.")]
Also = Annotated[bool, typer.Option("--json", help="Print JSON for programs, as without an option.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(epilog=CAMERAS)(cameras)
    app.command(name="pipelines", epilog=PIPELINES)(list_pipelines)
    app.command(epilog=PARAMS)(params)
    app.command(epilog=SCHEMA)(schema)


def cameras(as_json: AsJson = False) -> None:
    """List the cameras: what a configuration can name, and their Tango classes."""
    rows = []
    for file in available("cameras"):
        name = load("cameras", file).name
        rows.append({"name": name, "control": f"Lima{name}Control", "receiver": f"Lima{name}Receiver"})
    print_rows(rows, as_json)


def list_pipelines(
    name: Annotated[str | None, typer.Argument(help="Draw the graph of this pipeline; list all without it.")] = None,
    as_json: AsJson = False,
    mermaid: Annotated[bool, typer.Option("--mermaid", help="Draw a flow chart for a Markdown page.")] = False,
    frames: Annotated[
        str, typer.Option(metavar="HxW:TYPE", help="As it is for frames of so many rows and columns, with this type.")
    ] = "",
    params: Annotated[
        Path | None, typer.Option(help="For --frames: parameters, as `lima2 params` prints them; else the defaults.")
    ] = None,
) -> None:
    """List the processing pipelines, or draw the graph of one: which node reads which, with what parameters.

    With --frames and --params it is checked as at Prepare, and each node shows what leaves it.
    """
    if name is None:
        print_rows([{"class_name": key, "what": plugin.doc} for key, plugin in pipelines().items()], as_json)
        return
    from .drawing import drawing  # what it needs takes half a second

    drawn = drawing(_pipeline(name), frames, params)
    if as_json:
        print_json(drawn.document())
    else:
        typer.echo(drawn.mermaid() if mermaid else drawn.tree())


def params(
    camera: Annotated[str, typer.Argument(help="A camera, as `lima2 cameras` lists it.")],
    pipeline: Annotated[str | None, typer.Argument(help="A pipeline, with or without LimaProcessing.")] = None,
    as_table: AsTable = False,
    as_json: Also = False,
) -> None:
    """Print the default parameters as JSON, in the shape that the conductor's prepare takes.

    With --table as people read them: the path, as `lima2 run --set` takes it, its default, and what it is.
    """
    if as_table and as_json:
        raise ParamError("--table", True, "it prints for people where --json prints for programs: choose one")
    declared = _camera_params(camera)
    plugin = None if pipeline is None else _pipeline(pipeline)
    if as_table:
        _print_parameters([declared] if plugin is None else [declared, plugin.params])
        return
    acquisition = _as_json(declared)
    body = {"control": acquisition, "receiver": acquisition}
    if plugin is not None:
        body["processing"] = {"class_name": plugin.class_name, **_as_json(plugin.params)}
    print_json(body)


def schema(name: Annotated[str, typer.Argument(help="A camera or a pipeline.")], as_json: Also = False) -> None:
    """Print the JSON schema of a camera's acquisition parameters or of a pipeline's processing parameters."""
    is_camera = name.lower() in available("cameras")
    declared = _camera_params(name) if is_camera else _pipeline(name).params
    print_json(json.loads(declared.schema_text()))


def _print_parameters(declared: list[type[Params]]) -> None:
    made = table("parameter", "default", "what it is")
    for one in declared:
        for path, default, what in _leaves(json.loads(one.schema_text()), ""):
            add(made, path, json.dumps(default), what)
    print_table(made)


def _leaves(node: dict[str, Any], path: str) -> Iterator[tuple[str, Any, str]]:
    """Path, default and description of each value below a schema of an object."""
    for name, child in node.get("properties", {}).items():
        place = f"{path}.{name}" if path else name
        if child.get("properties"):
            yield from _leaves(child, place)
        else:
            yield place, child.get("default"), " ".join(child.get("description", "").split())


def _camera_params(name: str) -> type[Params]:
    if name.lower() not in (have := available("cameras")):
        raise ParamError("camera", name, f"there is no such camera; have: {', '.join(have)}")
    declared: type[Params] = load("cameras", name.lower()).params
    return declared


def _pipeline(name: str) -> PipelinePlugin:
    """A pipeline by its Tango class or by the end of it, in any case."""
    for class_name, pipeline in (known := pipelines()).items():
        if name.lower() in {class_name.lower(), class_name.lower().removeprefix("limaprocessing")}:
            return pipeline
    have = ", ".join([*available("cameras"), *known])
    raise ParamError("name", name, f"there is no such camera or pipeline; have: {have}")


def _as_json(declared: type[Params]) -> dict[str, Any]:
    values: dict[str, Any] = declared().model_dump(mode="json")
    return values
