"""The processing of a run, without the run: files of frames through a pipeline, into files."""

import json
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lima2_tango import __version__
from lima2_tango.core.acquisition import Acq, AcquisitionParams, Image
from lima2_tango.core.errors import DetectorError, Lima2Error, ParamError, as_lima2
from lima2_tango.core.pool import Pool
from lima2_tango.core.storage import FileExistsPolicy, SavingParams
from lima2_tango.processing.collect import pop_rows
from lima2_tango.processing.executor import Workers
from lima2_tango.processing.offline import blocks, saving_blocks
from lima2_tango.processing.pipeline import Pipeline, Setup
from lima2_tango.saving.layout import SeriesMetadata, data_path

from .parameters import Choice
from .products import KINDS
from .settings import Settings

if TYPE_CHECKING:
    from lima2_tango.cameras._recording import Recording
    from lima2_tango.saving.results import ResultFile

COUNT = "nb_frames_source"
STREAMS = {"saving": "frames"}
"""Name of a stream of files by its saving parameters; the others are named as what follows `saving_`."""


@dataclass(frozen=True, slots=True)
class Order:
    """What to process, with what, and where to."""

    files: Sequence[Path]
    choice: Choice
    output: Path
    """The result; the files of frames are named after it."""
    dataset: str = ""
    """Where the images of HDF5 files are; their default plot where it is empty."""
    start: int = 0
    stop: int | None = None
    """Places in the series of the first frame and of the one after the last; None is the end."""
    acquisition: Mapping[str, Any] = field(default_factory=dict)
    """Acquisition parameters: of these `img` and the times of `acq` are used."""
    overwrite: bool = False
    """Files that exist give way."""
    workers: int = 0
    """Threads that run kernels; 0 is the cores of the computer."""


@dataclass(slots=True)
class Outcome:
    """What became of it."""

    nb_frames: int = 0
    """Frames that were asked for."""
    nb_frames_done: int = 0
    """Those of them that were processed."""
    counters: dict[str, int] = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)
    """The result, and the files of its frames."""
    seconds: float = 0.0
    interrupted: bool = False
    error: Lima2Error | None = None


Tell = Callable[[int, int], None]
"""Told how many frames are done, and how many there are."""


def recording(
    *files: str | Path, dataset: str = "", start: int = 0, stop: int | None = None
) -> "AbstractContextManager[Recording]":
    """Frames of files, for `lima2_tango.processing.process`; a context that closes them.

    HDF5 (data files and master files of a run, or others, whose images are at `dataset`), CBF, EDF, TIFF; of these the
    places `start` to `stop` - 1 of the series. Raises ParamError.
    """
    from lima2_tango.cameras._recording import Recording  # HDF5 takes half a second to load: only where it is needed

    return closing(Recording([Path(file).absolute() for file in files], dataset, start, stop))


def process_files(order: Order, tell: Tell, stopping: Callable[[], bool]) -> Outcome:
    """Process all frames, or those before `stopping` says so; what is done is kept, the files are complete.

    Raises ParamError for what cannot work, before anything is written. What goes wrong later is in the outcome.
    """
    order = replace(order, output=order.output.absolute())
    settings = Settings()
    frames = recording(*order.files, dataset=order.dataset, start=order.start, stop=order.stop)
    with frames as found, closing(Workers(order.workers or settings.worker_count(1))) as threads:
        return _Processing(order, found, Pool(settings.budget(1)), threads).run(tell, stopping)


class _Processing:
    def __init__(self, order: Order, recording: "Recording", pool: Pool, workers: Workers) -> None:
        """Check everything; raises ParamError."""
        from lima2_tango.saving.writer import opener

        self._order, self._recording = order, recording
        acquisition = _acquisition(order, recording)
        params, self._streams = _redirected(order, len(recording))
        _check_free([order.output, *(file for file, _ in self._streams.values())], recording.paths, order.overwrite)
        self._metadata = _metadata(acquisition, params.json_text(), recording)
        setup = Setup(
            acquisition, recording.spec, 0, pool, workers, opener(0, self._metadata, len(recording), exact=True)
        )
        self._pipeline: Pipeline[Any] = order.choice.plugin.build(params, setup)

    def run(self, tell: Tell, stopping: Callable[[], bool]) -> Outcome:
        from lima2_tango.saving.results import ResultFile

        order, outcome, begin = self._order, Outcome(len(self._recording)), time.monotonic()
        try:
            name = order.choice.plugin.class_name
            with ResultFile(order.output, self._metadata, name, order.files, order.overwrite) as result:
                outcome.error = self._fill(result, outcome, tell, stopping)
                outcome.counters = self._pipeline.counters.read()
                outcome.nb_frames_done = outcome.counters.get(COUNT, 0)
                made = {name: file for name, (file, _) in self._streams.items() if file.exists()}
                result.complete({name: (file.name, self._streams[name][1]) for name, file in made.items()})
            outcome.files = [order.output, *made.values()]
        finally:
            self._pipeline.erase()
            outcome.seconds = time.monotonic() - begin
        return outcome

    def _fill(
        self, result: "ResultFile", outcome: Outcome, tell: Tell, stopping: Callable[[], bool]
    ) -> Lima2Error | None:
        """All frames, unless something stops them; returns what did."""
        failure: Lima2Error | None = None
        try:
            self._put_all(result, outcome, tell, stopping)
            self._pipeline.finish()
        except Exception as error:  # noqa: BLE001 - boundary: what is done is kept, and the caller is told the rest
            failure = as_lima2(error)
            self._pipeline.abort(failure)
        _keep_rows(self._pipeline, result)
        tell(self._done(), outcome.nb_frames)
        return failure

    def _put_all(self, result: "ResultFile", outcome: Outcome, tell: Tell, stopping: Callable[[], bool]) -> None:
        if self._pipeline.fails_activation:
            raise Lima2Error("the pipeline fails its activation, as its parameter failed_on_activate asks")
        self._pipeline.activate(1)
        put = 0
        source = blocks(self._recording, self._pipeline.setup.pool)
        while put < outcome.nb_frames:
            if stopping():
                outcome.interrupted = True
                return
            try:
                block = next(source)
            except DetectorError as error:
                self._pipeline.finish()  # what came before it is whole
                raise _unreadable(error, int(self._recording.index[put])) from error
            put += len(block)
            self._pipeline.put(block)
            _keep_rows(self._pipeline, result)
            tell(self._done(), outcome.nb_frames)

    def _done(self) -> int:
        return self._pipeline.counters.read().get(COUNT, 0)


