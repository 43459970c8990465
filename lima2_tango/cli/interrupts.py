"""Ctrl-C and SIGTERM that cannot get lost.

Python drops what is raised while a weak reference or a destructor is called back, and a signal may come just then. What
is raised while LLVM calls back, which compiles our kernels, ends the process at once, and what it started is left.
"""

import signal
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType

COMPILER = "llvmlite"
"""Python's side of LLVM."""


@contextmanager
def heard() -> Generator[Callable[[], None]]:
    """Within it SIGINT raises KeyboardInterrupt and SIGTERM SystemExit, so that everything started is stopped.

    What is given raises it once more where it got lost, or had to wait: for long work to call now and then. For the
    main thread.
    """
    asked: list[int] = []

    def hear(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        if not _in_compiler(frame):
            check()

    def check() -> None:
        if asked:
            raise KeyboardInterrupt if asked[0] == signal.SIGINT else SystemExit(128 + asked[0])

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    # A shell's background job is not for its Ctrl-C, and what we start must not inherit that it is ignored.
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, hear if handler in (signal.SIG_DFL, signal.default_int_handler) else handler)
    try:
        yield check
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _in_compiler(frame: FrameType | None) -> bool:
    """Whether a signal that came in this frame interrupts LLVM."""
    while frame is not None:
        if str(frame.f_globals.get("__name__")).partition(".")[0] == COMPILER:
            return True
        frame = frame.f_back
    return False
