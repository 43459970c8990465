"""What answers in the place of a detector, and what it may say."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread

import pytest

from lima2_tango.cameras.dectris import _simplon
from lima2_tango.cameras.dectris._simplon import NotThereError, RefusedError, Simplon
from lima2_tango.core.errors import DetectorError

Answer = Callable[[str], tuple[int, str]]
"""Status and body of a path."""


@pytest.fixture
def serve() -> Iterator[Callable[[Answer], Simplon]]:
    """A server that answers as it is told."""
    with ExitStack() as stack:

        def make(answer: Answer) -> Simplon:
            class Handler(BaseHTTPRequestHandler):
                def do_GET(self) -> None:
                    status, body = answer(self.path)
                    self.send_response(status)
                    self.send_header("Content-Length", str(len(body.encode())))
                    self.end_headers()
                    with suppress(BrokenPipeError):  # who asked does not wait any more
                        self.wfile.write(body.encode())

                do_PUT = do_GET  # noqa: N815 - the names are the library's

                def log_message(self, format: str, *args: object) -> None:
                    """Nobody reads it."""

            server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
            stack.callback(server.server_close)
            stack.callback(server.shutdown)
            Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
            simplon = Simplon(f"127.0.0.1:{server.server_address[1]}")
            stack.callback(simplon.close)
            return simplon

        yield make


def detector(values: dict[str, tuple[int, str]]) -> Answer:
    """Version 1.8.0, and these values."""

    def answer(path: str) -> tuple[int, str]:
        if path == "/detector/api/version":
            return 200, '{"value": "1.8.0"}'
        return values.get(path.removeprefix("/detector/api/1.8.0/"), (404, "no such thing"))

    return answer


def test_what_is_no_detector_is_named(serve: Callable[[Answer], Simplon]) -> None:
    with pytest.raises(DetectorError, match=r"is no Dectris detector of SIMPLON 1\.6 to 1\.8 \(HTTP 404\)"):
        serve(lambda _: (404, "not here")).get("nimages")


def test_a_version_that_does_not_tell_itself_is_found(serve: Callable[[Answer], Simplon]) -> None:
    answers = {"/detector/api/1.7.0/status/state": (200, '{"value": "idle"}')}
    assert serve(lambda path: answers.get(path, (404, ""))).state == "idle"


def test_limits_come_with_the_value(serve: Callable[[Answer], Simplon]) -> None:
    body = '{"value": 5, "unit": "eV", "min": 1, "max": 9, "allowed_values": [5, 6]}'
    entry = serve(detector({"config/energy": (200, body)})).get("energy")
    assert (entry.value, entry.unit, entry.least, entry.most, entry.allowed) == (5, "eV", 1, 9, (5, 6))


def test_what_is_not_there_can_be_asked_for(serve: Callable[[Answer], Simplon]) -> None:
    simplon = serve(detector({}))
    assert simplon.find("roi_mode") is None
    with pytest.raises(NotThereError, match="there is no detector/config/roi_mode"):
        simplon.get("roi_mode")


@pytest.mark.parametrize("body", ["", "nonsense", "[1]", '{"unit": "eV"}'])
def test_an_answer_that_is_no_value_is_named(serve: Callable[[Answer], Simplon], body: str) -> None:
    with pytest.raises(DetectorError, match="detector/config/energy of the detector at .* is .*, not a value"):
        serve(detector({"config/energy": (200, body)})).get("energy")


def test_a_refusal_carries_the_detectors_own_message(serve: Callable[[Answer], Simplon]) -> None:
    simplon = serve(detector({"config/energy": (400, "value error:  too\nlow")}))
    with pytest.raises(RefusedError, match="refuses config energy: value error: too low") as caught:
        simplon.put("energy", 1)
    assert caught.value.reason == "value error: too low"


def test_silence_has_a_bound(serve: Callable[[Answer], Simplon], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_simplon, "READ_LIMIT", 0.2)
    never = Event()

    def answer(_: str) -> tuple[int, str]:
        never.wait(5)
        return 200, ""

    simplon = serve(answer)
    try:
        with pytest.raises(DetectorError, match=r"did not answer GET /detector/api/version within 0\.2 s"):
            simplon.get("nimages")
    finally:
        never.set()
