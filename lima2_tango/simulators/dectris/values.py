"""A value of SIMPLON's REST interface, with what its JSON says beside the value; and how a wrong one is refused."""

import base64
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lima2_tango.core.errors import DetectorError

TYPES: dict[str, tuple[type, ...]] = {"bool": (bool,), "float": (int, float), "uint": (int,), "string": (str,)}
"""What JSON must hold for each type that can be written."""


class RefusedError(DetectorError):
    """The answer to a request is no: an HTTP status, and a text.

    That an unknown path is 404 with this text is known of real detectors; the other texts are ours.
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"error during request: {text}")
        self.status = status


def unknown(path: str) -> RefusedError:
    return RefusedError(404, f'path error: unknown path: "{path}"')


@dataclass(slots=True)
class Value:
    """One parameter or reading."""

    value: Any
    kind: str
    """`value_type`: bool, float, uint, string, string[], date, float[][] or uint[][]; the last two are arrays."""
    access: str = "rw"
    unit: str = ""
    least: float | None = None
    most: float | None = None
    allowed: tuple[str, ...] = ()
    more: dict[str, Any] = field(default_factory=dict)
    """What a reading has beside: its time, its state, its limits."""

    def as_json(self) -> dict[str, Any]:
        """As the detector answers; arrays become text."""
        value = darray(self.value) if isinstance(self.value, np.ndarray) else self.value
        answer = {"access_mode": self.access, "value": value, "value_type": self.kind, **self.more}
        limits = {"min": self.least, "max": self.most}
        return (
            answer
            | ({"unit": self.unit} if self.unit else {})
            | ({"allowed_values": list(self.allowed)} if self.allowed else {})
            | {key: limit for key, limit in limits.items() if limit is not None}
        )

    def checked(self, key: str, given: Any) -> Any:
        """What `given` sets this to; raises RefusedError."""
        if "w" not in self.access:
            raise RefusedError(400, f'value error: parameter "{key}" is read-only')
        if self.kind.endswith("[][]"):
            return array_of(key, given, self.value)
        of_type: bool = isinstance(given, TYPES[self.kind])
        if isinstance(given, bool) is not (self.kind == "bool") or not of_type:
            raise _wrong(key, given, f"takes a value of type {self.kind}")
        if self.allowed and given not in self.allowed:
            raise _wrong(key, given, f"can be one of {', '.join(self.allowed)}")
        return self._within(key, float(given) if self.kind == "float" else given)

    def _within(self, key: str, given: Any) -> Any:
        least, most = self.least, self.most
        if (least is not None and not given >= least) or (most is not None and not given <= most):
            limits = f"{least:g} to {most:g}" if most is not None else f"{least:g} and more"
            raise _wrong(key, given, f"is out of range: {limits} {self.unit}".rstrip())
        return given


def _wrong(key: str, given: Any, why: str) -> RefusedError:
    return RefusedError(400, f'value error: parameter "{key}" {why}, not {given!r}')


def darray(values: NDArray[Any]) -> dict[str, Any]:
    """An array [row, column] as SIMPLON's JSON has it."""
    return {
        "__darray__": [1, 0, 0],
        "type": values.dtype.newbyteorder("<").str,
        "shape": list(values.shape),
        "filters": ["base64"],
        "data": base64.b64encode(np.ascontiguousarray(values).data).decode(),
    }


def array_of(key: str, given: Any, like: NDArray[Any]) -> NDArray[Any]:
    """The array that a darray holds, of shape and type of `like`; raises RefusedError."""
    try:
        values = np.frombuffer(base64.b64decode(given["data"]), np.dtype(given["type"]))
        found = values.reshape(like.shape).astype(like.dtype)
        fits = sorted(given["shape"]) == sorted(like.shape)
    except (KeyError, TypeError, ValueError) as error:
        raise _wrong(key, f"a value with which {error!r}", f"takes a darray of shape {like.shape}") from error
    if not fits:
        raise _wrong(key, given["shape"], f"has shape {like.shape}")
    return found
