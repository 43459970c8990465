"""Single parameters by name, for clients that write one value at a time; made from the declarations.

The name is the path joined by `_`; parameters of `acq` go without it, saving ones have the names that people know.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from math import isfinite

from lima2_tango.core.errors import ParamError
from lima2_tango.core.leaves import Kind, Leaf, label_of, leaves
from lima2_tango.core.params import Params, json_path
from lima2_tango.core.storage import SavingParams
from lima2_tango.core.units import microseconds_text
from lima2_tango.processing.plugin import PipelinePlugin

from .parameters import DEFAULT_PIPELINE, Parameterised

SAVING_NAMES = {
    "enabled": "enabled",
    "base_path": "directory",
    "filename_prefix": "prefix",
    "filename_format": "format",
    "file_exists_policy": "policy",
    "compression": "compression",
    "nb_frames_per_file": "frames_per_file",
}
"""What people change of every saving block, and how they call it."""
FILLED_IN = {"filename_rank"}
"""What the control itself sets in the saving parameters of each receiver."""
OBVIOUS = {("acq",), ("det",)}
"""Blocks that need not be explained beside each of their parameters."""
MICROSECOND = "[us]"
FRAMES = "nb_frames"
"""A number that is called so counts frames."""

Value = bool | int | float | str


class Root(Enum):
    """Which parameter set a scalar belongs to."""

    ACQ = "acq"
    PROC = "proc"


@dataclass(frozen=True, slots=True)
class Scalar:
    """One parameter as generic clients see it."""

    name: str
    root: Root
    leaf: Leaf
    common: bool
    """Whether everybody uses it; else it is for experts."""
    pipelines: frozenset[str] = frozenset()
    """Pipelines that have it, by their class; of processing parameters."""

    @property
    def label(self) -> str:
        return label_of(self.name)

    @property
    def is_time(self) -> bool:
        """Microseconds in the parameters, seconds for people."""
        return self.leaf.kind is int and MICROSECOND in self.leaf.text

    @property
    def unit(self) -> str:
        """Of the value for people; empty for what has none."""
        if self.is_time:
            return "s"
        if found := re.search(r"\[([^]]+)\]", self.leaf.text):
            return found[1]
        return "frame" if self.leaf.path[-1].startswith(FRAMES) else ""

    @property
    def kind(self) -> Kind:
        """Type of its value for people."""
        assert self.leaf.kind is not None
        return float if self.is_time else self.leaf.kind

    @property
    def least(self) -> float | None:
        return self._seconds(self.leaf.least)

    @property
    def most(self) -> float | None:
        return self._seconds(self.leaf.most)

    @property
    def text(self) -> str:
        """What it is, with its unit and where it is in the JSON."""
        own = self.leaf.text.replace(MICROSECOND, "[s], in steps of 1 us") if self.is_time else self.leaf.text
        around = "" if self.leaf.path[:-1] in OBVIOUS else self.leaf.around
        only = "" if self.root is Root.ACQ else f" of {', '.join(sorted(self.pipelines))}"
        return " ".join(filter(None, [around, own, f"{self.address} in {self.root.value}_params{only}."]))

    @property
    def address(self) -> str:
        return json_path(self.leaf.path)

    def read(self, source: Parameterised) -> Value | None:
        """Its current value; None where the chosen pipeline does not have it."""
        found = self._current(source)
        if found is None:
            return None
        value: Value = self.leaf.value(found)
        if self.leaf.choices:
            return self.leaf.choices.index(str(value))
        return float(value) / 1e6 if self.is_time else value

    def write(self, source: Parameterised, value: Value) -> None:
        """Change it, and nothing else; raises ParamError. A choice is written by its number, as it is read."""
        if self.leaf.choices:
            value = self.leaf.choices[int(value)]
        if self.is_time:
            value = self._microseconds(float(value))
        if self.root is Root.ACQ:
            source.change_acq(self.leaf.path, value)
            return
        with source.editing:
            if self._current(source) is None:
                have = " or ".join(sorted(self.pipelines))
                lacking = source.chosen().plugin.class_name
                raise ParamError(self.name, value, f"the pipeline {lacking} has no such parameter: choose {have} first")
            source.change_proc(self.leaf.path, value)

    def _current(self, source: Parameterised) -> Params | None:
        """The set that has it now."""
        if self.root is Root.ACQ:
            return source.acq_params
        choice = source.chosen()
        return choice.params if choice.plugin.class_name in self.pipelines else None

    def _microseconds(self, seconds: float) -> int:
        least, most = self.leaf.least, self.leaf.most
        count = round(seconds * 1e6) if isfinite(seconds) else None
        if count is None or (least is not None and count < least) or (most is not None and count > most):
            limits = [
                f"{word} {microseconds_text(int(limit))}"
                for word, limit in (("at least", least), ("at most", most))
                if limit is not None
            ]
            raise ParamError(self.name, seconds, f"give {' and '.join(limits)}, in seconds; it is rounded to whole us")
        return count

    def _seconds(self, limit: float | None) -> float | None:
        return limit / 1e6 if self.is_time and limit is not None else limit


def scalars(acq: type[Params], pipelines: Mapping[str, PipelinePlugin], taken: Iterable[str] = ()) -> dict[str, Scalar]:
    """Every parameter of a camera and of the pipelines that is one value, by its name; names `taken` are avoided."""
    found: dict[str, Scalar] = {}
    # Processing parameters come first: where a camera has one of the same name, that one gets the prefix.
    for scalar in (*_processing(pipelines), *_acquisition(acq)):
        name = scalar.name
        while name in found or name in taken:
            name = f"{scalar.root.value}_{name}"
        found[name] = replace(scalar, name=name)
    return found


def is_scalar(leaf: Leaf) -> bool:
    """Whether a parameter is one value that a client can choose; the others are left to the JSON."""
    filled_in = issubclass(leaf.owner, SavingParams) and leaf.path[-1] in FILLED_IN
    return leaf.kind is not None and not leaf.fixed and not filled_in


def _acquisition(params: type[Params]) -> Iterator[Scalar]:
    for leaf in filter(is_scalar, leaves(params)):
        yield _scalar(Root.ACQ, leaf)


def _processing(pipelines: Mapping[str, PipelinePlugin]) -> list[Scalar]:
    """Each once, however many pipelines have it; where they do not agree on its type they have one each."""
    found: dict[tuple[object, ...], Scalar] = {}
    for name in sorted(pipelines, key=lambda name: (name != DEFAULT_PIPELINE, name)):
        for leaf in filter(is_scalar, leaves(pipelines[name].params)):
            key = (leaf.path, leaf.kind, leaf.choices, MICROSECOND in leaf.text)
            known = found.get(key, _scalar(Root.PROC, leaf))
            found[key] = replace(known, leaf=_wider(known.leaf, leaf), pipelines=known.pipelines | {name})
    return list(found.values())


def _scalar(root: Root, leaf: Leaf) -> Scalar:
    plain = _is_plain(root, leaf)
    *blocks, last = leaf.path[1:] if plain else leaf.path
    familiar = SAVING_NAMES.get(last) if issubclass(leaf.owner, SavingParams) else None
    return Scalar("_".join([*blocks, familiar or last]), root, leaf, common=plain or familiar is not None)


def _is_plain(root: Root, leaf: Leaf) -> bool:
    """Whether it goes by its own name: when and how long frames are exposed, for every camera."""
    return root is Root.ACQ and leaf.path[0] == "acq"


def _wider(one: Leaf, other: Leaf) -> Leaf:
    """The limits that hold for both; each pipeline checks its own."""
    least = None if one.least is None or other.least is None else min(one.least, other.least)
    most = None if one.most is None or other.most is None else max(one.most, other.most)
    return replace(one, least=least, most=most)
