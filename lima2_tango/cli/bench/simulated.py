"""A simulated Dectris detector in a process of its own, for P2."""

import time
from dataclasses import dataclass
from pathlib import Path

import httpx

from lima2_tango.cli.process import Child, environment, program
from lima2_tango.core.errors import Lima2Error
from lima2_tango.simulators.dectris.frames import Recipe
from lima2_tango.simulators.dectris.models import Model

DISTINCT = 16
"""Different images, sent again and again: more than the caches hold at 16 million pixels."""
END = 60.0
"""What takes longer hangs [s]."""
LEGACY, MODERN = "legacy", "cbor"


@dataclass(frozen=True, slots=True)
class Load:
    """What the detector sends: 16 bits a pixel, as it does at its full rate."""

    model: Model
    count: int
    form: str
    """`legacy` or `cbor`, as `stream/config/format` has it."""

    @property
    def recipe(self) -> Recipe:
        size = self.model.full
        return Recipe(1, (size.height, size.width), "u2", "bslz4", True, True, False)

    @property
    def name(self) -> str:
        stream = "stream 2" if self.form == MODERN else "legacy stream"
        return f"{stream}, {self.model.description.removeprefix('Dectris ')}"


class Detector:
    """The simulator as a process, and how to set it going."""

    def __init__(self, model: Model, log: Path) -> None:
        ports = [option for name in ("--port", "--stream-port", "--legacy-port") for option in (name, "0")]
        options = ["--flat-out", "--distinct", str(DISTINCT), "--model", model.name, *ports]
        self.child = Child("detector", [program("lima2"), "simulate", "dectris", *options], environment(), log)
        self._log = log

    def __enter__(self) -> "Detector":
        addresses = self._addresses()
        self._http = httpx.Client(base_url=addresses["REST interface"], timeout=END)
        self.address = addresses["REST interface"].removeprefix("http://")
        self.streams = {MODERN: addresses["stream 2"], LEGACY: addresses["legacy stream"]}
        self.put("detector/api/1.8.0/command/initialize")
        self.put("stream/api/1.8.0/config/mode", "enabled")
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()
        self.child.stop()

    def put(self, path: str, value: object = None) -> None:
        """Raises Lima2Error with the detector's own words."""
        answer = self._http.put(f"/{path}", json=None if value is None else {"value": value})
        if answer.is_error:
            raise Lima2Error(f"the simulated detector refused {path}: {answer.text}")

    def set_up(self, load: Load) -> None:
        self.put("stream/api/1.8.0/config/format", load.form)
        self.put("detector/api/1.8.0/config/frame_time", load.model.full.period)
        self.put("detector/api/1.8.0/config/nimages", load.count)

    def expose(self) -> None:
        """A series, from arm until its last image is sent."""
        self.put("detector/api/1.8.0/command/arm")
        self.put("detector/api/1.8.0/command/trigger")

    def _addresses(self) -> dict[str, str]:
        deadline = time.monotonic() + END
        while time.monotonic() < deadline:
            self.child.check()
            lines = [line.rpartition("  ") for line in self._log.read_text(encoding="utf-8").splitlines()]
            found = {name.strip(): address for name, _, address in lines if "//" in address}
            if "legacy stream" in found:
                return found
            time.sleep(0.05)
        raise Lima2Error(f"the simulated detector did not say its addresses within {END:g} s")
