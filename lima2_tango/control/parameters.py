"""What the clients wrote for the next run: acquisition parameters, and a pipeline with its own."""

import json
import logging
from dataclasses import dataclass, replace
from functools import cache
from threading import RLock
from typing import Any

from lima2_tango.cameras.base import Plugin
from lima2_tango.core.errors import ParamError
from lima2_tango.core.params import Params
from lima2_tango.core.storage import SavingParams
from lima2_tango.processing.plugin import PipelinePlugin, installed

from .own import own_pipeline
from .settings import Settings

log = logging.getLogger(__name__)
DEFAULT_PIPELINE = "LimaProcessingLegacy"
"""What a control processes with until a client chooses."""


class _ClassName(Params):
    """The keys of `proc_params` that say which class parses the rest."""

    model_config = {"extra": "ignore"}
    class_name: str = ""
    pipeline: dict[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Choice:
    """A pipeline and its parameters."""

    plugin: PipelinePlugin
    params: Params
    in_place_of: str = ""
    """Tango class of the pipeline that the clients believe it to be; its own where empty."""

    @property
    def served(self) -> PipelinePlugin:
        """The pipeline as clients find it."""
        return replace(self.plugin, class_name=self.in_place_of or self.plugin.class_name)


def pipelines() -> dict[str, PipelinePlugin]:
    """Every pipeline by the name of its Tango class; what keeps others from being one is in the log, once.

    Last come those that deliver nothing: they are for tests.
    """
    found, faults = installed()
    for fault in faults:
        _warn(fault)
    return dict(sorted(found.items(), key=lambda each: not (each[1].getters() or each[1].row_commands)))


@cache
def _warn(fault: str) -> None:
    log.warning(fault)


def choose(text: str, settings: Settings) -> Choice:
    """Take processing parameters as JSON; `class_name` in them chooses the pipeline. Raises ParamError.

    Where they are those of Legacy with a `pipeline` in them, that one is chosen.
    """
    asked = _ClassName.parse(text)
    plugin = _pipeline(asked.class_name)
    if plugin.class_name == DEFAULT_PIPELINE and asked.pipeline:
        own = _pipeline(asked.pipeline.get("class_name"), "$.pipeline.class_name")
        choice = Choice(*own_pipeline(own, plugin.params.parse(text), asked.pipeline), DEFAULT_PIPELINE)
    else:
        choice = Choice(plugin, plugin.params.parse(text))
    settings.confine(choice.params)
    return choice


def _pipeline(name: object, path: str = "$.class_name") -> PipelinePlugin:
    known = pipelines()
    if not isinstance(name, str) or name not in known:
        raise ParamError(path, name, "; ".join([f"choose one of {', '.join(sorted(known))}", *installed()[1]]))
    return known[name]


def by_default(name: str, settings: Settings) -> Choice:
    """A pipeline with its defaults; it saves to the first of the data roots where it may not save elsewhere.

    Raises ParamError for an unknown name.
    """
    plugin = _pipeline(name)
    params = plugin.params()
    try:
        settings.confine(params)
    except ParamError:
        home = {"base_path": settings.data_roots[0]}
        blocks = {key: getattr(params, key) for key in plugin.params.model_fields}
        moved = {key: block.model_copy(update=home) for key, block in blocks.items() if isinstance(block, SavingParams)}
        params = params.model_copy(update=moved)
    return Choice(plugin, params)


class Parameterised:
    """What a control and a receiver have in common: parameters that may change until the next Prepare."""

    def __init__(self, plugin: Plugin, settings: Settings) -> None:
        self.plugin = plugin
        self.settings = settings
        self.acq_params = plugin.params()
        self.choice: Choice | None = None
        """Pipeline and processing parameters as written last; None before the first."""
        self.editing = RLock()
        """Held from reading to writing by who changes a part: nobody's change is lost. Readers do without."""

    def set_acq_params(self, text: str) -> None:
        """Take acquisition parameters as JSON; raises ParamError."""
        params = self.plugin.params.parse(text)
        self.settings.confine(params)
        with self.editing:
            self.acq_params = params

    def set_proc_params(self, text: str) -> None:
        """Take processing parameters as JSON; `class_name` in them chooses the pipeline. Raises ParamError."""
        choice = choose(text, self.settings)
        with self.editing:
            self.choice = choice

    def set_all(self, acq: str, proc: str) -> None:
        """Take both as JSON, or neither; raises ParamError."""
        params, choice = self.plugin.params.parse(acq), choose(proc, self.settings)
        self.settings.confine(params)
        with self.editing:
            self.acq_params, self.choice = params, choice

    def change_acq(self, path: tuple[str, ...], value: object) -> None:
        """Change one acquisition parameter; raises ParamError."""
        with self.editing:
            self.set_acq_params(_changed(self.acq_params, path, value))

    def change_proc(self, path: tuple[str, ...], value: object) -> None:
        """Change one processing parameter of the chosen pipeline; raises ParamError."""
        with self.editing:
            self.set_proc_params(_changed(self.chosen().params, path, value))

    def chosen(self) -> Choice:
        """The choice, or where there is none yet the default pipeline with its defaults."""
        return self.choice or by_default(DEFAULT_PIPELINE, self.settings)

    def choose_pipeline(self, name: str) -> None:
        """Choose a pipeline by its class; what was changed and both declare alike stays, the rest is its default."""
        with self.editing:
            fresh = by_default(name, self.settings).params
            self.set_proc_params(json.dumps(fresh.model_dump(mode="json") | _shared(self.chosen().params, type(fresh))))


def _changed(params: Params, path: tuple[str, ...], value: object) -> str:
    """The set as JSON with one value replaced."""
    data: dict[str, Any] = params.model_dump(mode="json")
    block = data
    for key in path[:-1]:
        block = block[key]
    block[path[-1]] = value
    return json.dumps(data)


def _shared(old: Params, new: type[Params]) -> dict[str, Any]:
    """The parameters of `old` that are no defaults and that `new` declares in the same words."""
    before = type(old).model_fields
    alike = {
        name
        for name, field in new.model_fields.items()
        if name in before
        and (before[name].annotation, before[name].metadata) == (field.annotation, field.metadata)
        and getattr(old, name) != before[name].default
    }
    return old.model_dump(mode="json", include=alike - {"class_name"})
