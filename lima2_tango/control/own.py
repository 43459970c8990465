"""A pipeline of one's own for clients that know five pipelines: it runs in the place of Legacy.

They send the parameters of Legacy with a key `pipeline`: the class name of the pipeline, and the parameters that Legacy
does not have. What both have (saving, accumulation, ...) is where those clients write it, beside `pipeline`.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from lima2_tango.core.errors import GraphError, ParamError
from lima2_tango.core.params import Params
from lima2_tango.core.storage import SavingParams
from lima2_tango.processing.pipeline import Pipeline, Setup
from lima2_tango.processing.plugin import PipelinePlugin

NOT_SHARED = {"class_name", "pipeline", "buffers"}
"""Keys of Legacy that are its own; `buffers` are upper bounds, nothing is lost where a pipeline has others."""
LABELS = {"getInputFrame": "input", "getFrame": "processed"}
"""Getters that the clients call, and how they call what these read."""
COUNTERS = ("nb_frames_source", "nb_frames_input", "nb_frames_processed")
INFOS = {"input": "input_frame_info", "processed": "processed_frame_info"}
ROWS = {"statistics": "popRoiStatistics", "profiles": "popRoiProfiles"}
"""What the clients pop where the parameters of this name ask for it."""


def own_pipeline(plugin: PipelinePlugin, legacy: Params, asked: Mapping[str, Any]) -> tuple[PipelinePlugin, Params]:
    """The pipeline in the place of Legacy, and its parameters.

    `legacy` are the parameters as a whole, `asked` those of `$.pipeline` in them. Raises ParamError for what is asked
    twice, of Legacy alone, or refused by the pipeline.
    """
    if "pipeline" in asked:
        raise ParamError(
            "$.pipeline.pipeline", asked["pipeline"], "one pipeline takes the place of Legacy: leave it out"
        )
    fields = type(legacy).model_fields
    shared = (set(plugin.params.model_fields) & set(fields)) - NOT_SHARED
    for key in shared & set(asked):
        raise ParamError(f"$.pipeline.{key}", asked[key], f"the clients know it: give it as $.{key}, beside pipeline")
    for key in set(fields) - shared - NOT_SHARED - {"fifo"}:
        if not _asks_nothing(legacy, key):
            reason = f"the pipeline {plugin.class_name} has no {key}: leave it at its default"
            raise ParamError(f"$.{key}", _plain(getattr(legacy, key)), reason)
    params = _parsed(plugin, {**asked, **{key: _plain(getattr(legacy, key)) for key in shared}}, shared)
    return replace(plugin, build=_checked(plugin)), _ranked(params, legacy, shared)


def faults(plugin: PipelinePlugin) -> Iterator[str]:
    """What keeps a pipeline from running in the place of Legacy."""
    products = {product.label: product for product in plugin.products()}
    for getter, label in LABELS.items():
        if plugin.frame_commands.get(getter) != label or label not in products:
            yield f"{getter} has to read an output {label}"
        elif products[label].info != INFOS[label] or INFOS[label] not in plugin.info_attributes:
            yield f"the info of output {label} has to be {INFOS[label]}, and an attribute"
    main = products.get("processed")
    if main is not None and main.saving != "saving":
        yield "output processed has to be saved as $.saving"
    if main is not None and main.sums not in {"", "accumulation"}:
        yield f"sums in output processed have to be asked for by $.accumulation, not $.{main.sums}"
    if "frame_idx_enabled" not in plugin.params.model_fields:
        yield "it needs the parameter frame_idx_enabled"
    missing = [pop for key, pop in ROWS.items() if key in plugin.params.model_fields and pop not in plugin.row_commands]
    yield from (f"it has to have the command {pop}" for pop in missing)


def _checked(plugin: PipelinePlugin) -> Callable[[Any, Setup], Pipeline[Any]]:
    """Its `build`, which refuses a pipeline that the clients could not read."""

    def build(params: Params, setup: Setup) -> Pipeline[Any]:
        for fault in faults(plugin):
            raise _not_legacy(plugin, fault)
        pipeline = plugin.build(params, setup)
        for name in COUNTERS:
            if name not in pipeline.counters.read():
                pipeline.erase()
                raise _not_legacy(plugin, f"its outputs have to count {', '.join(COUNTERS)}, and none counts {name}")
        return pipeline

    return build


def _not_legacy(plugin: PipelinePlugin, fault: str) -> GraphError:
    return GraphError(
        f"{plugin.class_name} cannot run in the place of LimaProcessingLegacy, whose streams clients read: {fault}; "
        "or drive it by its own name through the control"
    )


def _parsed(plugin: PipelinePlugin, found: Mapping[str, Any], shared: set[str]) -> Params:
    """Raises ParamError with the path as the client wrote it."""
    try:
        return plugin.params.parse(json.dumps(found))
    except ParamError as error:
        key = re.split(r"[.\[]", error.path)[1]
        if key in shared:
            raise
        raise ParamError(f"$.pipeline{error.path[1:]}", error.value, error.reason) from error


def _ranked(params: Params, legacy: Params, shared: set[str]) -> Params:
    """Files that only this pipeline has are those of the receiver that the clients name in `$.saving`."""
    named = legacy.saving  # type: ignore[attr-defined]  # Legacy has it
    told = {"filename_rank": named.filename_rank, "include_frame_idx": named.include_frame_idx}
    own = {key: getattr(params, key) for key in type(params).model_fields if key not in shared}
    blocks = {key: block for key, block in own.items() if isinstance(block, SavingParams)}
    return params.model_copy(update={key: block.model_copy(update=told) for key, block in blocks.items()})


def _asks_nothing(params: Params, key: str) -> bool:
    block = getattr(params, key)
    off = getattr(block, "enabled", True) is False
    return off or block == type(params).model_fields[key].get_default(call_default_factory=True)


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json") if isinstance(value, Params) else value
