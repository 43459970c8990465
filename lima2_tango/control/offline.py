"""The processing of a run, without the run: files of frames through a pipeline, into files."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lima2_tango import __version__
from lima2_tango.core.acquisition import Acq, AcquisitionParams, Image
from lima2_tango.core.errors import DetectorError, Lima2Error, ParamError, as_lima2
from lima2_tango.core.pool import Pool
from lima2_tango.processing.collect import pop_rows
from lima2_tango.processing.executor import Workers
from lima2_tango.processing.offline import Share, Source, blocks
from lima2_tango.processing.pipeline import Pipeline, Setup
from lima2_tango.saving.layout import SeriesMetadata

from .parameters import Choice
from .plan import Plan
from .results import StreamFiles, check_free
from .settings import Settings

if TYPE_CHECKING:
    from lima2_tango.cameras._recording import Recording
    from lima2_tango.saving.results import ResultFile

COUNT = "nb_frames_source"


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
    receivers: int = 1
    """As so many receivers that share a run in turn: what is summed, each sums of its own frames."""


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


class _Lane:
    """What one receiver does: its frames, through its pipeline."""

    def __init__(self, source: Source, pipeline: Pipeline[Any]) -> None:
        self.pipeline = pipeline
        self._source, self._blocks, self._put = source, blocks(source, pipeline.setup.pool), 0

    @property
    def rest(self) -> int:
        """Frames to come."""
        return len(self._source.index) - self._put

    @property
    def next(self) -> int:
        """Number of the next frame in the series."""
        return int(self._source.index[self._put])

    def step(self) -> None:
        """A block; raises DetectorError where it cannot be read, and what stopped the pipeline."""
        block = next(self._blocks)
        self._put += len(block)
        self.pipeline.put(block)


class _Processing:
    def __init__(self, order: Order, recording: "Recording", pool: Pool, workers: Workers) -> None:
        """Check everything; raises ParamError."""
        self._order, self._nb_frames = order, len(recording)
        acquisition = _acquisition(order, recording)
        self._setup = partial(Setup, acquisition, recording.spec, pool=pool, workers=workers)
        plan = Plan("", acquisition, order.choice, order.receivers)
        self._files = StreamFiles(plan, order.output, len(recording), overwrite=order.overwrite)
        check_free([order.output, *self._files.paths], recording.paths, overwrite=order.overwrite)
        self._metadata = _metadata(acquisition, self._files.params(0).json_text(), recording)
        self._rows: dict[str, list[NDArray[np.void]]] = {}
        self._lanes: list[_Lane] = []
        try:
            for rank in range(order.receivers):
                self._lanes.append(self._lane(rank, recording))
        except BaseException:
            self._erase()
            raise

    def _lane(self, rank: int, recording: "Recording") -> _Lane:
        from lima2_tango.saving.writer import opener

        receivers = self._order.receivers
        own = recording if receivers == 1 else Share(recording, np.flatnonzero(recording.index % receivers == rank))
        sinks = opener(rank, replace(self._metadata, rank=rank), len(own.index), exact=True)
        params = self._files.params(rank)
        return _Lane(own, self._order.choice.plugin.build(params, self._setup(rank=rank, open_sink=sinks)))

    def run(self, tell: Tell, stopping: Callable[[], bool]) -> Outcome:
        from lima2_tango.saving.results import ResultFile

        order, outcome, begin = self._order, Outcome(self._nb_frames), time.monotonic()
        try:
            name = order.choice.plugin.class_name
            with ResultFile(order.output, self._metadata, name, order.files, order.overwrite) as result:
                outcome.error = self._fill(result, outcome, tell, stopping)
                outcome.counters = self._counters()
                outcome.nb_frames_done = self._done()
                links, files = self._files.finish([lane.pipeline for lane in self._lanes], self._metadata)
                result.complete(links)
            outcome.files = [order.output, *files]
        finally:
            self._erase()
            outcome.seconds = time.monotonic() - begin
        return outcome

    def _erase(self) -> None:
        for lane in self._lanes:
            lane.pipeline.erase()

    def _fill(
        self, result: "ResultFile", outcome: Outcome, tell: Tell, stopping: Callable[[], bool]
    ) -> Lima2Error | None:
        """All frames, unless something stops them; returns what did."""
        failure: Lima2Error | None = None
        try:
            self._put_all(result, outcome, tell, stopping)
            self._finish()
        except Exception as error:  # noqa: BLE001 - boundary: what is done is kept, and the caller is told the rest
            failure = as_lima2(error)
            for lane in self._lanes:
                lane.pipeline.abort(failure)
        self._keep_rows(result)
        for name, kept in self._rows.items():
            rows = np.concatenate(kept)
            result.append(name, rows[np.argsort(rows["frame_idx"], kind="stable")])
        tell(self._done(), outcome.nb_frames)
        return failure

    def _put_all(self, result: "ResultFile", outcome: Outcome, tell: Tell, stopping: Callable[[], bool]) -> None:
        for lane in self._lanes:
            if lane.pipeline.fails_activation:
                raise Lima2Error("the pipeline fails its activation, as its parameter failed_on_activate asks")
            lane.pipeline.activate(len(self._lanes))
        while any(lane.rest for lane in self._lanes):
            for lane in self._lanes:
                if not lane.rest:
                    continue
                if stopping():
                    outcome.interrupted = True
                    return
                self._step(lane)
                self._keep_rows(result)
                tell(self._done(), outcome.nb_frames)

    def _step(self, lane: _Lane) -> None:
        try:
            lane.step()
        except DetectorError as error:
            self._finish()  # what came before it is whole
            raise _unreadable(error, lane.next) from error

    def _finish(self) -> None:
        for lane in self._lanes:
            lane.pipeline.finish()

    def _counters(self) -> dict[str, int]:
        counts = [lane.pipeline.counters.read() for lane in self._lanes]
        return {name: sum(one[name] for one in counts) for name in counts[0]}

    def _done(self) -> int:
        return self._counters().get(COUNT, 0)

    def _keep_rows(self, result: "ResultFile") -> None:
        """As they come, in order; rows of several receivers are put in order at the end."""
        for lane in self._lanes:
            for name, rows in pop_rows(lane.pipeline).items():
                if len(self._lanes) == 1:
                    result.append(name, rows)
                else:
                    self._rows.setdefault(name, []).append(rows)


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
