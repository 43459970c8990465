"""What a running system looks like at this moment: each process and each device asked anew."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.table import Column, Table
from rich.text import Text

from lima2_tango.client.supervision import Reading, read_devices

from .rundir import Phase, SystemState

ANSWER_TIMEOUT = 1.2
"""A device that has not answered within this does not; the truth is due within 2 s [s]."""
LOST = Text("no", "bold red")


@dataclass(frozen=True, slots=True)
class Part:
    """A process of the system."""

    name: str
    pid: int
    runs: bool


@dataclass(frozen=True, slots=True)
class Look:
    """One look at a system."""

    state: SystemState
    parts: list[Part] = field(default_factory=list)
    devices: list[Reading] = field(default_factory=list)

    @property
    def well(self) -> bool:
        """Nothing is down."""
        up = self.state.phase is Phase.UP and self.state.alive
        return up and all(part.runs for part in self.parts) and all(device.answers for device in self.devices)

    def as_json(self) -> dict[str, Any]:
        """For programs; keys as in the classes, and `well`."""
        devices = [asdict(device) for device in self.devices]
        parts = [asdict(part) for part in self.parts]
        state = asdict(self.state)
        del state["processes"]
        return {"well": self.well, **state, "processes": parts, "devices": devices}

    def tables(self) -> Iterator[Table]:
        """For people. What comes from elsewhere is plain text: rich would take its brackets for markup."""
        yield self._summary()
        yield self._processes()
        yield self._devices()

    def _summary(self) -> Table:
        state = self.state
        table = Table(show_header=False, box=None)
        about = f", {state.phase} since {state.since}, {state.restarts} restarts"
        table.add_row("system", Text.assemble((state.name, "bold"), about))
        table.add_row("last event", Text(state.event))
        table.add_row("TANGO_HOST", Text(state.tango_host))
        if state.conductor_url:
            table.add_row("conductor", Text(state.conductor_url))
        if state.web_url:
            table.add_row("page", Text(state.web_url))
        table.add_row("logs", Text(f"{state.folder}/logs"))
        return table

    def _processes(self) -> Table:
        table = Table("process", "pid", "runs")
        for part in self.parts:
            table.add_row(Text(part.name), str(part.pid), "yes" if part.runs else LOST)
        return table

    def _devices(self) -> Table:
        table = Table(Column("device", no_wrap=True), "answers", "acq_state", "frames", "last error")
        for device in self.devices:
            answers = "yes" if device.answers else LOST
            frames = "" if device.frames is None else str(device.frames)
            table.add_row(Text(device.device), answers, device.state, frames, Text(device.error))
        return table


def look_at(state: SystemState) -> Look:
    """Ask every process and every device; takes `ANSWER_TIMEOUT` at most.

    Tango takes up to a second to see that a database which was down is back, where this process has asked before.
    """
    parts = [Part(entry.name, entry.pid, entry.process() is not None) for entry in state.processes]
    supervisor = Part("lima2 up", state.supervisor.pid, state.alive)
    devices = read_devices(state.tango_host, [state.control, *state.receivers], ANSWER_TIMEOUT)
    return Look(state, [supervisor, *parts], devices)
