"""A control device that behaves: parameters of the real classes, runs that go on a little with each question."""

import json
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lima2_tango.cameras.simulator import PLUGIN
from lima2_tango.client.errors import RefusedError, UnreachableError
from lima2_tango.control.parameters import Choice, choose
from lima2_tango.control.settings import Settings
from lima2_tango.core import encoded
from lima2_tango.core.errors import Lima2Error, StateError
from lima2_tango.core.sparse import HEADER
from lima2_tango.core.state import Event, State, StateMachine
from lima2_tango.processing.rows import ROI

SHAPE = (1, 3, 4)


@dataclass
class FakeRun:
    """A run as the control's log tells it."""

    uuid: str
    nb_frames: int
    state: str = "prepared"
    made: int = 0
    error: str = ""
    files: list[str] = field(default_factory=list)
    nb_files: int = 0
    """Where there are more than are named."""

    def as_json(self) -> str:
        begin = "2026-01-01T10:00:00+00:00"
        end = "2026-01-01T10:00:05+00:00" if self.over else ""
        counts = {f"nb_frames_{what}": self.made for what in ("acquired", "processed", "saved")}
        fixed = {"pipeline": "LimaProcessingLegacy", "driver": "control", "begin": begin, "end": end}
        told = {"uuid": self.uuid, "state": self.state, "nb_frames": self.nb_frames, "error": self.error}
        files = {"files": self.files, "nb_files": max(self.nb_files, len(self.files))}
        return json.dumps({**told, **fixed, **counts, **files})

    @property
    def over(self) -> bool:
        return self.state in {"done", "stopped", "failed"}


