"""Pages made from the code are those that the code makes now."""

import importlib.util
import re
from types import ModuleType

import pytest
from pages import DOCS

from lima2_tango.core import errors
from lima2_tango.core.errors import Lima2Error
from lima2_tango.core.state import diagram


def _generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GENERATE = _generator()


@pytest.mark.parametrize("name", list(GENERATE.PAGES))
def test_a_page_made_from_the_code_is_up_to_date(name: str) -> None:
    committed = (DOCS / name).read_text(encoding="utf-8")
    assert committed == GENERATE.PAGES[name](), "the code has changed: run python docs/generate.py"


def test_the_tree_of_errors_names_every_error_and_draws_who_descends_from_whom() -> None:
    drawn: dict[str, str] = {}
    parents = {0: "Lima2Error"}
    for indent, name in re.findall(r"^( +)\+ (\w+)", errors.__doc__ or "", re.MULTILINE):
        depth = len(indent) // 2 + 1
        drawn[name] = parents[depth - 1]
        parents[depth] = name
    real = {
        name: value.__base__.__name__
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, Lima2Error) and value is not Lima2Error
    }
    assert drawn == real


def test_the_diagram_of_the_states_is_on_its_page() -> None:
    assert diagram() in (DOCS / "reference/state-machine.md").read_text(encoding="utf-8")
