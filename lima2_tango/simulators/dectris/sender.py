"""The thread that sends: images when their exposure is over, as fast as the receivers take them."""

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from threading import Event, Thread

import zmq

from . import legacy, stream2
from .faults import Faults
from .series import Image, Series, ticks

LOOK = 0.05
"""How often a wait looks whether it is still wanted [s]."""
FORGOTTEN = 1.0
"""What nobody has taken for so long is lost, and the rest of its series, once the next one is armed [s]."""
RETRY = 0.02
"""Between two tries to listen on a port [s]."""
HIGH_WATER = 12
"""Messages that wait for each receiver, beside what its computer and the network hold."""
PATIENCE = 0.0005
"""An image is sent so long before it is due rather than waited for [s]: a wait takes longer."""


@dataclass(eq=False)
class Burst:
    """Exposures in a row, of one trigger."""

    series: Series
    first: int
    count: int
    begin: float
    """When the first began, by time.monotonic [s]."""
    offset: float
    """When that is, since the first exposure of the series [s]."""
    count_time: float
    """[s]"""
    period: float
    """Between two beginnings [s]; 0 sends as fast as the images are taken."""
    sent: Event = field(default_factory=Event)
    """Nothing of it will be sent any more."""
    nb_sent: int = 0
    """Images sent so far."""

    def due(self, number: int) -> float:
        """When an image is ready, by time.monotonic [s]."""
        return self.begin + (number - self.first) * self.period + (self.count_time if self.period else 0.0)

    def image(self, number: int, series_number: int) -> Image:
        start = self.offset + (number - self.first) * (self.period or self.count_time)
        return Image(number, ticks(start), ticks(start + self.count_time), series_number)


@dataclass(slots=True)
class Counts:
    """What was sent so far, since the detector was switched on."""

    images: int = 0
    nbytes: int = 0
    """Of compressed images."""
    dropped: int = 0
    """Images that nobody took, or that did not fit the buffer; not those of a fault on request."""


@dataclass(slots=True)
class _Begin:
    series: Series


@dataclass(slots=True)
class _End:
    series: Series


