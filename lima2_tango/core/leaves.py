"""The single values of a parameter set, as its declaration has them: for interfaces that take one value at a time."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from .params import Params, docstrings

Kind = type[bool] | type[int] | type[float] | type[str]
KINDS: dict[Any, Kind] = {bool: bool, int: int, float: float, str: str}
"""Types of single values."""


def label_of(name: str) -> str:
    """What people read in place of a name: `nb_frames` is "Number of frames"."""
    return name.replace("nb_", "number_of_").replace("_", " ").capitalize()


@dataclass(frozen=True, slots=True)
class Leaf:
    """One parameter that is no block of others."""

    path: tuple[str, ...]
    """Keys from the root of its set."""
    owner: type[Params]
    """The block that declares it."""
    kind: Kind | None
    """Type of its value; None for a list, and for what may be of several types."""
    choices: tuple[str, ...]
    """All values of a choice, else empty."""
    least: float | None
    """Smallest value declared; an exclusive limit counts as one that is not."""
    most: float | None
    text: str
    """What it is, in one line, with its unit."""
    around: str
    """What the nearest documented block around it is; empty where none says."""

    @property
    def fixed(self) -> bool:
        """Whether it can have only one value."""
        return len(self.choices) == 1 or (self.least is not None and self.least == self.most)

    def value(self, params: Params) -> Any:
        """Its value in a set that declares it."""
        found: Any = params
        for key in self.path:
            found = getattr(found, key)
        return found


def leaves(model: type[Params], path: tuple[str, ...] = (), around: str = "") -> Iterator[Leaf]:
    """Every leaf of a parameter set, in the order of its declaration."""
    texts = docstrings(model)
    for name, field in model.model_fields.items():
        here, text = (*path, name), " ".join(texts.get(name, "").split())
        block = field.annotation
        if isinstance(block, type) and issubclass(block, Params):
            yield from leaves(block, here, text or _first_line(block) or around)
        else:
            yield _leaf(model, here, field, text, around)


def _leaf(owner: type[Params], path: tuple[str, ...], field: FieldInfo, text: str, around: str) -> Leaf:
    choices = _choices(field.annotation)
    kind = str if choices else KINDS.get(field.annotation)
    least, most = _limit(field, "ge", "gt"), _limit(field, "le", "lt")
    return Leaf(path, owner, kind, choices, least, most, text, around)


def _choices(annotation: Any) -> tuple[str, ...]:
    if isinstance(annotation, type) and issubclass(annotation, StrEnum):
        return tuple(str(member) for member in annotation)
    if get_origin(annotation) is Literal and all(isinstance(value, str) for value in get_args(annotation)):
        return get_args(annotation)
    return ()


def _limit(field: FieldInfo, *names: str) -> float | None:
    found = [getattr(rule, name) for rule in field.metadata for name in names if hasattr(rule, name)]
    return found[0] if found else None


def _first_line(block: type[Params]) -> str:
    """The first line of a block's own docstring."""
    return (block.__dict__.get("__doc__") or "").strip().split("\n")[0]
