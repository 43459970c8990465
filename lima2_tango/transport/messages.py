"""What ranks tell each other about a run: small, typed, JSON on the wire."""

import json
from dataclasses import asdict, dataclass, field
from typing import ClassVar

from lima2_tango.core.errors import WireError

ACQUIRER = -1
"""In the place of a receiver's rank: the rank that acquires all frames and has no pipeline."""


@dataclass(frozen=True, slots=True)
class Message:
    """Base; `run` is the uuid of the acquisition it belongs to."""

    kinds: ClassVar[dict[str, type["Message"]]] = {}
    run: str

    def __init_subclass__(cls) -> None:
        Message.kinds[cls.__name__] = cls

    def encode(self) -> bytes:
        return json.dumps([type(self).__name__, asdict(self)]).encode()


@dataclass(frozen=True, slots=True)
class Hello(Message):
    """A process has started: what it is. `receiver_rank` is -1 for the order of receivers in the job."""

    control: bool
    receiver: bool
    receiver_rank: int
    host: str
    device: str = ""
    """Name of the receiver's device, by which a control that drives calls it."""


@dataclass(frozen=True, slots=True)
class Farewell(Message):
    """This process ends, and with it the job: close your files and end too."""


@dataclass(frozen=True, slots=True)
class RollCall(Message):
    """Coordinator to every receiver: do you take part in this run?"""


@dataclass(frozen=True, slots=True)
class Here(Message):
    """Answer to the roll call: prepared for this run or not."""

    member: bool
    rank: int


@dataclass(frozen=True, slots=True)
class Armed(Message):
    """A receiver got its Start and is ready for frames; or the rank that acquires for all is."""

    rank: int
    """`ACQUIRER` for the rank that acquires for all; so in all messages of a participant."""
    window: str = ""
    """Where others write frames for it (`window.Address`), if they do."""
    sharing: str = ""
    """How it was prepared to share the detector, which is the same for all."""


@dataclass(frozen=True, slots=True)
class Go(Message):
    """All participants are armed: the run starts now, with these receivers."""

    receivers: int
    seed: int
    windows: list[str] = field(default_factory=list)
    """Of receiver 0, 1, ..."""
    ranks: list[int] = field(default_factory=list)
    """MPI rank of receiver 0, 1, ..."""
    acquirer: int = -1
    """MPI rank that acquires for all; -1 where none does."""
    tag: list[int | str] = field(default_factory=list)
    """What the camera's control half has to tell its receivers."""


@dataclass(frozen=True, slots=True)
class Abort(Message):
    """The run cannot start, or cannot go on: why."""

    reason: str


@dataclass(frozen=True, slots=True)
class Grant(Message):
    """A trigger came: frames below this global index may be exposed."""

    limit: int


@dataclass(frozen=True, slots=True)
class StopRequest(Message):
    """Somebody asked one rank to stop: tell the coordinator."""


@dataclass(frozen=True, slots=True)
class Exhausted(Message):
    """The detector is done, as one receiver saw; frames that have not come will not."""


@dataclass(frozen=True, slots=True)
class Hold(Message):
    """A stop is being agreed: deliver nothing more, say how far you are."""


@dataclass(frozen=True, slots=True)
class Held(Message):
    """Answer to Hold: global index after this receiver's last frame."""

    rank: int
    delivered: int


@dataclass(frozen=True, slots=True)
class Cut(Message):
    """The series ends before this global index, on all receivers alike."""

    index: int


@dataclass(frozen=True, slots=True)
class Progress(Message):
    """Frames that a receiver has taken from the camera so far."""

    rank: int
    frames: int


@dataclass(frozen=True, slots=True)
class Done(Message):
    """A receiver's part of the acquisition is over; `error` is empty when it went well."""

    rank: int
    frames: int
    error: str


@dataclass(frozen=True, slots=True)
class Beat(Message):
    """Sign of life of one that takes part, and the coordinator's answer to it."""

    echo: bool = False


@dataclass(frozen=True, slots=True)
class Lost(Message):
    """This participant does not answer any more: nobody waits for it."""

    rank: int
    reason: str


def decode(data: bytes) -> Message:
    """Raises WireError for bytes that are no message of ours."""
    try:
        kind, fields = json.loads(data)
        return Message.kinds[kind](**fields)
    except (ValueError, KeyError, TypeError) as error:
        raise WireError(f"message of {len(data)} bytes between ranks is not understood: {error}") from error
