"""The rows that can be measured, by their name in docs/explanations."""

from collections.abc import Callable

from . import responsiveness
from .row import Row

Measure = Callable[[bool, Callable[[str], None]], Row]
"""(short form, what to tell the person who waits) -> row"""

ROWS: dict[str, Measure] = {"P11": responsiveness.measure}
