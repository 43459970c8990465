"""What people look at while a run is on: its newest frame and the values of its regions.

Nothing is made before somebody reads, and nothing is taken from who pops rows.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Lock, Thread
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from lima2_tango.core.errors import NotAvailableError
from lima2_tango.core.live import Look, shrinking, shrunk
from lima2_tango.processing.plugin import PipelinePlugin
from lima2_tango.processing.rows import ROI

from .driven import DrivenRun
from .ranks import Rank, on_all
from .run import Run

T = TypeVar("T")

STATISTICS = "popRoiStatistics"
PREFERRED = "getFrame"
PATIENCE = 0.25
"""A reader waits this long for news of the receivers, then has what was known before [s]: it holds up whoever asks the
same device for its state, which the clients give up after 3 s."""


class OnDemand(Generic[T]):
    """Something that takes a while to get, got only while somebody reads; one attempt at a time."""

    def __init__(self, fetch: Callable[[], T]) -> None:
        self.fetches = 0
        self._fetch = fetch
        self._lock = Lock()
        self._known: T | None = None
        self._under_way: Future[T] | None = None

    def get(self, patience: float = PATIENCE) -> T | None:
        """What is known after `patience` seconds at most; None where nothing is. Raises what the attempt raised.

        An attempt that others have begun to wait for is not waited for again.
        """
        with self._lock:
            first = self._under_way is None
            if first:
                self._under_way = Future()
                self.fetches += 1
                Thread(target=self._run, args=(self._under_way,), name="lima2-look", daemon=True).start()
            future = self._under_way
        try:
            return future.result(patience if first else 0.0)  # type: ignore[union-attr]
        except TimeoutError:
            return self._known

    def _run(self, future: "Future[T]") -> None:
        try:
            found = self._fetch()
        except BaseException as error:  # noqa: BLE001 - boundary: the reader is told
            self._end(None)
            future.set_exception(error)
        else:
            self._end(found)
            future.set_result(found)

    def _end(self, found: T | None) -> None:
        with self._lock:
            self._known, self._under_way = found, None


@dataclass(frozen=True, slots=True)
class Regions:
    """Statistics of the regions of the newest frames."""

    frames: NDArray[np.int32]
    """Global numbers, ascending [frame]."""
    values: NDArray[np.void]
    """[frame, region] of `processing.rows.ROI`."""

    def newest(self, name: str) -> NDArray[np.float64]:
        """One statistic of the newest frame [region]; empty before the first."""
        found: NDArray[np.float64] = (self.values[-1:][name].reshape(-1)).astype(np.float64)
        return found

    def history(self, name: str, region: int) -> NDArray[np.float64]:
        """One statistic of one region [frame]; empty where there is no such region."""
        if region >= self.values.shape[1]:
            return np.empty(0)
        found: NDArray[np.float64] = self.values[name][:, region].astype(np.float64)
        return found


def regions_of(packed: Sequence[bytes]) -> Regions:
    """The regions in the rows of one or several receivers; frames whose rows are not all there are left out."""
    rows = np.concatenate([np.frombuffer(part, ROI) for part in packed] or [np.empty(0, ROI)])
    rows = rows[np.argsort(rows["frame_idx"], kind="stable")]
    frames, counts = np.unique(rows["frame_idx"], return_counts=True)
    regions = int(counts.max(initial=0))
    whole = frames[counts == regions]
    kept = rows[np.isin(rows["frame_idx"], whole)]
    return Regions(whole, kept.reshape(len(whole), regions))


def shown_stream(plugin: PipelinePlugin) -> str:
    """Label of the stream that people look at; raises NotAvailableError where the pipeline keeps no frames."""
    commands = plugin.frame_commands
    if not commands:
        raise NotAvailableError(f"the pipeline {plugin.class_name} keeps no frames to look at")
    return commands.get(PREFERRED) or next(iter(commands.values()))


def newest_number(run: Run) -> int:
    """Global number of the newest frame that people look at on this receiver; -1 before the first."""
    return run.pipeline.history(shown_stream(run.plugin)).last


def look_at(run: Run, limit: int) -> Look:
    """The newest frame of a run on this receiver, its first channel, sides within `limit` [pixel].

    Raises NotAvailableError.
    """
    with run.pipeline.history(shown_stream(run.plugin)).frame(-1) as (number, pixels):
        factor = shrinking(pixels.shape[1:], limit)
        return Look(run.uuid, number, shrunk(pixels[0], factor), factor)


def newest_of_all(ranks: Sequence[Rank], run: DrivenRun | None) -> Look:
    """The newest frame of all receivers, of the run that the control drives or of that which a conductor does.

    Raises NotAvailableError, or what a receiver refused with.
    """
    if run is not None and run.plan.acq.sharing.kept:
        raise NotAvailableError(
            "the frames of this run are kept in parts: look at the images of each receiver, or read the master file"
        )
    found: dict[int, tuple[int, str]] = {}

    def ask(number: int, rank: Rank) -> None:
        uuid = _uuid(rank, run)
        found[number] = (rank.newest(uuid) if uuid else -1, uuid)

    answers = on_all(ranks, ask)
    if not found:
        answers.check("looking")
    newest = max(found, key=lambda number: found[number][0])
    if found[newest][0] < 0:
        raise NotAvailableError("there is no frame yet: none has been processed in this run")
    return ranks[newest].look(found[newest][1])


def recent_regions(ranks: Sequence[Rank], run: DrivenRun | None) -> Regions:
    """Values of the regions of the newest frames of all receivers; nobody who pops rows misses one."""
    found: dict[int, bytes] = {}

    def ask(number: int, rank: Rank) -> None:
        if uuid := _uuid(rank, run):
            found[number] = rank.recent_rows(uuid)

    answers = on_all(ranks, ask)
    if not found:
        answers.check("looking")
    return regions_of([found[number] for number in sorted(found)])


def _uuid(rank: Rank, run: DrivenRun | None) -> str:
    """The run to look at on a receiver: what was prepared there last; the control's own costs no question."""
    if run is not None and not run.ended.is_set():
        return run.uuid
    return next(reversed(rank.acquiring().pipelines), "")
