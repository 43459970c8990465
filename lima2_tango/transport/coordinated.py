"""What the coordinator knows of a run: who takes part, how far each of them is, and what is wrong."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum

from lima2_tango.core.series import Tag

from .messages import ACQUIRER, Armed
from .pulse import Pulse

Member = tuple[int, int]
"""MPI rank, and rank among the receivers; `ACQUIRER` for the one that acquires for all."""


class Phase(Enum):
    STARTING = "starting"
    RUNNING = "running"
    CUTTING = "cutting"
    ENDING = "ending"
    OVER = "over"


@dataclass
class CoordinatedRun:
    """What the coordinator knows of the run."""

    uuid: str
    on_over: Callable[[list[str]], None]
    deadline: float
    phase: Phase = Phase.STARTING
    answered: set[int] = field(default_factory=set)
    """MPI ranks that answered the roll call."""
    members: set[Member] = field(default_factory=set)
    """Those that take part."""
    armed: dict[Member, Armed] = field(default_factory=dict)
    held: dict[Member, int] = field(default_factory=dict)
    frames: dict[Member, int] = field(default_factory=dict)
    done: dict[Member, str] = field(default_factory=dict)
    """With what went wrong; empty where nothing did."""
    pulse: Pulse = field(default_factory=Pulse)
    granted: int = 0
    stopping: bool = False
    sharing: str = ""
    """What the control was prepared for; empty where the job has none."""
    tag: Tag = ()
    expected: int = 0
    """Frames after which all receivers together have everything, where nobody knows before who gets which; else 0."""
    exhausted: bool = False
    """The detector was done before all of them had come."""

    @property
    def nb_frames(self) -> int:
        """Taken by all receivers so far."""
        return sum(self.frames.values())

    @property
    def receivers(self) -> list[Member]:
        """In their order."""
        return sorted((member for member in self.members if member[1] != ACQUIRER), key=lambda member: member[1])

    @property
    def ranks(self) -> set[int]:
        """MPI ranks of those that take part."""
        return {rank for rank, _ in self.members}

    def ended(self, member: Member, frames: int, error: str) -> None:
        """It takes no more frames; what was found wrong with it before stays."""
        self.frames[member], self.done[member] = frames, self.done.get(member) or error

    def give_up(self, member: Member, reason: str) -> None:
        """It does not answer: nobody waits for it any more."""
        self.held.setdefault(member, 0)
        self.done[member] = self.done.get(member) or f"{name_of(member)} {reason}"

    def silent(self) -> list[Member]:
        """Those that are not done, and have given no sign of life for `pulse.SILENCE` seconds."""
        ranks = self.pulse.silent()
        return sorted(member for member in self.members - set(self.done) if member[0] in ranks)

    def refusal(self) -> str:
        """Why those that take part cannot begin together; empty where they can."""
        if different := self._different():
            return different
        ranks = [number for _, number in self.receivers]
        if not ranks or ranks != list(range(len(ranks))):
            return f"receivers {ranks} are prepared for this run: prepare receiver 0 and those that follow it"
        return ""

    def missing(self, receivers: Sequence[int], bound: float) -> str:
        """Who has not come to the start within `bound` seconds; `receivers` are the MPI ranks of all there are."""
        if silent := [number for number, rank in enumerate(receivers) if rank not in self.answered]:
            return f"receivers {silent} did not answer within {bound:.3g} s: look at their logs, restart the job"
        unarmed = " and ".join(name_of(member) for member in sorted(self.members - set(self.armed)))
        return f"{unarmed} did not start within {bound:.3g} s after its Prepare: start all together"

    def _different(self) -> str:
        """What is wrong where the participants do not share the detector in the same way; empty where they do."""
        told = {name_of(member): self.armed[member].sharing for member in sorted(self.members)}
        if self.sharing:
            told["the control"] = self.sharing
        if len(set(told.values())) <= 1:
            return ""
        listed = ", ".join(f"{who} {sharing}" for who, sharing in told.items())
        return f"$.det.topology is not the same on all devices ({listed}): write the same acq_params to all"


def name_of(member: Member) -> str:
    rank, number = member
    return f"the acquisition on MPI rank {rank}" if number == ACQUIRER else f"receiver {number}"
