"""Commands that a client sends in an order of its own, and what is wrong with what it hears."""

import json
import random
import re
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

import tango
from support import FAILING, LEGACY, Json, put

from lima2_tango.cli.system import System
from lima2_tango.control.runlog import RunState
from lima2_tango.core.state import TANGO_STATE, TRANSITIONS, State

CALL_LIMIT = 5.0
"""A command or a write comes back within [s]."""
LIMITS = {"Abort": 12.0}
READ_LIMIT = 3.0
"""`acq_state` is read within, at any time [s]."""
PATIENCE = 30_000
"""Of the clients: longer than every limit, so that a late answer can be told from none [ms]."""
PAUSES = (0.0, 0.0, 0.01, 0.03, 0.1)
"""Before a command [s]."""

REACHED = {state for pair in TRANSITIONS.items() for state in (pair[0][0], pair[1])}
REMEDY = re.compile(
    r"allowed now|again|later|prepared with|cannot hold|should be|begin at|not JSON|none was made|not yet|none has"
    r"|\b(first|give|choose|see|look|reset|stop|prepare|start|acquire|write|use|remove|move|make|correct|holds|only)\b",
    re.IGNORECASE,
)
"""A refusal says what to do, in one of these words."""

WIDTH, HEIGHT, IMAGES = 64, 96, 4
PEAK = {"x0": 30.0, "y0": 40.0, "fwhm": 25.0, "max": 200.0}
ACQ: Json = {
    "acq": {"nb_frames": 4, "expo_time": 500, "latency_time": 0},
    "det": {
        "width": WIDTH,
        "height": HEIGHT,
        "nb_prefetch_frames": IMAGES,
        "generator": {"gauss": {"peaks": [PEAK], "grow_factor": 0.1}},
    },
}
ACQ_CHANGES: tuple[Json, ...] = (
    {},
    {"acq.nb_frames": 1},
    {"acq.nb_frames": 60, "acq.expo_time": 3000},
    {"acq.nb_frames": 0, "acq.expo_time": 2000},
    {"acq.nb_frames": 0, "acq.expo_time": 100},
    {"acq.nb_frames": 5, "acq.trigger_mode": "software"},
    {"acq.nb_frames": 0, "acq.trigger_mode": "software"},
    {"acq.trigger_mode": "external"},
    {"acq.nb_frames": 40, "det.dispatch_mode": "full_random"},
    {"acq.nb_frames": 20, "det.failed_frame_idx": 3},
    {"acq.nb_frames": -1},
    {"acq.expo_time": 0},
    {"acq.nb_frames": 2.5},
    {"det.no_such_parameter": 1},
)
OUTSIDE = {"topleft": {"x": WIDTH, "y": 0}, "dimensions": {"x": 8, "y": 8}}
INSIDE = {"topleft": {"x": 3, "y": 5}, "dimensions": {"x": 21, "y": 33}}
PROC_CHANGES: tuple[Json, ...] = (
    {"saving.enabled": False},
    {"saving.enabled": False, "statistics.rect_rois": [INSIDE]},
    {"saving.nb_frames_per_file": 7},
    {"saving.file_exists_policy": "overwrite"},
    {"saving.filename_prefix": "other", "saving.compression": "zip", "statistics.rect_rois": [INSIDE]},
    {"saving.base_path": "/proc/lima2"},
    {"saving.enabled": False, "statistics.rect_rois": [OUTSIDE]},
    {"saving.enabled": False, "accumulation.enabled": True, "accumulation.nb_frames": 2},
    {"class_name": FAILING, "failed_frame_idx": 5, "saving.enabled": False},
    {"class_name": "NoPipeline"},
    {"saving.compression": "gold"},
)
SCALARS: tuple[tuple[str, Any], ...] = (
    ("nb_frames", 10),
    ("nb_frames", 0),
    ("nb_frames", 2**31),
    ("expo_time", 0.001),
    ("expo_time", 0.0),
    ("expo_time", float("nan")),
    ("trigger_mode", 0),
    ("trigger_mode", 1),
    ("trigger_mode", 9),
    ("pipeline", 0),
    ("saving_enabled", False),
    ("saving_prefix", "scalar"),
    ("saving_prefix", "no/name"),
    ("saving_compression", 2),
)
TANGO_LIMIT = "API_WAttrOutsideLimit"
"""Tango itself refuses a number outside the limits that the attribute shows."""
ADDED = ([], ["PyDs_UnexpectedFailure"], ["API_InitThrowsException"])
"""What Tango puts between our sentence and its own, where the body of a command raises it (decision 1)."""


