"""Acquisition and processing parameters in one file, YAML or JSON, that a person may edit."""

import errno
import json
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import yaml

from lima2_tango.core.errors import ParamError, SavingError
from lima2_tango.core.params import Params

from .parameters import Parameterised

LARGEST = 1 << 20
"""A file of parameters is smaller than this [byte]."""
DEEPEST = 100
"""Lists and objects in each other; a parameter set has six."""
SUFFIXES = (".yaml", ".yml", ".json")
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The same in C, where PyYAML was built with it: a hundred times faster."""


class _File(Params):
    """Where it is; its one field is named so that it is confined to the data roots."""

    path: str = ""


class _Content(Params):
    camera: str
    acq_params: dict[str, Any]
    proc_params: dict[str, Any]


def save_config(source: Parameterised, path: str) -> None:
    """Write the current parameters; an older file of parameters is replaced, any other is left alone.

    Raises ParamError for the path, SavingError where the file cannot be written.
    """
    file = _confined(source, path)
    if file.exists():
        _refuse_other(file)
    with source.editing:
        acq, proc = source.acq_params, source.chosen().params
    data = {
        "camera": source.plugin.name,
        "acq_params": acq.model_dump(mode="json"),
        "proc_params": proc.model_dump(mode="json"),
    }
    if file.suffix == ".json":
        _replace(file, json.dumps(data, indent=2) + "\n")
    else:
        _replace(file, yaml.safe_dump(data, sort_keys=False, allow_unicode=True))


def load_config(source: Parameterised, path: str) -> None:
    """Take all parameters from a file, or none; raises ParamError."""
    content = _read(_confined(source, path))
    if content.camera != source.plugin.name:
        reason = f"these are parameters of a {content.camera}, this is a {source.plugin.name}: choose another file"
        raise ParamError("path", path, reason)
    source.set_all(json.dumps(content.acq_params), json.dumps(content.proc_params))


def _confined(source: Parameterised, path: str) -> Path:
    file = Path(path)
    if not file.is_absolute() or file.suffix not in SUFFIXES:
        raise ParamError("path", path, f"give an absolute path that ends with {' or '.join(SUFFIXES)}")
    source.settings.confine(_File(path=path))
    return file


def _read(file: Path) -> _Content:
    """What is in the file; raises ParamError where it is not what `save_config` writes."""
    try:
        return _Content.parse(json.dumps(parsed(file), default=str))
    except OSError as error:
        raise ParamError("path", str(file), f"the file cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        fault = " ".join(str(error).split())
        raise ParamError("path", str(file), f"this is no {file.suffix[1:].upper()} file: {fault}") from error
    except ParamError as error:
        reason = f"this is no file of parameters, as SaveConfig writes them: {error.what}"
        raise ParamError("path", str(file), reason) from error


def parsed(file: Path) -> Any:
    """The content of a JSON file, by its name, or of a YAML file, as plain Python.

    Raises OSError, YAMLError, ValueError (not UTF-8, too large or too deep, references) or RecursionError (JSON).
    """
    if not file.is_file():  # nor a pipe, on which a reader waits for ever
        raise FileNotFoundError(errno.ENOENT, "it is no file" if file.exists() else "there is no such file")
    with file.open("rb") as stream:
        raw = stream.read(LARGEST + 1)
    if len(raw) > LARGEST:
        raise ValueError(f"it is larger than {LARGEST >> 10} KiB")
    if file.suffix == ".json":
        return json.loads(raw)
    _check_plain(raw)
    return yaml.load(raw, LOADER)


def _check_plain(raw: bytes) -> None:
    """Raise ValueError for YAML that a few bytes make larger, or deeper, than memory."""
    depth = 0
    for event in yaml.parse(raw, LOADER):
        if isinstance(event, yaml.AliasEvent):
            raise ValueError("references (*name) are not taken, a few can stand for more than memory: write them out")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise ValueError(f"it is nested more than {DEEPEST} deep")


def _refuse_other(file: Path) -> None:
    try:
        _read(file)
    except ParamError as error:
        reason = "another file is there, which is no file of parameters: choose another name or remove it"
        raise ParamError("path", str(file), reason) from error


def _replace(file: Path, text: str) -> None:
    """Write the whole file or nothing, under its name at once."""
    hidden = file.with_name(f".{file.name}.{uuid4().hex}")
    try:
        with hidden.open("x", encoding="utf-8") as stream:
            stream.write(text)
        hidden.replace(file)
    except OSError as error:
        with suppress(OSError):
            hidden.unlink()
        raise SavingError(f"cannot write {file}: {error.strerror}; choose a folder that exists and is ours") from error
