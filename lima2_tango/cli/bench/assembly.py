"""P5: partial frames that become whole across ranks, against a bare copy of the same bytes into memory in common."""

import statistics

from .assembly_ranks import BARE, OURS, Shape
from .pair import measured
from .row import Row, Tell

GOAL = 0.7


def measure(short: bool, tell: Tell) -> list[Row]:
    """P5: eight modules of half a megapixel become frames of 4 Mpixel; each of two ranks reads half of the frames."""
    count, repeats = (128, 3) if short else (512, 5)
    tell(f"two ranks assemble {count} frames of 4 Mpixel, {repeats} times")
    (times,) = measured("lima2_tango.cli.bench.assembly_ranks", count, repeats).values()
    megabytes = count * Shape().frame.nbytes / 1e6
    rate, reference = (megabytes / statistics.median(times[name]) for name in (OURS, BARE))
    what = "8 modules of 512 x 1024 gray16 to frames of 4 Mpixel, 2 ranks; reference: bare copy into a shared window"
    each = ", ".join(f"{bare / ours:.2f}" for ours, bare in zip(times[OURS], times[BARE], strict=True))
    return [Row("P5", what, rate, reference, "MB/s", rate / reference, GOAL, 0, repeats, f"of each repeat: {each}")]
