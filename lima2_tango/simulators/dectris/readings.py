"""What a detector says of itself."""

from datetime import UTC, datetime
from typing import Any

from .series import date_text
from .settings import Table
from .values import Value

TEMPERATURE, TOO_WARM = 22.5, 48.3
"""[degC]"""


def of_detector(state: str, unique_id: str, too_warm: bool) -> Table:
    """`unique_id` is that of the last series, or empty."""
    warmth = ("critical", TOO_WARM) if too_warm else ("normal", TEMPERATURE)
    table = {
        "state": _reading(state, "string"),
        "error": _reading(["detector error: simulated"] if state == "error" else [], "string[]"),
        "time": _reading(date_text(datetime.now(UTC)), "date"),
        "temperature": _reading(warmth[1], "float", "degC", warmth[0]),
        "humidity": _reading(7.4, "float", "%"),
        "high_voltage/state": _reading("NA" if state == "na" else "READY", "string"),
        "link_0": _reading("up", "string"),
        "link_1": _reading("up", "string"),
        "series_unique_id": _reading(unique_id, "string"),
        "builder/dcu_buffer_free": _reading(99.5, "float", "%"),
    }
    table["board_000/th0_temp"], table["board_000/th0_humidity"] = table["temperature"], table["humidity"]
    return table


def of_stream(enabled: bool, armed: bool, dropped: int) -> Table:
    """`dropped` images since the stream was initialised."""
    state = "disabled" if not enabled else "acquire" if armed else "ready"
    return {
        "state": _reading(state, "string"),
        "error": _reading([], "string[]"),
        "dropped": _reading(dropped, "uint"),
    }


def of_other(module: str, enabled: bool) -> Table:
    """The file writer and the monitor take no images here, whatever they are told."""
    table = {"state": _reading("ready" if enabled else "disabled", "string"), "error": _reading([], "string[]")}
    if module == "filewriter":
        table |= {"buffer_free": _reading(10**9, "uint", "kB"), "files": _reading([], "string[]")}
    if module == "monitor":
        table |= {"buffer_fill_level": _reading(0, "uint"), "dropped": _reading(0, "uint")}
    return table


def _reading(value: Any, kind: str, unit: str = "", state: str = "normal") -> Value:
    return Value(value, kind, "r", unit, more={"time": date_text(datetime.now(UTC)), "state": state})