def acq_text(choice: int) -> str:
    """Acquisition parameters, good ones and bad ones; sometimes no JSON at all."""
    number = choice % (len(ACQ_CHANGES) + 1)
    return json.dumps(put(ACQ, ACQ_CHANGES[number])) if number < len(ACQ_CHANGES) else '{"acq": '


def proc_text(choice: int, folder: Path) -> str:
    saving = {"base_path": str(folder)}
    return json.dumps(put({"class_name": LEGACY, "saving": saving}, PROC_CHANGES[choice % len(PROC_CHANGES)]))


class Client:
    """One of the two: plain proxies of the control and of the receivers."""

    def __init__(self, system: System, folder: Path) -> None:
        names = [f"tango://{system.tango_host}/{name}" for name in (system.control, *system.receivers)]
        self.control, *self.receivers = [tango.DeviceProxy(name) for name in names]
        for device in (self.control, *self.receivers):
            device.set_timeout_millis(PATIENCE)
        self.folder = folder
        self.sent = ""
        """What was sent last, for the story."""

    def call(self, name: str, *arguments: Any) -> Any:
        self.sent = f"{name}{arguments}"
        return self.control.command_inout(name, *arguments)

    def read(self, name: str) -> Any:
        self.sent = f"read {name}"
        return self.control.read_attribute(name).value

    def write(self, name: str, value: Any) -> None:
        self.sent = f"write {name} = {value!r}"
        self.control.write_attribute(name, value)

    def of_receiver(self, choice: int, name: str, *arguments: Any) -> Any:
        self.sent = f"receiver {choice % len(self.receivers)}: {name}{arguments}"
        return self.receivers[choice % len(self.receivers)].command_inout(name, *arguments)

    def erase(self, choice: int) -> None:
        known = self.receivers[choice % len(self.receivers)].read_attribute("pipelines").value or ()
        self.of_receiver(choice, "erasePipeline", ["no-such-run", *known][choice % (len(known) + 1)])

    def look_up(self, choice: int) -> None:
        known = [json.loads(run)["uuid"] for run in self.read("runs") or ()][:5]
        found = json.loads(self.call("Run", ["no-such-run", *known][choice % (len(known) + 1)]))
        assert found["state"] in set(RunState), found


@dataclass(frozen=True)
class Command:
    weight: int
    """How often it comes."""
    do: Callable[[Client, int], object]
    """The number chooses among its arguments."""


def plain(name: str) -> Callable[[Client, int], object]:
    return lambda client, _: client.call(name)


def any_uuid() -> str:
    return str(uuid.uuid4())


WITHOUT_ARGUMENT = {
    "Acquire": 6,
    "Start": 6,
    "Trigger": 3,
    "Stop": 3,
    "Abort": 2,
    "Close": 2,
    "Reset": 3,
    "Init": 2,
    "popRoiStatistics": 2,
}
COMMANDS: dict[str, Command] = {
    **{name: Command(weight, plain(name)) for name, weight in WITHOUT_ARGUMENT.items()},
    "acq_params": Command(6, lambda client, choice: client.write("acq_params", acq_text(choice))),
    "proc_params": Command(4, lambda client, choice: client.write("proc_params", proc_text(choice, client.folder))),
    "scalar": Command(4, lambda client, choice: client.write(*SCALARS[choice % len(SCALARS)])),
    "Prepare": Command(5, lambda client, _: client.call("Prepare", "")),
    "Prepare(uuid)": Command(2, lambda client, _: client.call("Prepare", any_uuid())),
    "getFrame": Command(3, lambda client, choice: client.call("getFrame", choice % 8 - 2)),
    "runs": Command(2, lambda client, _: client.read("runs")),
    "Run": Command(2, lambda client, choice: client.look_up(choice)),
    "receiver: Prepare": Command(1, lambda client, choice: client.of_receiver(choice, "Prepare", any_uuid())),
    "receiver: Stop": Command(1, lambda client, choice: client.of_receiver(choice, "Stop")),
    "receiver: Reset": Command(1, lambda client, choice: client.of_receiver(choice, "Reset")),
    "receiver: erasePipeline": Command(1, lambda client, choice: client.erase(choice)),
}


