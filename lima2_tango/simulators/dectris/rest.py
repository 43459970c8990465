"""The REST interface: a request in, an answer out. No socket."""

import json
from dataclasses import dataclass
from typing import Any

from .detector import Detector
from .settings import Table
from .values import RefusedError, unknown

MODULES = ("detector", "stream", "filewriter", "monitor", "system")
JSON, TEXT = "application/json; charset=utf-8", "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes
    content_type: str = JSON


def answer(detector: Detector, method: str, path: str, body: bytes) -> Answer:
    """What a detector says to `PUT /detector/api/1.8.0/config/nimages` and its like; blocks as long as a command does.

    `PUT /simulator/pulse` is ours: an external trigger.
    """
    try:
        found = _found(detector, method, path.partition("?")[0].strip("/"), body)
    except RefusedError as refused:
        return Answer(refused.status, str(refused).encode(), TEXT)
    return Answer(200, json.dumps(found).encode())


def _found(detector: Detector, method: str, path: str, body: bytes) -> Any:
    match path.split("/"):
        case ["simulator", "pulse"] if method == "PUT":
            return {"taken": detector.pulse()}
        case [module, "api", "version"] if module in MODULES and method == "GET":
            return {"value": detector.options.version, "value_type": "string"}
        case [module, "api", version, task, *key] if module in MODULES:
            if version != detector.options.version:
                raise unknown(path)
            return _of_task(detector, method, module, task, "/".join(key), body)
    raise unknown(path)


def _of_task(detector: Detector, method: str, module: str, task: str, key: str, body: bytes) -> Any:
    if f"{task}/{key}" in detector.options.faults.rest_errors:
        raise RefusedError(500, "internal server error: simulated")
    match method, task:
        case "GET", "config":
            return _read(detector.tables(module), key, "config")
        case "GET", "status":
            return _read(detector.status(module), key, "status")
        case "PUT", "config" if key:
            return detector.put(module, key, _value(_content(body)))
        case "PUT", "config":
            return _put_many(detector, module, _content(body))
        case "PUT", "command":
            return detector.command(module, key, _argument(body))
    raise unknown(f"{task}/{key}")


def _read(table: Table, key: str, task: str) -> Any:
    if key in {"", "keys"}:
        return sorted(table)
    if key not in table:
        raise unknown(f"{task}/{key}")
    return table[key].as_json()


def _put_many(detector: Detector, module: str, content: Any) -> list[str]:
    """Several parameters at once: `{"mode": {"value": "enabled"}, ...}`."""
    if not isinstance(content, dict):
        raise RefusedError(400, "value error: give an object of parameters")
    changed = [name for key, entry in content.items() for name in detector.put(module, key, _value(entry))]
    return sorted(set(changed))


def _argument(body: bytes) -> Any:
    """That of a command, or None."""
    content = _content(body) if body else None
    return None if content in ({}, None, "") else _value(content)


def _value(content: Any) -> Any:
    if not isinstance(content, dict) or "value" not in content:
        raise RefusedError(400, 'value error: give {"value": ...}')
    return content["value"]


def _content(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError as error:
        raise RefusedError(400, f"parse error: this is not JSON: {error}") from error
