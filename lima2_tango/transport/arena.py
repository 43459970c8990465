"""A rank's share of the memory that the ranks of a host have in common: lent out for rings, touched when first lent."""

from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

import numpy as np
from numpy.typing import NDArray

PAGE = 4096
"""Unit in which the operating system gives memory [byte]."""


@dataclass(slots=True)
class _Claim:
    begin: int
    end: int
    over: Callable[[], bool] | None = None
    """True when nobody looks at the memory any more; None while its owner still writes."""


class Arena:
    """Claims on one piece of memory; where a consumer still reads, memory is free again only when it has finished.

    Memory that was touched is kept: the next run finds it warm.
    """

    def __init__(self, memory: NDArray[np.uint8], room: Callable[[], int] | None = None) -> None:
        """`room` says how many bytes the system can still give: to touch more would end the process."""
        self.memory = memory
        self._room = room or (lambda: len(memory))
        self._lock = Lock()
        self._claims: list[_Claim] = []
        self._touched = 0

    def claim(self, size: int) -> int | None:
        """Where `size` bytes begin that are nobody else's; None where there is no such place.

        The lowest place is taken, so that as little as possible is ever touched.
        """
        size = -(-size // PAGE) * PAGE
        with self._lock:
            self._claims = [claim for claim in self._claims if claim.over is None or not claim.over()]
            begin = 0
            for claim in self._claims:
                if claim.begin - begin >= size:
                    break
                begin = claim.end
            if begin + size > len(self.memory) or begin + size - self._touched > self._room():
                return None
            self._claims.append(_Claim(begin, begin + size))
            self._claims.sort(key=lambda claim: claim.begin)
        self._touch(begin, begin + size)
        return begin

    def give_back(self, begin: int, over: Callable[[], bool]) -> None:
        """The claim that begins there ends as soon as `over` says so."""
        with self._lock:
            next(claim for claim in self._claims if claim.begin == begin).over = over

    @property
    def claimed(self) -> int:
        """Bytes that are lent now."""
        with self._lock:
            return sum(claim.end - claim.begin for claim in self._claims if claim.over is None or not claim.over())

    def _touch(self, begin: int, end: int) -> None:
        """Let the system give the pages now, not at full speed."""
        with self._lock:
            self.memory[max(begin, self._touched) : end : PAGE] = 0
            self._touched = max(self._touched, end)
