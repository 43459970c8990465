"""What every pipeline is to the rest: blocks go in, counters, frames and rows can be read."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Generic, TypeVar

from lima2_tango.core.acquisition import AcquisitionParams
from lima2_tango.core.errors import MemoryBudgetError, NotAvailableError
from lima2_tango.core.frame import BLOCK_BYTES, Block, FrameSpec, VectorSpec
from lima2_tango.core.params import Params
from lima2_tango.core.pool import MIN_SLABS, Evictor, Pool
from lima2_tango.core.sink import OpenSink
from lima2_tango.core.units import bytes_text

from .executor import Workers
from .history import History
from .rows import RowQueue

P = TypeVar("P", bound=Params)
H = TypeVar("H", bound=History)

QUEUE_SHARE = 0.5
"""Part of the memory budget that blocks in flight may take; the rest is for the camera and for readers."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What a pipeline is built with, at Prepare."""

    acquisition: AcquisitionParams
    spec: FrameSpec
    """The camera's frames."""
    rank: int
    pool: Pool
    workers: Workers
    open_sink: OpenSink
    allowed_commands: tuple[str, ...] = ()
    """Programs that a pipeline may run (device property `allowed_commands`)."""


class Counters:
    """Named counts that never decrease; read as one consistent set."""

    def __init__(self, *names: str) -> None:
        self._lock = Lock()
        self._counts = dict.fromkeys(names, 0)

    def also(self, *names: str) -> None:
        """Count these, too; before anybody reads."""
        self._counts |= dict.fromkeys(names, 0)

    def add(self, **counts: int) -> None:
        with self._lock:
            for name, count in counts.items():
                self._counts[name] += count

    def read(self) -> dict[str, int]:
        with self._lock:
            return dict(self._counts)


@dataclass(frozen=True, slots=True)
class Pressure:
    """Where frames queue: what a person looks at when a pipeline cannot keep up."""

    blocks_queued: int = 0
    """Blocks that the camera has handed over and that are not committed yet."""
    most_blocks_queued: int = 0
    """The most there were at once in this run."""
    queue_waits: int = 0
    """How often the camera had to wait for room in the queue."""
    bytes_saved: int = 0
    """Bytes of images in the files, as compressed."""
    saving_rate: float = 0.0
    """Growth of that in the last second [byte/s]."""


class Pipeline(ABC, Generic[P]):
    """One acquisition's processing on one receiver.

    Built at Prepare (whatever cannot work raises there), activated at Start, fed by the acquisition's thread,
    finished once, read until it is erased.
    """

    def __init__(self, params: P, setup: Setup) -> None:
        self.params = params
        self.setup = setup
        self.receivers = 1
        self.histories: dict[str, History] = {}
        """By label."""
        self.rows: dict[str, RowQueue] = {}
        """By pop command."""
        self.infos: dict[str, FrameSpec | VectorSpec] = {}
        self.counters = Counters("nb_frames_source")
        self.on_failure: Callable[[], None] = _nothing
        """Called once, from any thread, as soon as processing cannot go on; the next `put` or `finish` says why."""
        self._evictors: list[Evictor] = []

    @property
    def fails_activation(self) -> bool:
        """True for a pipeline that must fail when it is started (the Failing pipeline, on request)."""
        return False

    def activate(self, receivers: int) -> None:
        """The run starts with this many receivers."""
        self.receivers = receivers

    @abstractmethod
    def put(self, block: Block) -> None:
        """Take a block and its lease; waits while the queue is full, raises what stopped the pipeline."""

    @abstractmethod
    def finish(self) -> None:
        """Complete everything that was put and close the files; raises what stopped the pipeline. Safe twice."""

    @abstractmethod
    def abort(self, error: Exception) -> None:
        """Stop after a failure: release what is queued, close the files with what they have. Safe twice.

        Never raises our errors: what also goes wrong on the way is added to the `info` of a Lima2Error.
        """

    def erase(self) -> None:
        """Forget all frames and rows; after `finish` or `abort`, safe twice."""
        while self._evictors:
            self.setup.pool.remove_evictor(self._evictors.pop())
        for history in self.histories.values():
            history.clear()
        for queue in self.rows.values():
            queue.pop()

    def keep(self, labels: Iterable[str], limit: int) -> History:
        """Keep the last `limit` frames of a stream, under one or several labels, until their memory is needed."""
        names = tuple(labels)
        return self.register(History(" and ".join(names), limit), names)

    def register(self, history: H, names: Iterable[str]) -> H:
        """Make a history readable under these labels, until its memory is needed."""
        self.histories.update(dict.fromkeys(names, history))
        self._evictors.append(history.evict)
        self.setup.pool.add_evictor(history.evict)
        return history

    def let_go(self) -> None:
        """The run is over: a later one may have the memory of all its frames, the newest included."""
        for history in self.histories.values():
            history.keep_newest = False

    def reserve(self, made: Sequence[FrameSpec]) -> int:
        """Reserve memory for what the workers make of a block; returns how many blocks it lets be in flight.

        `made` are the specs of all frames that one camera frame becomes on its way. Raises MemoryBudgetError.
        """
        pool, spec = self.setup.pool, self.setup.spec
        frames, budget = max(1, BLOCK_BYTES // spec.nbytes), pool.budget - pool.pinned
        in_flight = frames * sum(each.nbytes for each in (spec, *made))
        if made and budget < MIN_SLABS * in_flight:
            raise MemoryBudgetError(
                f"{MIN_SLABS} blocks of {frames} frames, which take {bytes_text(in_flight)} each on their way through "
                f"the processing, do not fit the {bytes_text(budget)} that are left of the memory budget: use smaller "
                "or fewer prefetched frames, fewer corrections, or raise the device property memory_budget",
                budget=pool.budget,
            )
        for each in made:
            pool.reserve(frames * each.nbytes, self.setup.workers.count + 2)
        return max(2, int(budget * QUEUE_SHARE) // in_flight)

    def pressure(self) -> Pressure:
        """Where frames queue; all zero for a pipeline that has no queue."""
        return Pressure()

    def last_frames(self) -> dict[str, int]:
        """`<label>_idx` -> global index of the newest frame of each stream, -1 before the first."""
        return {f"{label}_idx": history.last for label, history in self.histories.items()}

    def history(self, label: str) -> History:
        """The stream of that label; raises NotAvailableError where this run does not keep it."""
        if label not in self.histories:
            raise NotAvailableError(f"this run keeps no {label} frames")
        return self.histories[label]

    def pop(self, command: str) -> bytes:
        """Packed rows since the last pop, empty when there are none."""
        return self.rows[command].pop() if command in self.rows else b""

    def recent(self, command: str) -> bytes:
        """Packed rows of the newest frames, which stay for who pops; empty when there are none."""
        return self.rows[command].recent() if command in self.rows else b""


def _nothing() -> None:
    """Nobody wants to hear of a failure."""
