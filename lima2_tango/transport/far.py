"""Frames, or parts of them, for receivers of other hosts: through streams, and there into the window.

What a near rank writes into a window itself, the receiver's own host does for a far one: a thread takes the elements of
its stream and copies them to where they belong.
"""

import logging
import time
from collections import deque
from collections.abc import Sequence
from threading import Event, Thread
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lima2_tango.core.errors import AgreementError, Lima2Error
from lima2_tango.core.frame import BLOCK_BYTES, FrameSpec

from .fabric import Fabric
from .outlet import PAUSE, ROOM_LIMIT, Batch, SharedOutlet
from .stream import Consumer, Element, Producer, StreamSpec

log = logging.getLogger(__name__)

CREDITS = 4
"""Elements on their way between two ranks at most."""
MOST_FRAMES = 4096
BEAT = 1.0
"""A rank that waits for frames says so often that it lives [s]."""
SILENCE = 5.0
"""A rank of another host that gives no sign of life for so long is lost to the run [s]: a link that is away for a
second or two costs nothing, and a run ends while whoever drives it still waits."""
LAST_WORD = 2.0
"""The end of a run waits so long for the threads of its streams [s]."""


def stream_of(run: str, writer: int, ranks: tuple[int, int], part: FrameSpec) -> StreamSpec:
    """The stream of parts of one writer to one receiver; `ranks` are their MPI ranks."""
    size = max(BLOCK_BYTES, part.nbytes)
    return StreamSpec(f"{run}/{writer}", ranks[:1], ranks[1:], size, MOST_FRAMES, CREDITS, silence=SILENCE)


class StreamOutlet:
    """Sends to a receiver of another host."""

    def __init__(self, fabric: Fabric, spec: StreamSpec, part: FrameSpec) -> None:
        """`part` is what this rank brings of a frame: its modules one after the other."""
        self._producer = Producer(fabric, spec)
        self._pixels = part.height * part.width
        # Who has no modules still counts frames: an element has a pixel at least.
        self._shape, self._dtype = (part.channels, 1, max(1, self._pixels)), part.dtype
        self._most = min(MOST_FRAMES, max(1, spec.element_bytes // max(1, part.nbytes)))
        self._last = 0
        self._begins: deque[int] = deque(maxlen=CREDITS)
        """First frame of each of the last elements."""
        self._lost = False
        """The receiver is silent, and whoever sends has heard so."""
        self._over = Event()
        Thread(target=self._live, name="lima2-beat", daemon=True).start()

    @property
    def load(self) -> int:
        return (CREDITS - self._producer.room()) * self._last

    def put(self, batch: Batch, which: NDArray[np.int64]) -> int:
        which = which[: self._most]
        bits = batch.bits[which]
        count = int(np.argmin(np.append(bits == bits[0], False)))  # an element says once what its frames lack
        which = which[:count]
        memory = self._room(count, int(batch.index[which[0]]))
        if memory is None:
            return 0
        if self._pixels:
            np.take(batch.parts, which, axis=0, out=memory.reshape(count, self._shape[0], -1), mode="clip")
        self._producer.commit(batch.index[which], batch.time[which], local=int(bits[0].astype(np.int64)))
        self._last = count
        self._begins.append(int(batch.index[which[0]]))
        return count

    def _room(self, count: int, index: int) -> NDArray[Any] | None:
        """Memory for so many frames; raises AgreementError with the first that may be lost where the rank is."""
        try:
            return self._producer.reserve((count, *self._shape), self._dtype)
        except AgreementError as error:
            first = min([index, *self._begins])
            self._lost = True
            lost = f"{error.what}; frames from {first} on may have been lost on their way there"
            raise AgreementError(lost, **error.info) from error

    def end(self, error: str = "") -> None:
        self._over.set()
        try:
            self._producer.close(error)
        except AgreementError:
            if not self._lost:
                raise

    def _live(self) -> None:
        while not self._over.wait(BEAT):
            self._producer.beat()


class Pump:
    """Takes what one far writer sends and writes it into this receiver's window; a thread, until the writer's end."""

    def __init__(self, fabric: Fabric, spec: StreamSpec, outlet: SharedOutlet, bits: Sequence[int]) -> None:
        """`bits` are those of the writer's modules, in their order."""
        self._consumer = Consumer(fabric, spec)
        self._outlet = outlet
        self._bits = np.array(bits, np.uint64)
        self._came = -1
        """The last frame that arrived."""
        self._thread = Thread(target=self._main, name="lima2-pump", daemon=True)
        self._thread.start()

    def join(self) -> None:
        """Wait for the end, within a bound: everything was taken by now, or is thrown away."""
        self._thread.join(LAST_WORD)

    def _main(self) -> None:
        try:
            self._consumer.operate(self._write)
            self._outlet.end()
        except Lima2Error as error:
            last = (
                f"the last frame that came from there is {self._came}"
                if self._came >= 0
                else "no frame came from there"
            )
            log.error("no more parts come from another rank: %s; %s", error, last)  # noqa: TRY400
            self._outlet.end(f"{error}; {last}")
        finally:
            self._consumer.close()

    def _write(self, element: Element) -> None:
        count, channels = element.data.shape[:2]
        bits = np.full(count, np.int64(element.local).astype(np.uint64), np.uint64)
        missing = (bits[:, np.newaxis] & self._bits) != 0
        parts = element.data.reshape(count, channels, element.data[0, 0].size)
        batch, which = Batch(parts, element.index, element.time, missing, bits), np.arange(count, dtype=np.int64)
        deadline = time.monotonic() + ROOM_LIMIT
        self._came = int(element.index[-1])
        while len(which):
            written = self._outlet.put(batch, which)
            which = which[written:]
            if written:
                deadline = time.monotonic() + ROOM_LIMIT
            elif time.monotonic() > deadline:
                raise AgreementError(f"this receiver took no frame for {ROOM_LIMIT:.0f} s, at {element.index[0]}")
            else:
                self._consumer.beat()
                time.sleep(PAUSE)
