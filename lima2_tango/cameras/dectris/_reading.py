"""One series as one receiver reads it: messages become blocks, gaps placeholders, silence a question."""

import logging
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from lima2_tango.cameras.base import BLOCK_AGE
from lima2_tango.core.acquisition import TriggerMode
from lima2_tango.core.errors import DataLossError, DetectorError
from lima2_tango.core.frame import Block, FrameSpec
from lima2_tango.core.losses import placeholders
from lima2_tango.core.pool import Pool
from lima2_tango.core.series import ENDLESS, Series

from ._blocks import Chunks, block, in_order
from ._detector import errors
from ._messages import Image
from ._order import Arm, Missing, Sequencer
from ._params import DectrisParams, Lost
from ._pull import Puller
from ._simplon import Simplon

log = logging.getLogger(__name__)

TICK = 0.02
"""How long a wait for a message lasts before something else is looked at [s]."""
QUIET = 1.0
"""Without a message for so long, the detector is asked how it is [s]."""
TAIL = 64
"""So many images at the end of a series may be lost as others are; where more do not come, the series was ended."""
STRAGGLERS = 0.25
"""After the common end, images below it that are on their way to this receiver come within this [s]."""


@dataclass(frozen=True, slots=True)
class Frames:
    """What was promised of the frames, and what they are made with."""

    spec: FrameSpec
    channels: tuple[str, ...]
    """In the order of the frame."""
    per_block: int
    """Most frames of a block."""
    pool: Pool
    threads: ThreadPoolExecutor | None
    """What unpacks them before anybody asks; none where those do who ask."""


