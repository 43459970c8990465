"""Plugins are found by file name or by entry point: `load("cameras", "simulator")` imports that one file."""

import pkgutil
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from .errors import ParamError

NOT_PLUGINS = {"base"}


@cache
def _entry_points(kind: str) -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=f"lima2_tango.{kind}")}


def available(kind: str) -> list[str]:
    """Names of the plugins of a kind (`cameras`, `processing.pipelines`), imported or not, in order."""
    package = import_module(f"lima2_tango.{kind}")
    names = {m.name for m in pkgutil.iter_modules(package.__path__) if not m.name.startswith("_")}
    return sorted((names - NOT_PLUGINS) | set(_entry_points(kind)))


def load(kind: str, name: str) -> Any:
    """The `PLUGIN` of one file; a vendor's library is only needed by the plugin that uses it."""
    if name in _entry_points(kind):
        return _entry_points(kind)[name].load()
    if name not in available(kind):
        raise ParamError(f"{kind} plugin", name, f"there is no such plugin; have: {', '.join(available(kind))}")
    return import_module(f"lima2_tango.{kind}.{name}").PLUGIN
