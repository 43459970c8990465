"""The rows that can be measured, by name."""

from collections.abc import Callable, Sequence

from lima2_tango.core.errors import ParamError

from . import responsiveness
from .row import Row

Tell = Callable[[str], None]
"""Takes what a person who waits should read."""

ROWS: dict[str, Callable[[bool, Tell], Row]] = {"P11": responsiveness.measure}
"""Name -> (short form, tell) -> row"""


def measure(names: Sequence[str], short: bool, tell: Tell) -> list[Row]:
    """Measure the named rows, all where none is named; raises ParamError for a name that there is not."""
    for name in names:
        if name not in ROWS:
            raise ParamError("ROW", name, f"there is no such row; have: {', '.join(ROWS)}")
    return [ROWS[name](short, tell) for name in names or ROWS]
