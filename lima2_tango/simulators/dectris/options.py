"""What a user asks of the simulator, which nobody can ask of a detector."""

from dataclasses import dataclass, field

from .faults import Faults


@dataclass(frozen=True, slots=True)
class Options:
    """How the simulator differs from a detector as it is delivered."""

    version: str = "1.8.0"
    """Of the interface, in its paths."""
    distinct: int = 16
    """Different images."""
    rate: float = 0.0
    """Images a second; 0 goes by `frame_time`."""
    flat_out: bool = False
    """Images as fast as receivers take them."""
    pulse_period: float = 0.0
    """Between two external triggers, which begin by themselves when armed [s]; 0 has none."""
    buffer: int = 0
    """Images that wait for receivers before more are dropped; 0 drops none."""
    bit_depth: int = 0
    """Bits of a pixel: 8, 16 or 32; 0 goes by the frame time, as a detector does."""
    faults: Faults = field(default_factory=Faults)
