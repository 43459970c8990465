"""Plugins in files of a test, known as those of an installed package are."""

import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from importlib import invalidate_caches
from pathlib import Path

from lima2_tango.core import plugins

NAME = "lima2_tango_test_plugins"


def write_package(folder: Path, files: Mapping[str, str], entry_points: Mapping[str, Mapping[str, str]]) -> None:
    """Modules by name, and what their package declares: kind of plugin -> name -> `module:object`.

    A process that has the folder in PYTHONPATH knows the plugins.
    """
    for name, body in files.items():
        (folder / f"{name}.py").write_text(body, encoding="utf-8")
    about = folder / f"{NAME}-1.0.dist-info"
    about.mkdir(exist_ok=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {NAME}\nVersion: 1.0\n", encoding="utf-8")
    lines = [
        line
        for kind, named in entry_points.items()
        for line in (f"[lima2_tango.{kind}]", *(f"{name} = {target}" for name, target in named.items()), "")
    ]
    (about / "entry_points.txt").write_text("\n".join(lines), encoding="utf-8")


@contextmanager
def installed(folder: Path) -> Generator[None]:
    """The plugins of a folder are known to this process."""
    sys.path.insert(0, str(folder))
    _look_again()
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for module in folder.glob("*.py"):
            sys.modules.pop(module.stem, None)
        _look_again()


def _look_again() -> None:
    invalidate_caches()
    plugins._entry_points.cache_clear()  # noqa: SLF001 - what is installed changes in no other process
