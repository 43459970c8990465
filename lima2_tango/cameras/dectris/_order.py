"""Which messages of a stream are this run's images, in which order, and which are missing: no socket, no clock."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from ._messages import Image, Message, SeriesEnd, SeriesStart

WINDOW = 16
"""An image is given up for lost when so many later ones have come."""
REMEMBERED = 4096
"""Numbers of the last images that are known, to tell a copy from one that comes late."""


@dataclass(frozen=True, slots=True)
class Arm:
    """Which series the detector was armed for, as its control told; empty where nobody did."""

    sequence: int = -1
    unique_id: str = ""

    @property
    def known(self) -> bool:
        return self.sequence >= 0 or bool(self.unique_id)

    def leads(self, message: Message) -> bool:
        """The message belongs to this series."""
        if message.unique_id and self.unique_id:
            return message.unique_id == self.unique_id
        return message.series == self.sequence


@dataclass(frozen=True, slots=True)
class Missing:
    """Images that did not come."""

    first: int
    end: int
    """Number after the last."""


@dataclass(slots=True)
class Seen:
    """What was out of the ordinary in a run."""

    foreign: dict[int, int] = field(default_factory=dict)
    """By series: messages that are not this run's."""
    copies: int = 0
    """Images that came twice."""
    late: int = 0
    """Images that came after their turn, some of them in time to be put in order."""
    surplus: int = 0
    """Images behind the last that was asked for."""


class Sequencer:
    """Puts the images of one series in order. `share` is True where others pull from the same stream: then gaps are
    no losses, and what comes after its turn cannot wait for it."""

    def __init__(self, arm: Arm, nb_images: int, share: bool) -> None:
        """`nb_images` is how many were asked for, all receivers together; 0 for endless."""
        self.seen = Seen()
        self.next = 0
        """Number that is due, or (of a share) after the last that came."""
        self.start: SeriesStart | None = None
        self.ended = False
        """The detector said so."""
        self._arm = arm
        self._series: int | None = None
        self._end = nb_images or 2**62
        self._share = share
        self._waiting: dict[int, Image] = {}
        self._recent: dict[int, None] = {}

    @property
    def complete(self) -> bool:
        """Every image that was asked for was delivered or given up."""
        return self.next >= self._end

    def take(self, message: Message) -> Iterator[Image | Missing]:
        """What can be delivered now, in order."""
        if not self._is_ours(message):
            self.seen.foreign[message.series] = self.seen.foreign.get(message.series, 0) + 1
            return
        if isinstance(message, SeriesStart):
            self.start = message
        elif isinstance(message, SeriesEnd):
            self.ended = True
            yield from self.flush()
        elif self._is_new(message):
            yield from self._put(message)

    def flush(self) -> Iterator[Image | Missing]:
        """What still waits for an earlier one will not get it."""
        while self._waiting:
            yield from self._give_up_to(min(self._waiting))

    def missing_to(self, end: int) -> Iterator[Missing]:
        """Of a stream that nobody shares: what did not come before the image `end`; nothing waits any more."""
        if not self._share and self.next < end:
            yield Missing(self.next, end)
            self.next = end

    def _is_ours(self, message: Message) -> bool:
        if self._arm.known:
            return self._arm.leads(message)
        if self._series is None or (isinstance(message, SeriesStart) and not self.next and not self._waiting):
            self._series = message.series
        return message.series == self._series

    def _is_new(self, image: Image) -> bool:
        number = image.number
        if number >= self._end:
            self.seen.surplus += 1
            return False
        if number in self._recent:
            self.seen.copies += 1
            return False
        self._recent[number] = None
        if len(self._recent) > REMEMBERED:
            del self._recent[next(iter(self._recent))]
        if number < self.next:
            self.seen.late += 1
            return False
        return True

    def _put(self, image: Image) -> Iterator[Image | Missing]:
        if self._share:
            self.next = image.number + 1
            yield image
            return
        if self._waiting and image.number < max(self._waiting):
            self.seen.late += 1
        self._waiting[image.number] = image
        yield from self._due()
        while len(self._waiting) > WINDOW:
            yield from self._give_up_to(min(self._waiting))

    def _due(self) -> Iterator[Image]:
        while self.next in self._waiting:
            self.next += 1
            yield self._waiting.pop(self.next - 1)

    def _give_up_to(self, number: int) -> Iterator[Image | Missing]:
        if self.next < number:
            yield Missing(self.next, number)
            self.next = number
        yield from self._due()
