"""Files of parameters: JSON, or YAML."""

import json
from pathlib import Path
from typing import Any

import yaml

from lima2_tango.core.errors import ParamError


def read_file(path: Path) -> Any:
    """What a file holds, as JSON has it; raises ParamError for one that cannot be read.

    It is read as JSON first: to YAML 1e-5 is a text. What only YAML knows (dates) is a text.
    """
    try:
        return _loaded(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError, RecursionError, yaml.YAMLError) as error:
        raise ParamError("--params", str(path), f"it cannot be read: {' '.join(str(error).split())}") from error


def _loaded(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return json.loads(json.dumps(yaml.safe_load(text), default=str))
