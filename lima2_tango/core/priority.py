"""Who gives way to whom on the cores of one computer."""

from contextlib import suppress
from pathlib import Path


def lower_session(niceness: int) -> None:
    """Lower all processes of this session beside those of other sessions.

    Where the kernel shares the cores among sessions, the niceness of a process counts in its own session only.
    """
    with suppress(OSError):  # a kernel without such groups
        Path("/proc/self/autogroup").write_text(str(niceness))
