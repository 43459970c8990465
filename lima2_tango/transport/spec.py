"""What all ends of a stream know before its first element, and what each knows after its last."""

import hashlib
from dataclasses import dataclass, field

import numpy as np

from .fabric import SendMode
from .links import Route

SILENCE = 10.0
"""A partner that gives no sign of life for so long is taken for dead [s]."""
_KEYS = 1 << 22
"""Streams that can have tags of their own; their names choose."""


@dataclass(frozen=True, slots=True)
class StreamSpec:
    """The same on all ends. Raises ValueError for ends that cannot be."""

    name: str
    """Unique among the streams of the job: with the run's uuid in it."""
    producers: tuple[int, ...]
    """MPI ranks. Each is linked to each consumer; a rank may be both, and then is linked to itself too."""
    consumers: tuple[int, ...]
    element_bytes: int
    """Pixels of the largest element [byte]; smaller ones take less."""
    max_frames: int = 4096
    """Frames of the largest element."""
    credits: int = 8
    """Elements in flight between two ranks at most: sent, and their leases not released."""
    mode: SendMode = SendMode.STANDARD
    """How elements leave as messages; memory in common knows no modes."""
    shared: bool = True
    """Use memory in common where there is some. Of the producer's spec: it chooses."""
    silence: float = SILENCE
    """A partner that gives no sign of life for so long is an error [s]."""
    records: np.dtype = field(default=np.dtype(np.uint8))
    """Type of the elements that are no frames."""

    def __post_init__(self) -> None:
        if not self.producers or not self.consumers:
            raise ValueError(f"stream {self.name} needs a producer and a consumer")
        if len(set(self.producers)) < len(self.producers) or len(set(self.consumers)) < len(self.consumers):
            raise ValueError(f"stream {self.name}: a rank is named twice, {self.producers} -> {self.consumers}")
        if self.element_bytes < 0 or self.max_frames < 1 or self.credits < 1 or self.silence <= 0:
            raise ValueError(
                f"stream {self.name}: {self.credits} credits for elements of {self.element_bytes} bytes and "
                f"{self.max_frames} frames, {self.silence:g} s of silence: these must be positive"
            )

    @property
    def identity(self) -> int:
        """The name in 64 bits: an element that strays in from another stream is refused."""
        return int.from_bytes(hashlib.blake2b(self.name.encode(), digest_size=8).digest(), "little")

    def route(self, rank: int, partner: int, *, producing: bool) -> Route:
        """The link of `rank` to `partner`."""
        ends = (rank, partner) if producing else (partner, rank)
        return Route(
            partner=partner,
            identity=self.identity,
            key=self.identity % _KEYS,
            credits=self.credits,
            element_bytes=self.element_bytes,
            max_frames=self.max_frames,
            where=f"stream {self.name} from rank {ends[0]} to rank {ends[1]}",
            mode=self.mode,
        )


@dataclass(slots=True)
class StreamStatistics:
    """What one end of a stream has done so far."""

    elements: int = 0
    frames: int = 0
    bytes: int = 0
    """Of pixels."""
    waits: int = 0
    """How often a call had to wait: for a credit, or for an element."""
    waited: float = 0.0
    """[s]"""
    most_in_flight: int = 0
    """Of the elements between this rank and one consumer (producers only)."""
    carriers: dict[int, str] = field(default_factory=dict)
    """How elements travel to and from each rank: "shared" or "messages"."""
