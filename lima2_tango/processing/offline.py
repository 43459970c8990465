"""A pipeline without a camera: frames that exist go through it, and come out one by one.

The same nodes, parameters and order of work as in a run; no Tango, no MPI, no files unless the caller opens them.
"""

import json
from collections.abc import Generator, Iterator, Mapping
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lima2_tango.core.acquisition import AcquisitionParams
from lima2_tango.core.errors import Lima2Error, ParamError
from lima2_tango.core.frame import BLOCK_BYTES, Block, FrameSpec, PixelType
from lima2_tango.core.params import Params
from lima2_tango.core.pool import Pool
from lima2_tango.core.sink import Sink
from lima2_tango.core.storage import SavingParams

from .collect import Collector, Result
from .executor import Workers
from .pipeline import Pipeline, Setup
from .plugin import PipelinePlugin, installed

P = TypeVar("P", bound=Params)

PREFIX = "LimaProcessing"
BLOCK_FRAMES = 4096
"""Most frames of a block, as cameras have it [frame]."""
MEMORY_SHARE = 0.5
"""Part of the free memory that frames may take, where no budget is given."""


@runtime_checkable
class Source(Protocol):
    """Frames that exist; `Array` is one in memory."""

    spec: FrameSpec
    index: NDArray[np.int64]
    """[frame] number of each frame in its series, ascending."""
    time: NDArray[np.float64]
    """[frame] when its exposure began, seconds since the epoch (UTC)."""
    valid: NDArray[np.bool_]
    """[frame] False for the placeholder of a lost frame."""

    def read(self, position: int, out: NDArray[np.generic], /) -> None:
        """The frames from this place in the series on into `out` [frame, channel, row, column]."""


class Array:
    """Frames in memory as a source, numbered from 0."""

    def __init__(self, frames: ArrayLike) -> None:
        """[row, column], [frame, row, column] or [frame, channel, row, column]; raises ParamError for anything else."""
        data = np.asarray(frames)
        if data.ndim == 2:
            data = data[np.newaxis]
        if data.ndim not in {3, 4} or 0 in data.shape:
            reason = "give [row, column], [frame, row, column] or [frame, channel, row, column], not empty"
            raise ParamError("frames", list(data.shape), reason)
        try:
            PixelType.of(data.dtype)
        except KeyError:
            reason = "give integers of 8, 16 or 32 bits or floats of 32 or 64, such as frames.astype('u4')"
            raise ParamError("frames", str(data.dtype), reason) from None
        self._data = data[:, np.newaxis] if data.ndim == 3 else data
        channels, height, width = self._data.shape[1:]
        self.spec = FrameSpec(channels, height, width, data.dtype.newbyteorder("="))
        self.index = np.arange(len(data), dtype=np.int64)
        self.time = np.zeros(len(data))
        self.valid = np.ones(len(data), np.bool_)

    def read(self, position: int, out: NDArray[np.generic], /) -> None:
        out[...] = self._data[position : position + len(out)]


class Share:
    """Some frames of a source, as a source."""

    def __init__(self, source: Source, places: NDArray[np.int64]) -> None:
        """`places` in the series of the source, ascending."""
        self._source, self._places = source, places
        self.spec = source.spec
        self.index, self.time, self.valid = source.index[places], source.time[places], source.valid[places]

    def read(self, position: int, out: NDArray[np.generic], /) -> None:
        for place, frame in zip(self._places[position : position + len(out)], np.split(out, len(out)), strict=True):
            self._source.read(int(place), frame)


def find_pipeline(name: str) -> PipelinePlugin:
    """By its Tango class or the end of it, in any case: LimaProcessingFai, Fai, fai. Raises ParamError."""
    known, faults = installed()
    for class_name, plugin in known.items():
        if name.lower() in {class_name.lower(), class_name.removeprefix(PREFIX).lower()}:
            return plugin
    have = ", ".join(class_name.removeprefix(PREFIX) for class_name in known)
    raise ParamError("pipeline", name, "; ".join([f"there is no such pipeline; have: {have}", *faults]))


