"""The log of a system: one line an event."""

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path

LOG = "lima2.log"
Show = Callable[[str], None]


class Events:
    """Appends `time event` to `logs/lima2.log` of a run directory, and shows each event.

    A full disk or a closed terminal takes the line, not the system.
    """

    def __init__(self, folder: Path, show: Show) -> None:
        self.file = folder / "logs" / LOG
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.last = ""
        self._show = show

    def __call__(self, what: str) -> None:
        self.last = " ".join(what.split())
        line = f"{now()} {self.last}"
        with suppress(OSError), self.file.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        with suppress(OSError):
            self._show(line)


def now() -> str:
    """Local time with its offset, to the millisecond, ISO."""
    return datetime.now().astimezone().isoformat(timespec="milliseconds")
