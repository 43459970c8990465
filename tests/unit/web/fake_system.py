"""A system for the page, without Tango: frames that a test makes, a control that remembers what it was told."""

import json
from dataclasses import dataclass, field
from threading import Event
from typing import Any

import numpy as np

from lima2_tango.client import Client
from lima2_tango.client.errors import RefusedError
from lima2_tango.client.live import Answer, LiveFrame, Sight
from lima2_tango.core.state import State
from lima2_tango.web.access import Door, Tokens
from lima2_tango.web.actions import Actions
from lima2_tango.web.hub import Hub
from lima2_tango.web.page import Page

UUID = "run-1"
CONTROL, RECEIVER = "id00/limacontrol/fake", "id00/limareceiver/fake"
REFUSAL = "$.acq.expo_time = 0: give at least 1 us"


@dataclass
class FakeLive:
    """Frame `index` is the newest; each is `image` with its number added."""

    image: np.ndarray = field(default_factory=lambda: np.arange(6 * 8, dtype=np.uint16).reshape(1, 6, 8))
    index: int = -1
    pipeline: str = "LimaProcessingLegacy"
    fetched: int = 0
    looked: int = 0
    uuid: str = UUID
    broken: bool = False

    def look(self) -> Sight:
        self.looked += 1
        control = {"acq_state": State.RUNNING, "run_uuid": self.uuid, "nb_frames_acquired": self.index + 1}
        receiver = {"acq_state": State.RUNNING, "nb_frames_xferred": self.index + 1}
        processing = {"progress_counters": json.dumps({"nb_frames_processed": self.index + 1}), "blocks_queued": 1}
        answers = (
            Answer(CONTROL, control),
            (Answer(RECEIVER, receiver),),
            (Answer("id00/limaprocessing/1@0", processing),),
        )
        return Sight(answers[0], answers[1], self.uuid, answers[2], (5.0,))

    def pipeline_class(self, uuid: str) -> str:
        return self.pipeline if uuid else ""

    def newest(self, uuid: str, getter: str, label: str, seen: int) -> LiveFrame | None:
        if self.broken:
            raise ValueError("this is no error of ours")
        assert (uuid, getter, label) == (self.uuid, "getFrame", "processed")
        if self.index in {-1, seen}:
            return None
        self.fetched += 1
        return LiveFrame(uuid, self.index, self.image + np.uint16(self.index))


@dataclass
class FakeDevice:
    """The control, as far as the page asks it."""

    told: list[tuple[str, object]] = field(default_factory=list)
    refusal: str = ""
    hold: Event | None = None
    """Acquire waits for it."""
    name: str = CONTROL
    proc: dict[str, Any] = field(default_factory=lambda: {"class_name": "LimaProcessingLegacy"})

    def read(self, *names: str) -> dict[str, Any]:
        known = {"acq_params": json.dumps({"acq": {"nb_frames": 9}}), "proc_params": json.dumps(self.proc)}
        return {name: known.get(name) for name in names}

    def command(self, name: str, argument: object = None) -> Any:
        if self.refusal:
            raise RefusedError(self.refusal, path="$.acq.expo_time")
        self.told.append((name, argument))
        if self.hold is not None and name == "Acquire":
            assert self.hold.wait(10)
        return UUID

    def ask(self, name: str, argument: object = None) -> Any:
        return self.command(name, argument)

    def write(self, name: str, value: object) -> None:
        self.told.append((name, value))

    def close(self) -> None:
        """Nothing is left to be done."""


class FakeActions(Actions):
    """Those of one device that is always there."""

    def client(self) -> Client:
        return Client(DEVICES[self.control])


DEVICES: dict[str, FakeDevice] = {}


def page_of(live: FakeLive, device: FakeDevice, tokens: Tokens | None = None, rate: float = 50.0) -> Page:
    DEVICES[CONTROL] = device
    hub = Hub(live, lambda: device, rate)
    return Page(
        "fake", hub, FakeActions("localhost:1", CONTROL), tokens or Tokens(), Door.of("127.0.0.1", 80, ["testserver"])
    )
