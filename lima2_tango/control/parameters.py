"""What the clients wrote for the next run: acquisition parameters, and a pipeline with its own."""

from dataclasses import dataclass

from lima2_tango.cameras.base import Plugin
from lima2_tango.core.errors import ParamError
from lima2_tango.core.params import Params
from lima2_tango.core.plugins import available, load
from lima2_tango.processing.plugin import PipelinePlugin

from .settings import Settings


class _ClassName(Params):
    """The one key of `proc_params` that says which class parses the rest."""

    model_config = {"extra": "ignore"}
    class_name: str = ""


@dataclass(frozen=True, slots=True)
class Choice:
    """A pipeline and its parameters."""

    plugin: PipelinePlugin
    params: Params


def pipelines() -> dict[str, PipelinePlugin]:
    """Every pipeline by the name of its Tango class."""
    found = [load("processing.pipelines", name) for name in available("processing.pipelines")]
    return {plugin.class_name: plugin for plugin in found}


def choose(text: str, settings: Settings) -> Choice:
    """Take processing parameters as JSON; `class_name` in them chooses the pipeline. Raises ParamError."""
    name = _ClassName.parse(text).class_name
    known = pipelines()
    if name not in known:
        raise ParamError("$.class_name", name, f"choose one of {', '.join(sorted(known))}")
    params = known[name].params.parse(text)
    settings.confine(params)
    return Choice(known[name], params)


class Parameterised:
    """What a control and a receiver have in common: parameters that may change until the next Prepare."""

    def __init__(self, plugin: Plugin, settings: Settings) -> None:
        self.plugin = plugin
        self.settings = settings
        self.acq_params = plugin.params()
        self.choice: Choice | None = None
        """Pipeline and processing parameters as written last; None before the first."""

    def set_acq_params(self, text: str) -> None:
        """Take acquisition parameters as JSON; raises ParamError."""
        params = self.plugin.params.parse(text)
        self.settings.confine(params)
        self.acq_params = params

    def set_proc_params(self, text: str) -> None:
        """Take processing parameters as JSON; `class_name` in them chooses the pipeline. Raises ParamError."""
        self.choice = choose(text, self.settings)
