"""What comes through a real port: bytes that are no HTTP, other sites' pages, browsers that never read."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from urllib.request import urlopen

import pytest
import uvicorn
from fake_system import FakeDevice, FakeLive, page_of
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

from lima2_tango.web.app import application
from lima2_tango.web.serve import LARGEST_MESSAGE, configured

PATIENCE = 10.0


@pytest.fixture
def live() -> FakeLive:
    return FakeLive(index=0)


@pytest.fixture
def port(live: FakeLive) -> Iterator[int]:
    """A page on a port of this computer; it still answers at the end."""
    page = page_of(live, FakeDevice())
    with closing(socket.create_server(("127.0.0.1", 0))) as opened:
        found = int(opened.getsockname()[1])
        server = uvicorn.Server(configured(application(page)))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [opened]})
        thread.start()
        try:
            yield found
            with urlopen(f"http://127.0.0.1:{found}/api/about", timeout=PATIENCE) as answer:
                assert json.load(answer)["title"] == "fake"
        finally:
            server.should_exit = True
            thread.join(PATIENCE)
        assert not thread.is_alive()


def answer_to(port: int, said: bytes) -> bytes:
    """All that comes back; the page ends the connection."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as door:
        try:
            door.sendall(said)
            door.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: door.recv(1 << 16), b""))
        except ConnectionError:
            return b""


HOST = b"Host: 127.0.0.1\r\nConnection: close\r\n"


@pytest.mark.parametrize(
    "said",
    [
        b"\0\1\2\3\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + HOST + b"Content-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"y" * (1 << 20) + b"\r\n\r\n",
        b"GET /live HTTP/1.1\r\n" + HOST + b"Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"GET /static/../access.py HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET /static/%2e%2e/access.py HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET /api/about HTTP/1.1\r\nConnection: close\r\n\r\n",
        b"GET /api/about HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n",
        b"GET /api/about HTTP/1.1\r\n" + HOST + b"Origin: null\r\n\r\n",
        b"BREW / HTTP/1.1\r\n" + HOST + b"\r\n",
        b"POST /api/order HTTP/1.1\r\n" + HOST + b"Content-Length: 9\r\n\r\n{",
        bytes.fromhex("160301006d0100006903030a") + bytes(98),  # the hello of TLS
    ],
)
def test_what_is_no_request_of_the_page_is_refused(port: int, said: bytes) -> None:
    answer = answer_to(port, said)
    assert not answer or answer.startswith(b"HTTP/1.1 4"), answer[:200]
    assert b"Traceback" not in answer


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1:1", "https://127.0.0.1.evil.example"]
)
def test_another_sites_page_opens_no_socket(port: int, origin: str) -> None:
    with pytest.raises(InvalidStatus) as refused, connect(f"ws://127.0.0.1:{port}/live", origin=Origin(origin)):
        pass
    assert refused.value.response.status_code == 403


def read_out(browser: ClientConnection) -> None:
    """Raises ConnectionClosed at the end."""
    while True:
        browser.recv(PATIENCE)


@pytest.mark.parametrize("kind", [str, bytes])
def test_a_message_that_is_too_long_ends_its_own_socket_alone(port: int, kind: type) -> None:
    with connect(f"ws://127.0.0.1:{port}/live") as other, connect(f"ws://127.0.0.1:{port}/live") as rude:
        rude.send("x" * (2 * LARGEST_MESSAGE) if kind is str else b"x" * (2 * LARGEST_MESSAGE))
        with pytest.raises(ConnectionClosed) as ended:
            read_out(rude)
        assert ended.value.rcvd is not None
        assert ended.value.rcvd.code == 1009
        assert other.recv(PATIENCE)


def test_who_never_reads_holds_nobody(port: int, live: FakeLive) -> None:
    with connect(f"ws://127.0.0.1:{port}/live", max_queue=1) as silent, connect(f"ws://127.0.0.1:{port}/live") as other:
        for _ in range(200):
            silent.send('{"drawn": true, "view": {"scale": "log"}}')
        seen = -1
        for index in range(1, 30):
            live.index = index
            while seen != index:
                message = other.recv(PATIENCE)
                if isinstance(message, bytes):
                    seen = json.loads(message[4 : 4 + int.from_bytes(message[:4], "little")])["frame"]
                    other.send('{"drawn": true}')