class Reading:
    """From the first message to the last."""

    def __init__(self, params: DectrisParams, frames: Frames, puller: Puller, simplon: Simplon, series: Series) -> None:
        self.local = 0
        """Frames delivered so far."""
        self._det, self._frames, self._puller, self._simplon, self._series = params.det, frames, puller, simplon, series
        self._internal = params.acq.trigger_mode is TriggerMode.INTERNAL
        self._share = series.topology.receivers > 1
        told = [*series.tag]
        arm = Arm(int(told[0]), str(told[1])) if len(told) == 2 else Arm()
        self._sequencer = Sequencer(arm, params.acq.nb_frames, self._share)
        self._base: float | None = None
        """When the series began, seconds since the epoch (UTC)."""
        self._heard = time.monotonic()
        """When the last message came, monotonic [s]."""
        self._wanted = self._heard
        """When the last one came that is not behind the end: that is not waited for, monotonic [s]."""
        self._asked = 0.0
        """When the detector was asked last, monotonic [s]."""
        self._told = True
        """What was delivered is known to the others."""
        self._done = False
        """The detector is done, as it says itself or in the stream."""

    def blocks(self) -> Iterator[Block]:
        """In the order of the detector's numbers; raises DetectorError, WireError, DataLossError."""
        while not self._is_over():
            yield from self._counted(self._gather())
        if not self._share and self._series.end < ENDLESS:
            yield from self._counted([*self._sequencer.flush()])
            yield from self._counted(self._tail())
        self._log_seen()

    def _is_over(self) -> bool:
        series, sequencer, now = self._series, self._sequencer, time.monotonic()
        if not self._share:
            return sequencer.next >= series.end or (self._done and now - self._heard > QUIET)
        if series.is_cut:
            return now - self._wanted > STRAGGLERS or series.left
        return False

    def _gather(self) -> list[Image | Missing]:
        """What can go into one block: as many images as it holds, or those of a moment."""
        found: list[Image | Missing] = []
        begin = time.monotonic()
        while len(found) < self._frames.per_block:
            waited = found and not self._series.frame_by_frame and time.monotonic() - begin < BLOCK_AGE
            arrived = self._arrived(0.0 if found and not waited else TICK)
            found += arrived
            if not arrived and not waited:
                break
        if not found:
            self._pause()
        return found

    def _arrived(self, timeout: float) -> list[Image | Missing]:
        found: list[Image | Missing] = []
        for message in self._puller.messages(timeout):
            self._heard = time.monotonic()
            if not isinstance(message, Image) or message.number < self._series.end:
                self._wanted = self._heard
            if isinstance(message, Image) and self._base is None:
                self._base = time.time() - message.start_time - message.real_time
            found += self._sequencer.take(message)
        self._done |= self._sequencer.ended
        return found

    def _counted(self, items: list[Image | Missing]) -> Iterator[Block]:
        for one in self._taken(items):
            count = len(one)  # whoever takes it may give it up
            yield one
            self.local += count
            self._told = False

    def _taken(self, items: list[Image | Missing]) -> Iterator[Block]:
        """Blocks of items in order: images in a row in one, those that are missing as zeros in others."""
        images: list[Image] = []
        for item in items:
            if isinstance(item, Image):
                images.append(item)
                continue
            yield from self._block(images)
            images = []
            yield from self._lost(item)
        yield from self._block(images)

    def _block(self, images: list[Image]) -> Iterator[Block]:
        if not images:
            return
        index = np.array([image.number for image in images], np.int64)
        count = self._series.arrived(index)
        if not count:
            return
        made = self._frames
        chunks: list[Chunks] = [in_order(image, made.channels, made.spec) for image in images[:count]]
        times = np.array([(self._base or 0.0) + image.start_time for image in images[:count]], np.float64)
        yield block(chunks, index[:count], self.local, times, made.spec, made.pool, made.threads)

    def _lost(self, missing: Missing) -> Iterator[Block]:
        end = min(missing.end, self._series.end)
        if missing.first >= end:
            return
        if self._det.overload is Lost.ABORT:
            raise DataLossError(
                f"frame {missing.first} never came, nor did {end - missing.first - 1} behind it: the network or this "
                "computer is too slow for the stream, or the detector has dropped them (stream_dropped in its status); "
                "acquire slower, or allow losses: $.det.overload count",
                frame_idx=missing.first,
            )
        index = np.arange(missing.first, end, dtype=np.int64)
        count = self._series.arrived(index)
        log.warning("frames %d to %d never came", missing.first, end - 1)
        times = np.asarray((self._base or time.time()) + index[:count] * self._series.period, np.float64)
        yield from placeholders(self._frames.spec, self.local, index[:count], times)

    def _tail(self) -> list[Image | Missing]:
        """Images at the end that did not come."""
        end, first = self._series.end, self._sequencer.next
        if first < end and self._base is None:
            raise self._silence(f"the detector has exposed its series, but none of its {end - first} images came")
        if end - first > TAIL:
            raise DataLossError(
                f"the detector has ended its series before frame {first}, {end} were asked for: somebody else has "
                "stopped or disarmed it, or it has failed; look at its status, then prepare again",
                frame_idx=first,
            )
        return [*self._sequencer.missing_to(end)]

    def _pause(self) -> None:
        """Nothing has come for a moment."""
        if not self._told:
            self._told = True
            self._series.on_pause()
        now = time.monotonic()
        if now - max(self._heard, self._asked) < QUIET:
            return
        self._asked = now
        self._ask(now - self._heard)
        if self._done and self._share and not self._series.is_cut:
            self._series.on_end()

    def _ask(self, quiet: float) -> None:
        """The detector is quiet: is it done, in trouble, or is it the one who waits? Raises DetectorError."""
        simplon, limit = self._simplon, self._det.silence_limit
        due = f"frame {self._sequencer.next}"
        try:
            state = simplon.state
        except DetectorError as error:
            if quiet > limit:
                raise DetectorError(f"{due} has not come for {quiet:.0f} s, and {error.what}") from error
            return
        if state == "error":
            raise DetectorError(f"{due} has not come: the detector is in state error{errors(simplon)}; Reset, prepare")
        if state == "na":
            raise DetectorError(f"{due} has not come: the detector was restarted (state na); prepare again")
        self._done |= state == "idle"
        exposing = state == "acquire" or self._internal
        patience = limit + self._series.period
        if exposing and not self._done and quiet > patience:
            raise self._silence(f"{due} has not come for {quiet:.0f} s, the detector is in state {state}")

    def _silence(self, what: str) -> DetectorError:
        foreign = self._sequencer.seen.foreign
        others = f"; messages of series {sorted(foreign)} came, which is not this run's" if foreign else ""
        return DetectorError(
            f"{what}{others}: is its stream really at {self._puller.address} ($.det.stream, $.det.stream_port), and "
            "does no other program pull from it?"
        )

    def _log_seen(self) -> None:
        seen = self._sequencer.seen
        for series, count in seen.foreign.items():
            log.warning("%d messages of series %d were left out: they are of another arm", count, series)
        for count, what in ((seen.copies, "twice"), (seen.late, "late"), (seen.surplus, "beyond the end of the run")):
            if count:
                log.warning("%d images came %s", count, what)
