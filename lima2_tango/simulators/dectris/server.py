"""A simulated detector on the network."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import SHUT_RDWR, socket
from threading import Thread
from typing import Any, Self

from zmq import ZMQError

from lima2_tango.core.errors import ParamError

from .detector import Detector
from .faults import Faults
from .frames import Source
from .models import Model
from .options import Options
from .rest import answer
from .sender import Counts, Sender

STREAM2_PORT, LEGACY_PORT = 31001, 9999
"""Those of real detectors; their REST interface is on port 80."""
LARGEST = 1 << 28
"""A request may have so many bytes: a pixel mask of 16 million pixels has 93 MB."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body of an answer in one packet
    disable_nagle_algorithm = True
    server: "_Server"

    def do_GET(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: object) -> None:
        """Nobody reads it."""

    def _answer(self) -> None:
        length = self.headers.get("Content-Length", "0")
        if not length.isdigit() or int(length) > LARGEST:
            self.send_error(413)
            return
        given = answer(self.server.detector, self.command, self.path, self.rfile.read(int(length)))
        self.send_response(given.status)
        self.send_header("Content-Type", given.content_type)
        self.send_header("Content-Length", str(len(given.body)))
        self.end_headers()
        self.wfile.write(given.body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    detector: Detector

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(address, handler)
        self._connections: set[socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        """Close what is still connected, as where the power fails."""
        for connection in self._connections.copy():
            with suppress(OSError):  # closed already
                connection.shutdown(SHUT_RDWR)


class SimulatedDetector:
    """REST and streams of one detector; a context manager that listens while it is entered."""

    def __init__(
        self,
        model: Model,
        options: Options | None = None,
        address: str = "127.0.0.1",
        port: int = 0,
        stream_ports: Sequence[int] = (0, 0),
        source: Source | None = None,
    ) -> None:
        """Ports of 0 are free ones; `stream_ports` are those of stream 2 and of the legacy stream."""
        self._model, self._options, self._source = model, options or Options(), source
        self.address = address
        self._ports = (port, *stream_ports)

    def __enter__(self) -> Self:
        """Listen; raises ParamError for a port that is in use."""
        with _explained("--stream-port", self._ports[1:]):
            self._sender = self._open_streams()
        try:
            with _explained("--port", self._ports[0]):
                self._server = _Server((self.address, self._ports[0]), _Handler)
        except BaseException:
            self._sender.close()
            raise
        self.detector = self._server.detector = Detector(self._model, self._options, self._sender, self._source)
        self._thread = Thread(target=self._server.serve_forever, args=(0.05,), name="lima2-simulated-rest", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.detector.close()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._server.hang_up()
        self._sender.close()

    @property
    def port(self) -> int:
        """Of the REST interface."""
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        return f"http://{self.address}:{self.port}"

    @property
    def stream_ports(self) -> tuple[int, int]:
        """Of stream 2 and of the legacy stream."""
        stream2, legacy = self._sender.ports
        return stream2, legacy

    @property
    def counts(self) -> Counts:
        """What was sent so far."""
        return self._sender.counts

    def set_faults(self, faults: Faults) -> None:
        """From the next series on; those of the REST interface at once."""
        self.detector.options = replace(self.detector.options, faults=faults)
        self._sender.faults = faults

    def _open_streams(self) -> Sender:
        stream2, legacy = self._ports[1:]
        return Sender(self.address, (stream2, legacy), self._options.faults, self._options.buffer)


@contextmanager
def _explained(option: str, port: object) -> Generator[None]:
    try:
        yield
    except (OSError, ZMQError) as error:
        reason = f"it cannot be listened on ({error.strerror}): end who has it, or choose another (0 takes a free one)"
        raise ParamError(option, port, reason) from error
