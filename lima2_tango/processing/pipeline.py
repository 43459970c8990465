"""What every pipeline is to the rest: blocks go in, counters, frames and rows can be read."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Lock
from typing import ClassVar, Generic, TypeVar

from lima2_tango.core.acquisition import AcquisitionParams
from lima2_tango.core.errors import NotAvailableError
from lima2_tango.core.frame import Block, FrameSpec
from lima2_tango.core.params import Params
from lima2_tango.core.pool import Pool
from lima2_tango.core.sink import OpenSink

from .executor import Workers
from .history import History
from .rows import RowQueue

P = TypeVar("P", bound=Params)


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

    def add(self, **counts: int) -> None:
        with self._lock:
            for name, count in counts.items():
                self._counts[name] += count

    def read(self) -> dict[str, int]:
        with self._lock:
            return dict(self._counts)


class Pipeline(ABC, Generic[P]):
    """One acquisition's processing on one receiver.

    Built at Prepare (whatever cannot work raises there), activated at Start, fed by the acquisition's thread,
    finished once, read until it is erased.
    """

    class_name: ClassVar[str]
    """Tango class, as the clients know it."""
    params_cls: ClassVar[type[Params]]
    frame_commands: ClassVar[Mapping[str, str]] = {}
    """Getter command -> label of the stream it reads."""
    row_commands: ClassVar[tuple[str, ...]] = ()
    """Pop commands."""
    info_attributes: ClassVar[tuple[str, ...]] = ()
    """Attributes with a frame info; keys of `infos`."""

    def __init__(self, params: P, setup: Setup) -> None:
        self.params = params
        self.setup = setup
        self.receivers = 1
        self.histories: dict[str, History] = {}
        """By label."""
        self.rows: dict[str, RowQueue] = {}
        """By pop command."""
        self.infos: dict[str, FrameSpec] = {}
        self.counters = Counters("nb_frames_source")

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
        """Complete everything that was put and close the files; raises what stopped the pipeline."""

    @abstractmethod
    def abort(self, error: Exception) -> None:
        """Stop after a failure: release what is queued, close the files with what they have."""

    def erase(self) -> None:
        """Forget all frames and rows."""
        for history in self.histories.values():
            history.clear()

    def last_frames(self) -> dict[str, int]:
        return {f"{label}_idx": history.last for label, history in self.histories.items()}

    def history(self, command: str) -> History:
        """The stream behind a getter; raises NotAvailableError where this run does not keep it."""
        label = self.frame_commands[command]
        if label not in self.histories:
            raise NotAvailableError(f"this run keeps no {label} frames")
        return self.histories[label]

    def pop(self, command: str) -> bytes:
        """Packed rows since the last pop, empty when there are none."""
        return self.rows[command].pop() if command in self.rows else b""


OnError = Callable[[Exception], None]
