"""The files of a processing without a run: beside its result, one for each stream of frames and each receiver."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from lima2_tango.core.errors import ParamError
from lima2_tango.core.frame import FrameSpec, VectorSpec
from lima2_tango.core.params import Params
from lima2_tango.core.storage import FileExistsPolicy, SavingParams
from lima2_tango.processing.offline import saving_blocks
from lima2_tango.processing.pipeline import Pipeline
from lima2_tango.saving.layout import SeriesMetadata, data_path

from .parameters import Choice
from .plan import Plan
from .products import saved_products, write_masters

STREAMS = {"saving": "frames"}
"""Name of a stream of files by its saving parameters; the others are named as what follows `saving_`."""
Link = tuple[str, str]
"""A file beside the result, and the group in it."""


class StreamFiles:
    """Where each stream of frames goes; of several receivers a master file shows what has an order."""

    def __init__(self, plan: Plan, output: Path, nb_frames: int, *, overwrite: bool) -> None:
        """`plan` has the parameters as a run has them; files are named after `output`. Raises ParamError."""
        self._output, self._nb_frames, self._overwrite = output, nb_frames, overwrite
        self._receivers = plan.receivers
        self._plan = Plan(
            plan.uuid, plan.acq, Choice(plan.choice.plugin, self._moved(plan.choice.params)), plan.receivers
        )
        self._plan.check()

    @property
    def paths(self) -> list[Path]:
        """All files that may be made."""
        return [*self._data_files().values(), *(file for file in self._masters().values())]

    def params(self, rank: int) -> Params:
        """What a receiver does; raises ParamError."""
        return self._plan.choice.plugin.params.parse(self._plan.texts(rank)[1])

    def finish(
        self, pipelines: Sequence[Pipeline[Any]], metadata: SeriesMetadata
    ) -> tuple[dict[str, Link], list[Path]]:
        """Links by name of stream, and all files; of pipelines that have ended. Raises SavingError."""
        files = {key: file for key, file in self._data_files().items() if file.exists()}
        if self._receivers > 1:
            counts = [pipeline.counters.read() for pipeline in pipelines]
            specs = {made.saving: _spec(pipelines[0], made.info) for made, _ in saved_products(self._plan)}
            write_masters(self._plan, specs, counts, [True] * len(counts), metadata)
        masters = {name: file for name, file in self._masters().items() if file.exists()}
        alone = {key: file for key, file in files.items() if key[0] not in masters}
        links = {name: (file.name, self._group(name, master=True)) for name, file in masters.items()}
        links |= {self._named(*key): (file.name, self._group(key[0], master=False)) for key, file in alone.items()}
        return links, [*masters.values(), *files.values()]

    def _named(self, name: str, rank: int) -> str:
        return name if self._receivers == 1 else f"{name}_{rank}"

    def _data_files(self) -> dict[tuple[str, int], Path]:
        """By name of stream and receiver."""
        folder, receivers = self._output.parent, range(self._receivers)
        names = [_name(key) for key, _ in self._plan.savings()]
        stem = self._output.stem
        return {(name, rank): folder / f"{stem}_{self._named(name, rank)}.h5" for name in names for rank in receivers}

    def _masters(self) -> dict[str, Path]:
        """By name of stream: of those of several receivers whose frames have an order."""
        if self._receivers == 1:
            return {}
        ordered = [_name(product.saving) for product, _ in saved_products(self._plan) if product.in_order]
        return {name: self._output.parent / f"{self._output.stem}_{name}_master.h5" for name in ordered}

    def _group(self, name: str, *, master: bool) -> str:
        """Where a file has its frames."""
        product, saving = next(one for one in saved_products(self._plan) if _name(one[0].saving) == name)
        if product.kind == "sparse":
            return data_path(saving)
        return f"{data_path(saving).rpartition('/')[0] if master else f'/{saving.nx_entry_name}'}/plot"

    def _moved(self, params: Params) -> Params:
        moved = {key: self._beside(saving, _name(key)) for key, saving in saving_blocks(params)}
        return params.model_copy(update=moved)

    def _beside(self, saving: SavingParams, name: str) -> SavingParams:
        """One file for all frames of a receiver, beside the result."""
        receivers = "" if self._receivers == 1 else "_{filename_rank}"
        return saving.model_copy(
            update={
                "base_path": str(self._output.parent),
                "filename_prefix": f"{self._output.stem}_{name}",
                "filename_suffix": ".h5",
                "filename_format": f"{{filename_prefix}}{receivers}{{filename_suffix}}",
                "filename_rank": 0,
                "start_number": 0,
                "nb_frames_per_file": self._nb_frames,
                "file_exists_policy": FileExistsPolicy.OVERWRITE if self._overwrite else FileExistsPolicy.ABORT,
            }
        )


def check_free(files: Sequence[Path], read: Collection[Path], *, overwrite: bool) -> None:
    """Raise ParamError for a file that is read, or exists and is not to be replaced, or whose folder is missing."""
    inputs = {path.resolve() for path in read}
    for file in files:
        if file.resolve() in inputs:
            raise ParamError("--output", str(files[0]), f"{file} would be replaced while it is read: name another")
        if not overwrite and file.exists():
            raise ParamError("--output", str(file), "it exists: name another, or say --overwrite")
    if not files[0].parent.is_dir():
        raise ParamError("--output", str(files[0]), "there is no such folder: make it")


def _name(key: str) -> str:
    """Of a stream, by the name of its saving parameters."""
    return STREAMS.get(key, key.removeprefix("saving_"))


def _spec(pipeline: Pipeline[Any], info: str) -> FrameSpec:
    found = pipeline.infos[info]
    return FrameSpec(1, 1, found.length, found.dtype) if isinstance(found, VectorSpec) else found
