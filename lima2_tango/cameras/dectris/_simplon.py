"""SIMPLON: the detector's REST interface, as one connection to it.

Source: DECTRIS SIMPLON API reference, versions 1.6 to 1.8. Addresses are `/<module>/api/<version>/<task>/<key>`, values
are JSON objects `{"value": ..., "unit": ..., "min": ..., "max": ..., "allowed_values": [...]}`.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lima2_tango.core.errors import DetectorError

if TYPE_CHECKING:
    import httpx  # it takes a third of a second to load: not at start-up

OK, NOT_FOUND, BROKEN = 200, 404, 500
"""Of HTTP."""
VERSIONS = ("1.8.0", "1.7.0", "1.6.0")
"""Known ones; others of 1.6 to 1.8 are taken as they name themselves."""
KNOWN = re.compile(r"1\.[678]\.\d+")
CONNECT_LIMIT = 2.0
"""Less than the 3 s that Tango's clients wait for a reading [s]."""
READ_LIMIT = 5.0
"""Reading a value, or writing one that changes little [s]."""
WRITE_LIMIT = 60.0
"""Writing an energy has a large detector compute its tables anew [s]."""
INITIALIZE_LIMIT = 120.0
"""Switching on the readout [s]."""
ARM_LIMIT = 60.0


@dataclass(frozen=True, slots=True)
class Entry:
    """A parameter or a reading of the detector."""

    value: Any
    unit: str = ""
    least: float | None = None
    most: float | None = None
    allowed: tuple[Any, ...] = ()
    critical: bool = False
    """Of a reading: the detector says that it is beyond its limits."""


class NotThereError(DetectorError):
    """The detector has no such parameter."""


class BrokenError(DetectorError):
    """The connection broke while the detector was asked."""


class RefusedError(DetectorError):
    """The detector refused a value or a command; `reason` is its own message."""

    def __init__(self, what: str, reason: str, status: int = 400) -> None:
        """`status` is that of HTTP."""
        super().__init__(what)
        self.reason, self.status = reason, status


class Simplon:
    """One detector's interface; methods may be called from any thread, and raise DetectorError."""

    def __init__(self, address: str) -> None:
        """`address` is host or host:port; nothing is asked yet."""
        import httpx

        self.address = address
        self._client = httpx.Client(base_url=f"http://{address}", timeout=READ_LIMIT, trust_env=False)
        self._version = ""

    @property
    def version(self) -> str:
        """Of the interface; asked once. Raises DetectorError for one that is not known."""
        if not self._version:
            self._version = self._find_version()
        return self._version

    def get(self, key: str, task: str = "config", module: str = "detector", limit: float = READ_LIMIT) -> Entry:
        """A parameter, or with `task` status a reading. Raises NotThereError where the detector has none."""
        found = self._ask("GET", module, task, key, None, limit)
        if not isinstance(found, dict) or "value" not in found:
            raise DetectorError(f"{self._named(module, task, key)} is {str(found)[:80]!r}, not a value")
        allowed = found.get("allowed_values")
        limits = (found.get("min"), found.get("max"))
        if limits[0] == limits[1]:  # of what has no limits, some say 0 and 0
            limits = (None, None)
        least, most = (one if isinstance(one, int | float) else None for one in limits)
        unit = str(found.get("unit") or "")
        choices = tuple(allowed) if isinstance(allowed, list) else ()
        return Entry(found["value"], unit, least, most, choices, found.get("state") == "critical")

    def find(self, key: str, task: str = "config", module: str = "detector", limit: float = READ_LIMIT) -> Entry | None:
        """As `get`; None where the detector has no such value.

        Some of SIMPLON 1.6 answer that with an error of their own (500) instead of 404.
        """
        try:
            return self.get(key, task, module, limit)
        except NotThereError:
            return None
        except RefusedError as error:
            if error.status == BROKEN and self.version.startswith("1.6."):
                return None
            raise

    def put(self, key: str, value: object, module: str = "detector") -> None:
        """Set a parameter; raises RefusedError with the detector's own message."""
        self._ask("PUT", module, "config", key, {"value": value}, WRITE_LIMIT)

    def command(self, name: str, module: str = "detector", limit: float = READ_LIMIT) -> Mapping[str, Any]:
        """Give a command and wait for its end, `limit` seconds at most; the answer, which most have none of."""
        found = self._ask("PUT", module, "command", name, None, limit)
        return found if isinstance(found, dict) else {}

    @property
    def state(self) -> str:
        """na, idle, ready, acquire, configure, initialize, test or error."""
        return str(self.get("state", "status").value)

    def close(self) -> None:
        self._client.close()

    def _find_version(self) -> str:
        asked = self._send("GET", "/detector/api/version", None, READ_LIMIT)
        if asked.status_code == OK:
            told = _parsed(asked)
            named = str(told.get("value") if isinstance(told, dict) else told)
            if not KNOWN.fullmatch(named):
                raise DetectorError(
                    f"the detector at {self.address} speaks SIMPLON {named[:40]}, known are 1.6 to 1.8: update the "
                    "detector or this software"
                )
            return named
        for version in VERSIONS:
            if self._send("GET", f"/detector/api/{version}/status/state", None, READ_LIMIT).status_code == OK:
                return version
        raise DetectorError(
            f"what answers at {self.address} is no Dectris detector of SIMPLON 1.6 to 1.8 (HTTP {asked.status_code}): "
            "check address and port in the device property detector"
        )

    def _named(self, module: str, task: str, key: str) -> str:
        return f"{module}/{task}/{key} of the detector at {self.address}"

    def _ask(
        self, method: str, module: str, task: str, key: str, content: object = None, limit: float = READ_LIMIT
    ) -> Any:
        path = f"/{module}/api/{self.version}/{task}/{key}"
        try:
            answer = self._send(method, path, content, limit)
        except BrokenError:  # it has closed a connection that was idle, or told of an error
            if task == "command":  # which may have been begun
                raise
            answer = self._send(method, path, content, limit)
        if answer.status_code == NOT_FOUND:
            raise NotThereError(f"there is no {self._named(module, task, key)} (SIMPLON {self._version})")
        if answer.status_code != OK:
            reason = " ".join(answer.text.split())[:300] or f"HTTP {answer.status_code}"
            raise RefusedError(
                f"the detector at {self.address} refuses {task} {key}: {reason}", reason, answer.status_code
            )
        return _parsed(answer)

    def _send(self, method: str, path: str, content: object, limit: float) -> "httpx.Response":
        import httpx

        try:
            return self._client.request(method, path, json=content, timeout=httpx.Timeout(limit, connect=CONNECT_LIMIT))
        except httpx.ConnectError as error:
            raise DetectorError(
                f"the detector cannot be reached at {self.address} ({error}): is it switched on, and is the device "
                "property detector its address?"
            ) from error
        except httpx.TimeoutException as error:
            raise DetectorError(
                f"the detector at {self.address} did not answer {method} {path} within {limit:.3g} s: look whether its "
                "web page answers, restart its control unit if not"
            ) from error
        except (httpx.HTTPError, httpx.InvalidURL, RuntimeError) as error:  # the last: closed by another thread
            raise BrokenError(
                f"the connection to the detector at {self.address} broke at {method} {path} ({error}): try again"
            ) from error


def _parsed(answer: "httpx.Response") -> Any:
    try:
        return answer.json() if answer.content.strip() else None
    except json.JSONDecodeError:
        return None
