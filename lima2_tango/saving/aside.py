"""Files of an earlier run that this run replaces: hidden while it runs, gone or back when it ends."""

import os
from contextlib import suppress

from .folder import translated
from .names import FileNames


class Aside:
    """Keeps `name` as `.name.old` until its replacement is complete.

    Left under its name, a reader who asks for a frame of this run would get one of the earlier run. What a killed
    process left hidden is taken over: it counts as the earlier run's file.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._hidden: list[str] = []

    def hide(self, names: FileNames) -> None:
        """Hide all files that the series may replace; raises SavingError."""
        with translated(self._folder, "the files to overwrite cannot be set aside"):
            listing = os.listdir(self._folder)
            left = [name[1:].removesuffix(".old") for name in listing if name[:1] == "." and name.endswith(".old")]
            self._hidden = names.taken(left)
            for name in names.taken(listing):
                os.replace(self._full(name), self._aside(name))
                if name not in self._hidden:
                    self._hidden.append(name)

    def replaced(self, name: str) -> None:
        """The new file is complete: the old one goes."""
        if name in self._hidden:
            self._hidden.remove(name)
            with suppress(FileNotFoundError):
                os.unlink(self._aside(name))

    def restore(self) -> None:
        """Give the files that were not replaced their names again, where those are free; raises SavingError."""
        hidden, self._hidden = self._hidden, []
        for name in hidden:
            with translated(self._full(name), f"the file of the earlier run is left as {self._aside(name)}"):
                if os.path.lexists(self._aside(name)) and not os.path.lexists(self._full(name)):
                    os.rename(self._aside(name), self._full(name))

    def _full(self, name: str) -> str:
        return os.path.join(self._folder, name)

    def _aside(self, name: str) -> str:
        return os.path.join(self._folder, f".{name}.old")
