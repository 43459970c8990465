"""One run, for scripts: start it, look at its frames and rows while it goes on, wait for its end, read its files."""

from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Self

from lima2_tango.core.sparse import SparseFrame

from . import streams
from .errors import RunFailedError, UnreachableError
from .link import Frame, Link, Rows
from .records import Progress, RunRecord

if TYPE_CHECKING:
    from .files import SavedRun

PATIENCE = 60.0
"""How long a loop over frames or rows waits for the next one, unless told otherwise [s]."""
ENDED = (
    "if its job has ended, one of the processes has died: lima2 up or the launcher names it in its log; data files "
    "that have their names are complete, and no master file is written"
)
STOP_TIMEOUT = 60.0
"""Until a stopped run has closed its files [s]."""


def getter(raw: bool) -> str:
    """The command that gives frames, as processed or as the camera made them."""
    return "getInputFrame" if raw else "getFrame"


class Run:
    """A run that was prepared. As a context manager it is stopped where its block is left before it is over.

    Whatever asks the control raises UnreachableError where that does not answer any more, RunFailedError where the
    control was restarted or has had 100 runs since, and StateError for live data once another run was prepared.
    """

    def __init__(self, link: Link) -> None:
        self.link = link
        self.uuid = link.uuid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if not isinstance(error, RunFailedError | UnreachableError):
            self.stop()

    def start(self) -> None:
        """Begin to acquire; raises RefusedError with the reason where that cannot be."""
        self.link.start()

    def trigger(self) -> None:
        """Software trigger."""
        self.link.trigger()

    def stop(self, timeout_s: float = STOP_TIMEOUT) -> RunRecord:
        """End the run and wait until its files are complete; without effect on one that is over.

        Raises NotReadyError past `timeout_s`, RunFailedError where the run failed.
        """
        self.link.stop()
        return self.wait(timeout_s)

    def result(self) -> RunRecord:
        """The control's record of the run as it is now: state, counts, error, files."""
        return self.link.record()

    def progress(self) -> Progress:
        """Counts, rates and the time that is left."""
        return self.link.progress()

    def watch(self, period_s: float = 0.1) -> Iterator[Progress]:
        """Progress every `period_s` seconds, the last time when the run is over."""
        return streams.progress(self.link, period_s)

    def wait(self, timeout_s: float) -> RunRecord:
        """Return once the run is over and its files are complete; stops nothing.

        Raises NotReadyError past `timeout_s`, RunFailedError with the control's sentence where the run failed,
        UnreachableError where the control has ended with its job.
        """
        try:
            for _ in streams.until_over(self.link, timeout_s):
                pass
        except UnreachableError as error:
            raise UnreachableError(f"{error.what}; {ENDED}", **error.info) from error
        return self.link.record()

    def frame(self, index: int = -1, raw: bool = False) -> Frame:
        """A frame by its global index, -1 for the newest; `raw` is before the processing.

        Raises NotAvailableError for one that was not made yet, DataLossError for one that is not held any more.
        """
        return self.link.frame(index, getter(raw))

    def sparse_frame(self, index: int = -1) -> SparseFrame:
        """The picked pixels of a frame and its background, of a run of Smx; raises as `frame` does."""
        return self.link.sparse_frame(index)

    def vector(self, index: int = -1, command: str = "getFaiAverint") -> Frame:
        """A vector [bin] of a frame, by a getter of its pipeline (Fai: also getFaiErrors); raises as `frame` does."""
        return self.link.frame(index, command)

    def frames(self, every: bool = False, raw: bool = False, timeout_s: float = PATIENCE) -> Iterator[Frame]:
        """Frames while the run goes on: the newest at each time, or `every` one in order.

        Ends with the run. Raises NotReadyError where none comes for `timeout_s`, RunFailedError after the last frame of
        a run that failed, and DataLossError where `every` frame is wanted and one is gone before it was read.
        """
        follow = streams.every if every else streams.newest
        return _only(follow(self.link, getter(raw), timeout_s))

    def roi_statistics(self, timeout_s: float = PATIENCE) -> Iterator[Rows]:
        """Rows of the regions of interest as they come, [frame, region], in order of the frames; each once only.

        Fields: frame_idx, recv_idx, min, max, avg, std, sum. Ends and raises as `frames` does.
        """
        return _only(streams.rows(self.link, "popRoiStatistics", timeout_s))

    def profiles(self, timeout_s: float = PATIENCE) -> Iterator[Rows]:
        """Rows of the profiles as they come, [frame, line], as `roi_statistics` gives those of the regions."""
        return _only(streams.rows(self.link, "popRoiProfiles", timeout_s))

    def read(self) -> "SavedRun":
        """The frames that the run has saved, out of its files; raises NotAvailableError where there are none."""
        from .files import saved_run  # HDF5 and its filters load when they are needed

        return saved_run(self.link.record())


def _only(steps: Iterator[streams.T | None]) -> Iterator[streams.T]:
    return (item for item in steps if item is not None)