def _keep_rows(pipeline: Pipeline[Any], result: "ResultFile") -> None:
    for name, rows in pop_rows(pipeline).items():
        result.append(name, rows)


def _unreadable(error: DetectorError, first: int) -> DetectorError:
    """In the words of one who named the files, and has no detector."""
    what = error.what.replace("$.det.frame_slice", "--frames")
    return DetectorError(f"{what} (in the block that begins with frame {first} of the series)", **error.info)


def _acquisition(order: Order, recording: "Recording") -> AcquisitionParams:
    """Times of the order, else of the run that the files are of; image operations of the order alone.

    Raises ParamError for image operations that the frames have behind them.
    """
    before = _parsed(recording)
    image = Image.parse(json.dumps(order.acquisition.get("img", {})))
    if image != Image() and before.get("img", {}) not in ({}, Image().model_dump(mode="json")):
        reason = "the frames of the files have been through image operations already: leave them out"
        raise ParamError("$.img", order.acquisition["img"], reason)
    times: dict[str, Any] = order.acquisition.get("acq") or before.get("acq") or {}
    used = {name: times[name] for name in ("expo_time", "latency_time") if name in times}
    acq = Acq.parse(json.dumps({**used, "nb_frames": len(recording)}))
    return AcquisitionParams(acq=acq, img=image)


def _parsed(recording: "Recording") -> dict[str, Any]:
    """Acquisition parameters of the run that the files are of; empty where they do not say."""
    try:
        found = json.loads(recording.about.acquisition or "{}")
    except json.JSONDecodeError:  # another program's text under this name
        return {}
    return found if isinstance(found, dict) else {}


def _redirected(order: Order, nb_frames: int) -> tuple[Any, dict[str, tuple[Path, str]]]:
    """Parameters whose files are those of the order; and file and group of each stream that is saved."""
    params, changes, streams = order.choice.params, {}, {}
    for key, saving in saving_blocks(params):
        name = STREAMS.get(key, key.removeprefix("saving_"))
        moved = _moved(saving, order, name, nb_frames)
        changes[key] = moved
        if saving.enabled:
            group = data_path(saving) if KINDS.get(key) == "sparse" else f"/{saving.nx_entry_name}/plot"
            streams[name] = order.output.parent / f"{moved.filename_prefix}.h5", group
    return params.model_copy(update=changes), streams


def _moved(saving: SavingParams, order: Order, name: str, nb_frames: int) -> SavingParams:
    """One file for the whole stream, beside the result."""
    return saving.model_copy(
        update={
            "base_path": str(order.output.parent),
            "filename_prefix": f"{order.output.stem}_{name}",
            "filename_suffix": ".h5",
            "filename_format": "{filename_prefix}{filename_suffix}",
            "filename_rank": 0,
            "start_number": 0,
            "nb_frames_per_file": nb_frames,
            "file_exists_policy": FileExistsPolicy.OVERWRITE if order.overwrite else FileExistsPolicy.ABORT,
        }
    )


def _check_free(files: Sequence[Path], read: Collection[Path], overwrite: bool) -> None:
    """Raise ParamError for a file that is read, or exists and is not to be replaced, or whose folder is missing."""
    inputs = {path.resolve() for path in read}
    for file in files:
        if file.resolve() in inputs:
            raise ParamError("--output", str(files[0]), f"{file} would be replaced while it is read: name another")
        if not overwrite and file.exists():
            raise ParamError("--output", str(file), "it exists: name another, or say --overwrite")
    if not files[0].parent.is_dir():
        raise ParamError("--output", str(files[0]), "there is no such folder: make it")


def _metadata(acquisition: AcquisitionParams, processing: str, recording: "Recording") -> SeriesMetadata:
    return SeriesMetadata(
        plugin="files",
        model=recording.about.model,
        serial=recording.about.serial,
        pixel_size=recording.about.pixel_size,
        expo_time_us=acquisition.acq.expo_time,
        latency_time_us=acquisition.acq.latency_time,
        acquisition_json=acquisition.json_text(),
        processing_json=processing,
        rank=0,
        version=__version__,
    )