def process(
    frames: ArrayLike | Source,
    pipeline: str = "Legacy",
    params: Mapping[str, Any] | Params | None = None,
    *,
    acquisition: Mapping[str, Any] | AcquisitionParams | None = None,
    workers: int = 1,
) -> Generator[Result, None, None]:
    """Put frames through a pipeline; yields one result for each processed frame, in order, as they are done.

    `params` are the processing parameters (`lima2 schema Fai`), what is not given is default; nothing is saved.
    `acquisition` may hold `acq.expo_time` [us], which count-rate protection uses, and `img`, the image operations.
    `workers` threads work at once. Raises ParamError before the first frame, with the JSON path of what is refused, and
    what stops the pipeline after the results before it.
    """
    source = frames if isinstance(frames, Source) else Array(frames)
    plugin = find_pipeline(pipeline)
    wanted = saving_nothing(parsed(plugin.params, params))
    threads = Workers(workers)  # none is started before the first frame
    before = parsed(AcquisitionParams, acquisition)
    made = plugin.build(wanted, Setup(before, source.spec, 0, Pool(free_memory()), threads, _opens_nothing))
    return _results(made, plugin, source)


def parsed(declared: type[P], params: Mapping[str, Any] | Params | None) -> P:
    """The parameters as declared; raises ParamError with the JSON path of the first fault."""
    if isinstance(params, declared):
        return params
    given = params.model_dump(mode="json") if isinstance(params, Params) else dict(params or {})
    return declared.parse(json.dumps(given, default=str))


def saving_nothing(params: P) -> P:
    """The same with all saving disabled."""
    off = {name: block.model_copy(update={"enabled": False}) for name, block in saving_blocks(params)}
    return params.model_copy(update=off)


def saving_blocks(params: Params) -> list[tuple[str, SavingParams]]:
    """Name and parameters of every stream of files that a pipeline may write."""
    blocks = [(name, getattr(params, name)) for name in type(params).model_fields]
    return [(name, block) for name, block in blocks if isinstance(block, SavingParams)]


def free_memory() -> int:
    """Bytes that frames may take."""
    import psutil  # not before it is needed: a rank's start counts every import

    return int(psutil.virtual_memory().available * MEMORY_SHARE)


def blocks(source: Source, pool: Pool) -> Iterator[Block]:
    """The frames in blocks as a camera cuts them, in memory of the pool."""
    spec, frames = source.spec, len(source.index)
    length = max(1, min(BLOCK_FRAMES, frames, BLOCK_BYTES // spec.nbytes))
    for begin in range(0, frames, length):
        part = slice(begin, begin + length)
        index, valid = source.index[part], source.valid[part]
        lease = pool.take(length * spec.nbytes)
        try:
            assert lease.buffer is not None  # of a pool
            data = lease.buffer[: len(index) * spec.nbytes].view(spec.dtype).reshape(len(index), *spec.shape)
            source.read(begin, data)
        except BaseException:
            lease.release()
            raise
        yield Block(data, index, begin, source.time[part], lease, None if valid.all() else valid)


def _opens_nothing(params: SavingParams, spec: FrameSpec, json_path: str, /, **_kind: Any) -> Sink:
    raise ParamError(f"{json_path}.enabled", params.enabled, "nothing is saved here: leave it false")


def _results(pipeline: Pipeline[Any], plugin: PipelinePlugin, source: Source) -> Generator[Result, None, None]:
    collector = Collector(pipeline, plugin)
    try:
        pipeline.activate(1)
        for block in blocks(source, pipeline.setup.pool):
            pipeline.put(block)
            yield from collector.complete()
        pipeline.finish()
        yield from collector.complete(every=True)
    except Lima2Error as error:
        pipeline.abort(error)
        yield from collector.complete(every=True)
        raise
    finally:
        pipeline.erase()
        pipeline.setup.workers.close()