class FakeControl:
    """Each question about a run lets it make `step` frames; `keep` of them are held for readers."""

    name = "id00/limacontrol/fake"

    def __init__(self, step: int = 3, keep: int = 100, regions: int = 2) -> None:
        self.step, self.keep, self.regions = step, keep, regions
        self.acq = PLUGIN.params()
        self.choice: Choice | None = None
        self.machine = StateMachine()
        self.log: list[FakeRun] = []
        self.popped = 0
        self.fail_at: int | None = None
        self.gone = False
        self.closed = False
        self.files: list[str] = []
        """Of each run."""
        self.commands: deque[str] = deque()
        self.before: Callable[[str], None] = lambda name: None
        """Called with the name of each command; a test can make things happen there."""

    def read(self, *names: str) -> dict[str, Any]:
        self._check()
        return {name: getattr(self, f"_read_{name}", lambda: 0)() for name in names}

    def write(self, name: str, value: object) -> None:
        self._check()
        assert isinstance(value, str)
        try:
            if name == "acq_params":
                self.acq = PLUGIN.params.parse(value)
            else:
                self.choice = choose(value, Settings())
        except Lima2Error as error:
            raise RefusedError(error.what, **error.info) from error

    def command(self, name: str, argument: object = None) -> Any:
        self._check()
        self.before(name)
        self.commands.append(name)
        try:
            return getattr(self, f"_{name}")(*([] if argument is None else [argument]))
        except Lima2Error as error:
            raise RefusedError(error.what, **error.info) from error

    def ask(self, name: str, argument: object = None) -> Any:
        return self.command(name, argument)

    def close(self) -> None:
        self.closed = True

    @property
    def current(self) -> FakeRun:
        return self.log[0]

    def _check(self) -> None:
        if self.gone:
            raise UnreachableError(f"{self.name} does not answer: its server has ended, or is starting")

    def _read_acq_params(self) -> str:
        return self.acq.json_text()

    def _read_proc_params(self) -> str:
        return "" if self.choice is None else self.choice.params.json_text()

    def _read_run_uuid(self) -> str:
        return self.log[0].uuid if self.log else ""

    def _read_runs(self) -> list[str] | None:
        return [run.as_json() for run in self.log] or None

    def _read_acq_state(self) -> int:
        return int(self.machine.state)

    def _read_last_error(self) -> str:
        return Lima2Error("rank 1: frame 3 hurts").payload() if self.machine.state is State.FAULT else "No error"

    def _read_time_left(self) -> float:
        return float("nan")

    def _read_frame_rate(self) -> float:
        return 50.0

    def _Prepare(self, uuid: str) -> None:  # noqa: N802 (a Tango command)
        assert not uuid
        self.machine.fire(Event.PREPARE)
        self.log.insert(0, FakeRun(f"run-{len(self.log)}", self.acq.acq.nb_frames, files=self.files))
        self.popped = 0

    def _Acquire(self) -> str:  # noqa: N802
        self._Prepare("")
        self._Start()
        return self.current.uuid

    def _Start(self) -> None:  # noqa: N802
        self.machine.fire(Event.START)
        self.current.state = "running"

    def _Stop(self) -> None:  # noqa: N802
        if self.machine.try_fire(Event.DONE):
            self.current.state = "stopped"

    def _Reset(self) -> None:  # noqa: N802
        self.machine.fire(Event.RESET)

    def _Run(self, uuid: str) -> str:  # noqa: N802
        found = [run for run in self.log if run.uuid == uuid]
        if not found:
            raise StateError(f"there is no run {uuid}")
        self._advance()
        return found[0].as_json()

    def _advance(self) -> None:
        run = self.current
        if run.state != "running":
            return
        run.made += self.step
        if self.fail_at is not None and run.made > self.fail_at:
            run.made, run.state, run.error = self.fail_at, "failed", f"rank 1: frame {self.fail_at} hurts"
            self.machine.fire(Event.FAIL)
        elif run.nb_frames and run.made >= run.nb_frames:
            run.made, run.state = run.nb_frames, "done"
            self.machine.fire(Event.DONE)

    def _getFrame(self, index: int) -> tuple[str, bytes]:  # noqa: N802
        newest = self.current.made - 1
        if not self.keep:
            raise Lima2Error("no processed frame is held: their memory was needed")
        wanted = newest if index == -1 else index
        if not 0 <= wanted <= newest or wanted <= newest - self.keep:
            raise Lima2Error(f"processed frame {index} is not held on this receiver", frame_idx=index, newest=newest)
        return _sent(encoded.image(pixels(wanted), wanted))

    def _getFaiAverint(self, index: int) -> tuple[str, bytes]:  # noqa: N802
        return _sent(encoded.vector(np.full(5, index, np.float32), index))

    def _getSparseFrame(self, index: int) -> tuple[str, bytes]:  # noqa: N802
        if index >= self.current.made:
            raise Lima2Error(f"sparse frame {index} is not made yet", frame_idx=index, newest=self.current.made - 1)
        return _sent(encoded.sparse(packed_frame(), index))

    def _popRoiStatistics(self) -> tuple[str, bytes]:  # noqa: N802
        first, self.popped = self.popped, self.current.made
        return _sent(encoded.rows(statistics(first, self.popped, self.regions).tobytes()))


def pixels(index: int) -> np.ndarray:
    return np.full(SHAPE, index, np.uint16)


def packed_frame() -> np.ndarray:
    """Two pixels that stand out of a background of three bins."""
    parts = [np.array([3, 7], "<i4"), *(np.array(row, "<f4") for row in ([10, 20], [1, 2, 3], [0.1, 0.2, 0.3]))]
    return np.frombuffer(
        HEADER.pack(SHAPE[2], SHAPE[1], 3, 2, 0) + b"".join(part.tobytes() for part in parts), np.uint8
    )


def statistics(first: int, end: int, regions: int) -> np.ndarray:
    """Rows of the frames from `first` to before `end`; the sum is 10 * frame + region."""
    rows = np.zeros((end - first, regions), ROI)
    rows["frame_idx"] = np.arange(first, end)[:, None]
    rows["sum"] = 10 * rows["frame_idx"] + np.arange(regions)
    return rows.reshape(-1)


def _sent(answer: tuple[str, bytearray]) -> tuple[str, bytes]:
    return answer[0], bytes(answer[1])
