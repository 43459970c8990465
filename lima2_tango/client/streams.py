"""A run that is followed, step by step: each step takes a bounded time, so that whoever follows can stop in between.

A step yields None where there was nothing new. `Run` drops these and waits; `AsyncRun` waits outside the event loop.
"""

import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from lima2_tango.core.errors import DataLossError, NotAvailableError

from .database import NotReadyError
from .link import REMEDY, Frame, Link, Rows
from .records import Progress

T = TypeVar("T")

POLL = 0.05
"""Between two questions where there was nothing new [s]."""


def progress(link: Link, period_s: float = POLL) -> Iterator[Progress]:
    """How the run gets on, the last time when it is over."""
    while True:
        now = link.progress()
        yield now
        if now.over:
            return
        time.sleep(period_s)


def until_over(link: Link, timeout_s: float) -> Iterator[None]:
    """Ends when the run is over; raises NotReadyError past `timeout_s`, RunFailedError where it failed."""
    deadline = time.monotonic() + timeout_s
    while not (record := link.record()).over:
        if time.monotonic() > deadline:
            raise NotReadyError(
                f"run {link.uuid} is not over after {timeout_s:g} s: it is {record.state} with "
                f"{record.nb_frames_processed} frames processed; wait longer, or stop it"
            )
        time.sleep(POLL)
        yield None
    link.outcome()


def newest(link: Link, getter: str, timeout_s: float) -> Iterator[Frame | None]:
    """The newest frame, each once and in order; those in between are left out."""
    last = -1

    def take() -> Iterator[Frame]:
        nonlocal last
        try:
            frame = link.frame(-1, getter)
        except NotAvailableError:
            return
        if frame.index > last:  # a receiver that is behind the others may be asked: what it has is no news
            last = frame.index
            yield frame

    return _follow(link, take, timeout_s)


def every(link: Link, getter: str, timeout_s: float) -> Iterator[Frame | None]:
    """All frames in order; raises DataLossError where one is gone before it was read."""
    following = 0

    def take() -> Iterator[Frame]:
        nonlocal following
        while True:
            try:
                frame = link.frame(following, getter)
            except NotAvailableError:
                return
            following += 1
            yield frame

    yield from _follow(link, take, timeout_s)
    total = link.record().nb_frames_processed
    if getter == "getFrame" and following < total:
        raise DataLossError(f"frame {following} is not held any more, {total} frames were made: {REMEDY}")


def rows(link: Link, popper: str, timeout_s: float) -> Iterator[Rows | None]:
    """Rows as they come, [frame, region], in order of the frames."""

    def take() -> Iterator[Rows]:
        while len(found := link.rows(popper)):  # all: those of a receiver that was slow come behind the others'
            yield found

    return _follow(link, take, timeout_s)


def _follow(link: Link, take: Callable[[], Iterator[T]], timeout_s: float) -> Iterator[T | None]:
    """What `take` finds, until the run is over and nothing is left; then its error, if it has one.

    Raises NotReadyError where nothing comes for `timeout_s`.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        asked = time.monotonic()
        over = link.record().over  # asked before: what comes later is taken below
        for item in take():
            yield item
            deadline = time.monotonic() + timeout_s  # only now: what the caller does with it takes its own time
        if over:
            link.outcome()
            return
        if time.monotonic() > deadline:
            raise NotReadyError(
                f"nothing came from run {link.uuid} for {timeout_s:g} s: is it started, and triggered? Wait longer "
                "(timeout_s), or stop it"
            )
        time.sleep(max(0.0, asked + POLL - time.monotonic()))
        yield None
