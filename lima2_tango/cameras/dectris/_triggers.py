"""Commands that last as long as exposures do, given one after the other by a thread of their own."""

import logging
from queue import SimpleQueue
from threading import Event, Thread

from lima2_tango.core.errors import DetectorError

from ._simplon import Simplon

log = logging.getLogger(__name__)

PATIENCE = 30.0
"""A trigger may take so much longer than its exposures [s]."""

RETURN = 1.0
"""A command that was aborted comes back within this [s]."""


class Triggers:
    """Software triggers of one run; the detector's command comes back when the exposures are over."""

    def __init__(self, simplon: Simplon, exposures: float) -> None:
        """`exposures` is how long those of one trigger take [s]."""
        self._simplon, self._limit = simplon, exposures + PATIENCE
        self._queue: SimpleQueue[bool] = SimpleQueue()
        self._ended = Event()
        self.error: DetectorError | None = None
        """Why triggers are not taken any more."""
        self._thread = Thread(target=self._main, name="lima2-dectris-triggers", daemon=True)
        self._thread.start()

    def add(self) -> None:
        """One trigger, queued while an earlier one is still exposing."""
        self._queue.put(True)

    def end(self) -> None:
        """No more of them; the one under way ends with the detector's abort, which is for the caller to give."""
        self._ended.set()
        self._queue.put(False)

    def join(self) -> None:
        """After the abort: wait for the command under way to come back, within a bound."""
        self._thread.join(RETURN)

    def _main(self) -> None:
        while self._queue.get() and not self._ended.is_set():
            try:
                self._simplon.command("trigger", limit=self._limit)
            except DetectorError as error:
                if not self._ended.is_set():
                    self.error = error
                    log.error("a trigger failed: %s", error)  # noqa: TRY400
                return
