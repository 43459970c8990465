"""One parameter of the detector after the other: noted, checked, or written."""

from math import isclose
from typing import Any, Protocol

from lima2_tango.core.errors import ParamError

from ._simplon import Entry, RefusedError, Simplon

SMALLEST_CHANGE = 1e-6
"""Two values of the detector are the same where they differ by less, relatively."""
MOVED = {"count_time", "frame_time"}
"""Parameters whose limits others move: they are known when those are set."""
ROUNDING = 1e-3
"""The detector rounds times to its clock: a change beyond this, relatively, is told."""


class Settings(Protocol):
    """Takes what a run wants of the detector, parameter by parameter."""

    def put(self, key: str, value: Any, path: str, given: object, module: str = "detector") -> None:
        """`given` is what the user gave at `path`, of which `value` of `key` follows."""

    def switch(self, key: str, value: Any, path: str, default: object, module: str = "detector") -> None:
        """As `put`; but a detector without such a parameter may keep its `default`."""


class Wanted(Settings):
    """Only notes it, to see whether the detector is set so."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, str], Any] = {}

    def put(self, key: str, value: Any, path: str, given: object, module: str = "detector") -> None:
        self.values[module, key] = value

    def switch(self, key: str, value: Any, path: str, default: object, module: str = "detector") -> None:
        self.values[module, key] = value


class Checker(Settings):
    """Looks whether the detector can be set so, and changes nothing."""

    def __init__(self, simplon: Simplon) -> None:
        self._simplon = simplon

    def put(self, key: str, value: Any, path: str, given: object, module: str = "detector") -> None:
        """Raises ParamError for what is beyond the detector's limits, or where it has no such parameter."""
        if key not in MOVED:
            self.check(key, value, path, given, module)

    def switch(self, key: str, value: Any, path: str, default: object, module: str = "detector") -> None:
        """As `put`; but a detector without such a parameter may keep its `default`."""
        if self._simplon.find(key, module=module) is not None or value != default:
            self.put(key, value, path, value, module)

    def check(self, key: str, value: Any, path: str, given: object, module: str) -> Entry:
        """The parameter as it is now; raises ParamError."""
        entry = self._simplon.find(key, module=module)
        if entry is None:
            raise ParamError(path, given, f"this detector has no {key} (SIMPLON {self._simplon.version})")
        if same(entry.value, value):
            return entry
        if entry.allowed and value not in entry.allowed:
            raise ParamError(path, given, f"this detector's {key} is one of {', '.join(map(str, entry.allowed))}")
        for limit, word in ((entry.least, "at least"), (entry.most, "at most")):
            beyond = limit is not None and (value < limit if word == "at least" else value > limit)
            if beyond and not same(value, limit):
                raise ParamError(path, given, f"this detector's {key} is {word} {limit} {entry.unit}".rstrip())
        return entry


class Setter(Checker):
    """Writes what differs, and tells of refusals by the path of the parameter."""

    def put(self, key: str, value: Any, path: str, given: object, module: str = "detector") -> None:
        """Raises ParamError with the detector's own message, or as `check`."""
        if same(self.check(key, value, path, given, module).value, value):
            return
        try:
            self._simplon.put(key, value, module)
        except RefusedError as error:
            raise ParamError(path, given, f"the detector refuses {key} = {value}: {error.reason}") from error


def same(one: Any, other: Any) -> bool:
    """Numbers but for rounding, anything else exactly."""
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (one, other))
    return isclose(one, other, rel_tol=SMALLEST_CHANGE) if numbers else bool(one == other and type(one) is type(other))


def alike(one: Any, other: Any) -> bool:
    """As `same`, but for what the detector rounds."""
    if isinstance(one, float) and isinstance(other, float):
        return isclose(one, other, rel_tol=ROUNDING, abs_tol=2e-7)
    return same(one, other)