@dataclass(frozen=True)
class Step:
    pause: float
    """Before it [s]."""
    command: str
    choice: int


def sequences(seed: int) -> list[list[Step]]:
    """What each of the two clients sends; the same seed gives the same."""
    source = random.Random(seed)
    weights = [command.weight for command in COMMANDS.values()]

    def step() -> Step:
        return Step(source.choice(PAUSES), *source.choices(list(COMMANDS), weights), source.randrange(1 << 16))

    return [[step() for _ in range(source.randint(3, 8))] for _ in range(2)]


def faults_of(error: tango.DevFailed) -> list[str]:
    """What is wrong with a refusal; nothing where it is a sentence of ours with a way out."""
    first = error.args[0]
    if first.reason == TANGO_LIMIT:
        return []
    everything = " ".join(f"{entry.reason} {entry.desc}" for entry in error.args)
    found = [f"{text} in an error" for text in ("PyDs_PythonError", "Traceback", 'File "') if text in everything]
    reasons = [entry.reason for entry in error.args]
    if reasons[1:-1] not in ADDED:
        found.append(f"errors {reasons}")
    if first.reason != "LIMA_Exception":
        return [*found, f"not ours: {first.reason} {first.desc}"]
    sentence = json.loads(first.desc)["what"]
    if not REMEDY.search(sentence):
        found.append(f"no way out in: {sentence}")
    return found


@dataclass
class Story:
    """What both clients sent and heard, and what was wrong with it."""

    seed: int
    begin: float = field(default_factory=time.monotonic)
    lines: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    _lock: Lock = field(default_factory=Lock)

    def tell(self, begin: float, who: int, what: str, answer: str, faults: list[str]) -> None:
        with self._lock:
            took = time.monotonic() - begin
            self.lines.append(f"{begin - self.begin:7.3f} {took:6.3f} s  client {who}: {what} -> {answer}")
            self.faults += [f"client {who}: {what}: {fault}" for fault in faults]

    def __str__(self) -> str:
        return "\n".join([f"LIMA2_SEED={self.seed}", *self.faults, "", *self.lines])


def take(client: Client, who: int, step: Step, story: Story) -> None:
    """One step, and the look at the state after it."""
    time.sleep(step.pause)  # part of what is sent, not a wait for something
    begin, faults = time.monotonic(), []
    try:
        answer = repr(COMMANDS[step.command].do(client, step.choice))[:120]
    except tango.DevFailed as error:
        answer, faults = f"refused: {error.args[0].desc}", faults_of(error)
    took = time.monotonic() - begin
    if took > LIMITS.get(step.command, CALL_LIMIT):
        faults.append(f"took {took:.1f} s")
    story.tell(begin, who, client.sent, answer, faults + state_faults(client))


def state_faults(client: Client) -> list[str]:
    """The state is read in time, is one of the table, and the Tango state follows it."""
    for _ in range(10):  # it may change between the two
        begin = time.monotonic()
        try:
            tango_state, code = (each.value for each in client.control.read_attributes(["State", "acq_state"]))
        except tango.DevFailed as error:
            return [f"its state cannot be read: {error.args[0].desc}"]
        if (took := time.monotonic() - begin) > READ_LIMIT:
            return [f"its state took {took:.1f} s"]
        state = State(int(code))
        if state not in REACHED:
            return [f"state {state.label}"]
        if str(tango_state) == TANGO_STATE[state]:
            return []
    return [f"State {tango_state} and acq_state {state.label} do not agree"]
