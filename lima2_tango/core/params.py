"""One declaration of a parameter gives its validation, its JSON schema, its help and its reference page."""

import ast
import inspect
import json
from functools import cache
from importlib import import_module
from itertools import pairwise
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, ValidationError

from .errors import ParamError

Int = int
"""A whole number; in every parameter set `2.0` is taken as 2, `2.5` is refused."""
EXACT_FLOATS = 2**53
"""Floats below this hold every whole number."""


def _whole(value: Any) -> Any:
    """`2.0` is 2, as clients that know only floats send it; a float field takes the 2 as 2.0."""
    if isinstance(value, dict):
        return {key: _whole(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_whole(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < EXACT_FLOATS else value


class Params(BaseModel):
    """Base of every parameter set: immutable, strictly typed, and unknown keys are errors.

    Every field has a default (Lima2's clients build their forms from the schema) and a docstring with its unit,
    without double quotes (a Tango database on MariaDB loses escaped ones).
    """

    # What start-up need not wait for is built at first use; pydantic itself would read docstrings at once.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, defer_build=True)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parameters from JSON text; raises ParamError with the JSON path of the first fault."""
        try:
            return cls.model_validate_json(json.dumps(_whole(json.loads(text))))
        except ValidationError as error:
            raise _first_fault(error) from error
        except json.JSONDecodeError as error:
            raise ParamError("$", text, f"this is not JSON: {error}") from error
        except (RecursionError, ValueError) as error:  # nested too deep, or a number of thousands of digits
            raise ParamError(
                "$", text, "this is more than any parameter set holds: send the parameters alone"
            ) from error

    def json_text(self) -> str:
        """All parameters, defaults included; plain ASCII, which no Tango client misreads."""
        return json.dumps(self.model_dump(mode="json"))

    @classmethod
    def schema_text(cls) -> str:
        """The JSON schema as clients read it: no references, a default on every leaf."""
        schema = cls.model_json_schema()
        definitions = schema.pop("$defs", {})
        defaults = json.loads(cls().model_dump_json())
        plain = _inline(schema, definitions, defaults)
        return json.dumps({"$schema": "http://json-schema.org/draft-06/schema#", **plain}, separators=(",", ":"))

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        schema = handler(core_schema)
        properties = handler.resolve_ref_schema(schema)["properties"]
        for name, text in docstrings(cls).items():
            if name in properties:
                properties[name].setdefault("description", text)
        return schema


def docstrings(model: type) -> dict[str, str]:
    """The text below each field of a class, and of those it inherits and does not declare anew."""
    found: dict[str, str] = {}
    for cls in reversed(model.__mro__[: model.__mro__.index(Params)]):
        for statement, below in pairwise([*_class_bodies(cls.__module__)[cls.__qualname__], None]):
            match statement, below:
                case ast.AnnAssign(target=ast.Name(name)), ast.Expr(value=ast.Constant(str(text))):
                    found[name] = inspect.cleandoc(text)
                case ast.AnnAssign(target=ast.Name(name)), _:
                    found.pop(name, None)
    return found


@cache
def _class_bodies(module: str) -> dict[str, list[ast.stmt]]:
    """The statements of each class of a module, by qualified name; one parse serves all (a start waits for it)."""
    found: dict[str, list[ast.stmt]] = {}

    def visit(node: ast.AST, path: str) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef):
                found[path + child.name] = child.body
                visit(child, f"{path}{child.name}.")
            elif isinstance(child, ast.FunctionDef):
                visit(child, f"{path}{child.name}.<locals>.")

    visit(ast.parse(inspect.getsource(import_module(module))), "")
    return found


_KEPT = (
    "type enum const minimum maximum exclusiveMinimum exclusiveMaximum minItems maxItems minLength maxLength "
    "pattern description title"
).split()


def _inline(node: dict[str, Any], definitions: dict[str, Any], default: object) -> dict[str, Any]:
    """The schema node without `$ref`, `allOf` or `anyOf`, which lose the defaults in the clients' generator."""
    if "$ref" in node:
        target = definitions[node["$ref"].rsplit("/", 1)[-1]]
        node = {**target, **{key: value for key, value in node.items() if key != "$ref"}}
    plain = {key: node[key] for key in _KEPT if key in node}
    if "description" in plain:  # one line: a Tango database on MariaDB loses backslashes
        plain["description"] = " ".join(plain["description"].split())
    if "const" in plain:
        plain.setdefault("enum", [plain.pop("const")])
    if "properties" in node:
        plain["properties"] = {
            name: _inline(child, definitions, default[name] if isinstance(default, dict) else child.get("default"))
            for name, child in node["properties"].items()
        }
        plain["additionalProperties"] = False
        return plain
    if "items" in node:
        plain["items"] = _inline(node["items"], definitions, node["items"].get("default"))
    if default is not None:
        plain["default"] = default
    return plain


def json_path(location: tuple[str | int, ...]) -> str:
    """`$.det.peaks[0].x0`"""
    return "$" + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in location)


def _first_fault(error: ValidationError) -> ParamError:
    faults = error.errors(include_url=False, include_context=True)
    first = faults[0]
    others = len(faults) - 1
    more = f" ({others} more {'fault' if others == 1 else 'faults'})" if others else ""
    path = json_path(first["loc"])
    return ParamError(path, first.get("input"), _remedy(first["type"], first["msg"]) + more)


def _remedy(kind: str, message: str) -> str:
    known = {
        "extra_forbidden": "there is no such parameter; remove it or correct its name",
        "int_type": "give a whole number",
        "int_from_float": "give a whole number",
        "float_type": "give a number",
        "bool_type": "give true or false",
        "string_type": "give a text",
        "list_type": "give a list",
        "tuple_type": "give a list",
        "model_type": "give an object",
        "model_attributes_type": "give an object",
        "string_pattern_mismatch": "it cannot hold a colon (clients split addresses there), nor a name a slash",
        "missing": "this parameter must be given",
    }
    plain = message.removeprefix("Value error, ").removeprefix("Input ")
    return known.get(kind, plain[:1].lower() + plain[1:])


__all__ = ["Field", "Int", "Params", "json_path"]