class Sender:
    """Two PUSH sockets, of stream 2 and of the legacy stream, and the thread that they belong to."""

    def __init__(self, address: str, ports: tuple[int, int], faults: Faults, buffer: int) -> None:
        """Listen at once on `ports`, of stream 2 and the legacy stream (0 takes a free one).

        `buffer` images at most wait for receivers, those that follow are dropped; 0 drops none. Raises OSError.
        """
        self.counts = Counts()
        self.faults = faults
        """From the next trigger on."""
        self._buffer, self._address = buffer, address
        self._queue: SimpleQueue[_Begin | Burst | _End | None] = SimpleQueue()
        self._closed = Event()
        self._newest = self._forgotten = 0
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._slots: list[stream2.Slot] = []
        self._trackers: list[zmq.MessageTracker | None] = []
        try:
            self._sockets = [_listen(self._context, address, port) for port in ports]
        except BaseException:
            self._context.destroy(linger=0)
            raise
        self.ports = [_port_of(socket) for socket in self._sockets]
        """Of stream 2 and of the legacy stream."""
        self._thread = Thread(target=self._run, name="lima2-simulated-stream", daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """False once something has gone wrong in its thread, or it is closed."""
        return self._thread.is_alive()

    def begin(self, series: Series) -> None:
        """Send the start of a series, after all that is waited for; what nobody takes of older ones is given up."""
        self._newest = series.order
        self._queue.put(_Begin(series))

    def expose(self, burst: Burst) -> None:
        self._queue.put(burst)

    def end(self, series: Series) -> None:
        self._queue.put(_End(series))

    def close(self) -> None:
        """Send nothing more."""
        self._closed.set()
        self._queue.put(None)
        self._thread.join()
        self._context.destroy(linger=0)

    def _run(self) -> None:
        while not self._closed.is_set():
            with suppress(Empty):
                match self._queue.get(timeout=LOOK):
                    case _Begin(series):
                        self._prepare(series)
                        self._send(series, [stream2.start(series)] if not series.legacy else legacy.start(series))
                    case Burst() as burst:
                        self._send_burst(burst)
                        burst.sent.set()
                    case _End(series) if not self.faults.no_end:
                        self._send(series, [stream2.end(series)] if not series.legacy else legacy.end(series))

    def _prepare(self, series: Series) -> None:
        """Room for the messages of a series; messages that are still on their way keep theirs."""
        self._listen_again()
        if not series.legacy:
            self._slots = [stream2.slot(series, chunks) for chunks in series.ring.chunks]
            self._trackers = [None] * len(self._slots)

    def _send_burst(self, burst: Burst) -> None:
        series = burst.series
        for number in self.faults.order(burst.first, burst.count):
            if self.faults.hang_up_at == number:
                self._hang_up()
                return
            if self.faults.stall is not None and self.faults.stall[0] == number:
                self._wait_until(time.monotonic() + self.faults.stall[1], series)
            if not self._wait_until(burst.due(number), series) or number >= series.exposed:
                return
            if self._full(burst, number):
                self.counts.dropped += 1
            else:
                wrong = number in self.faults.wrong_series
                burst.nb_sent += self._send_image(series, burst.image(number, series.number - wrong))

    def _hang_up(self) -> None:
        """Close the streams, and what is on its way is lost."""
        for socket in self._sockets:
            socket.close(0)
        self._sockets = []

    def _listen_again(self) -> None:
        """After a hang-up, on the same ports, as soon as the system gives them back."""
        while len(self._sockets) < len(self.ports) and not self._closed.wait(RETRY):
            with suppress(zmq.ZMQError):
                for port in self.ports[len(self._sockets) :]:
                    self._sockets.append(_listen(self._context, self._address, port))

    def _wait_until(self, due: float, series: Series) -> bool:
        """False where the image is not wanted any more."""
        while (left := due - time.monotonic()) > PATIENCE:
            if series.discarded.wait(min(left, LOOK)) or self._closed.is_set():
                return False
        return not (series.discarded.is_set() or self._closed.is_set())

    def _full(self, burst: Burst, number: int) -> bool:
        if not self._buffer or not burst.period:
            return False
        late = (time.monotonic() - burst.due(number)) / burst.period
        return late > self._buffer

    def _send_image(self, series: Series, image: Image) -> bool:
        place = image.number % len(series.ring)
        chunks = series.ring.chunks[place]
        if series.legacy:
            sent = self._send(series, legacy.image(series, image, chunks), is_image=True)
        else:
            sent = self._send_slot(series, image, place)
        if sent:
            self.counts.images += 1
            self.counts.nbytes += sum(len(chunk.data) for chunk in chunks)
        else:
            self.counts.dropped += 1
        return sent

    def _send_slot(self, series: Series, image: Image, place: int) -> bool:
        """Send without a copy; where the place is still being sent, what is sent now is a copy."""
        slot, tracker = self._slots[place], self._trackers[place]
        if tracker is not None and not tracker.done:
            slot = stream2.Slot(bytearray(slot.message), slot.places)
        slot.fill(series, image)
        frame = zmq.Frame(slot.message, track=True, copy=False)
        sent = self._send(series, [frame], is_image=True)
        if sent and slot is self._slots[place]:
            self._trackers[place] = frame.tracker
        return sent

    def _send(self, series: Series, parts: Sequence[bytes | zmq.Frame], is_image: bool = False) -> bool:
        """Wait until a receiver has room for the message; False where that is not wanted any more."""
        if not self._sockets:
            return False
        socket = self._sockets[series.legacy]
        begin = time.monotonic()
        while True:
            has_room = bool(socket.poll(int(LOOK * 1000), zmq.POLLOUT))
            if series.order < self._newest and time.monotonic() - begin > FORGOTTEN:
                self._forgotten = series.order
            unwanted = series.order <= self._forgotten or (is_image and series.discarded.is_set())
            if unwanted or self._closed.is_set():
                return False
            if has_room:
                with suppress(zmq.Again):  # who had room has gone since
                    socket.send_multipart(parts, zmq.NOBLOCK, copy=False)
                    return True


def _listen(context: zmq.Context[zmq.Socket[bytes]], address: str, port: int) -> zmq.Socket[bytes]:
    socket = context.socket(zmq.PUSH)
    socket.set_hwm(HIGH_WATER)
    socket.linger = 0
    socket.bind(f"tcp://{address}:{port or '*'}")
    return socket


def _port_of(socket: zmq.Socket[bytes]) -> int:
    endpoint = socket.getsockopt(zmq.LAST_ENDPOINT)
    assert isinstance(endpoint, bytes)  # so it is documented
    return int(endpoint.decode().rpartition(":")[2])
