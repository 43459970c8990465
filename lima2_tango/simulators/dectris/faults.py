"""What goes wrong, on request."""

from collections.abc import Iterator
from dataclasses import dataclass

from lima2_tango.core.errors import ParamError


@dataclass(frozen=True, slots=True)
class Faults:
    """Numbers are those of images in a series, from 0; they are the same in each series."""

    drop: frozenset[int] = frozenset()
    """Never sent."""
    duplicate: frozenset[int] = frozenset()
    """Sent twice."""
    reorder: frozenset[int] = frozenset()
    """Sent after the one that follows."""
    wrong_series: frozenset[int] = frozenset()
    """Sent with the number of the series before."""
    stall: tuple[int, float] | None = None
    """Before this image nothing is sent for so long [s]."""
    no_end: bool = False
    """The end of the series is never sent."""
    error_at: int | None = None
    """With this image the detector breaks: its state is error, and nothing more is sent."""
    hang_up_at: int | None = None
    """Before this image both streams are closed, and all that follows is lost; the next arm opens them again."""
    rest_errors: frozenset[str] = frozenset()
    """Addresses as `status/state` or `command/arm` that are answered with an internal error (500), of any module."""
    high_temperature: bool = False
    """The temperature is over its limit."""

    def order(self, first: int, count: int) -> Iterator[int]:
        """The numbers of `count` images from `first`, as they go out."""
        numbers, last = iter(range(first, first + count)), first + count - 1
        for number in numbers:
            both = [next(numbers), number] if number in self.reorder and number < last else [number]
            for each in both:
                if each not in self.drop:
                    yield from [each] * (2 if each in self.duplicate else 1)


def numbers_of(option: str, text: str) -> frozenset[int]:
    """`3,7-9` as numbers; raises ParamError."""
    found: set[int] = set()
    for part in filter(None, text.split(",")):
        first, dash, last = part.partition("-")
        try:
            found |= set(range(int(first), int(last if dash else first) + 1))
        except ValueError as error:
            raise ParamError(option, text, "give numbers of images, as 3,7-9") from error
    return frozenset(found)


def keys_of(option: str, text: str) -> frozenset[str]:
    """`command/arm,status/state` as addresses; raises ParamError."""
    found = frozenset(filter(None, text.split(",")))
    for key in found:
        if key.partition("/")[0] not in {"config", "status", "command"} or not key.partition("/")[2]:
            raise ParamError(option, key, "give addresses that begin with config, status or command, as command/arm")
    return found


def stall_of(text: str) -> tuple[int, float] | None:
    """`5:2.5` is 2.5 s before image 5; raises ParamError."""
    if not text:
        return None
    number, _, seconds = text.partition(":")
    try:
        return int(number), float(seconds)
    except ValueError as error:
        raise ParamError("--stall", text, "give IMAGE:SECONDS, as 5:2.5") from error
