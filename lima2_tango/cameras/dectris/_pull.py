"""The stream's socket: what a PULL socket receives, decoded."""

from collections.abc import Iterator

import zmq

from lima2_tango.core.errors import DetectorError

from . import _legacy, _stream2
from ._messages import Message
from ._params import Stream

HELD = 256 << 20
"""Bytes that wait in this process for being taken, about [byte]."""
FEWEST, MOST = 8, 2000
"""Messages that wait, at least and at most."""


class Puller:
    """Connected while it is open; one thread at a time."""

    def __init__(self, address: str, port: int, stream: Stream, image_bytes: int) -> None:
        """`image_bytes` are those of an image as pixels, for how many may wait. Raises DetectorError."""
        host = address.rpartition(":")[0] or address
        self.address = f"tcp://{host}:{port}"
        self._stream = stream
        self._context = zmq.Context(1)
        self._socket = self._context.socket(zmq.PULL)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.RCVHWM, min(MOST, max(FEWEST, HELD // max(1, image_bytes))))
        self._socket.setsockopt(zmq.RECONNECT_IVL_MAX, 1000)
        try:
            self._socket.connect(self.address)
        except zmq.ZMQError as error:
            self.close()
            raise DetectorError(f"the stream at {self.address} cannot be connected to: {error}") from error

    def messages(self, timeout: float) -> Iterator[Message]:
        """What arrives next, none where nothing does within `timeout` seconds. Raises WireError.

        Stream 2 is one message a part; senders that have several at hand may send them as one.
        """
        if not self._socket.poll(round(timeout * 1000)):
            return
        parts = [frame.buffer for frame in self._socket.recv_multipart(zmq.NOBLOCK, copy=False)]
        if self._stream is Stream.LEGACY:
            yield _legacy.decode(parts)
            return
        for part in parts:
            yield _stream2.decode(part)

    def close(self) -> None:
        """Safe twice."""
        self._socket.close(0)
        self._context.term()
