"""The page's server: one process, one event loop."""

import socket
import ssl
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from lima2_tango.client.live import Live, receivers_of
from lima2_tango.core.errors import Lima2Error, ParamError
from lima2_tango.core.heap import keep_memory

from .access import Door, Tokens, is_loopback
from .actions import Actions
from .app import application
from .hub import Hub
from .page import Page

LARGEST_MESSAGE = 1 << 16
"""Bytes of one message of a browser."""


@dataclass(frozen=True, slots=True)
class Where:
    """Where the page is to be found, and by whom."""

    listen: str = "127.0.0.1"
    port: int = 8000
    names: tuple[str, ...] = ()
    """More host names that lead here, such as a proxy's."""
    token_file: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    @property
    def scheme(self) -> str:
        return "https" if self.certificate else "http"

    def check(self) -> None:
        """Raise ParamError for what would open the page to whoever comes by."""
        if not is_loopback(self.listen) and self.token_file is None:
            raise ParamError(
                "--listen", self.listen, "other computers reach this address: give --token-file FILE, too (it is made)"
            )
        if (self.certificate is None) != (self.key is None):
            raise ParamError("--certificate", str(self.certificate), "TLS needs both: give --certificate and --key")
        for option, path in (("--certificate", self.certificate), ("--key", self.key)):
            if path is not None and not path.is_file():
                raise ParamError(option, str(path), "there is no such file: give a file in PEM format")


@dataclass(frozen=True, slots=True)
class What:
    """The system that the page shows."""

    tango_host: str
    control: str
    receivers: tuple[str, ...] = ()
    """None given: those of the control's camera."""
    title: str = "lima2"
    rate: float = 10.0
    """Most pictures a second."""


class Serving:
    """A page that browsers can open, once it runs."""

    def __init__(self, server: uvicorn.Server, door: socket.socket, url: str, tokens: Tokens) -> None:
        self.url, self.tokens = url, tokens
        self._server, self._door = server, door

    def run(self) -> None:
        """Until SIGINT or SIGTERM. The memory of frames is kept by this process."""
        keep_memory()
        self._server.run(sockets=[self._door])

    def end(self) -> None:
        """Let `run` return, from another thread."""
        self._server.should_exit = True

    @property
    def port(self) -> int:
        return int(self._door.getsockname()[1])


@contextmanager
def serving(what: What, where: Where) -> Generator[Serving]:
    """The port is taken, and given back at the end; raises Lima2Error."""
    where.check()
    tokens = Tokens.read(where.token_file) if where.token_file is not None else Tokens()
    with _listening(where) as opened:
        port = int(opened.getsockname()[1])
        page = _page(what, where, port, tokens)
        config = configured(application(page), where.certificate, where.key)
        _load(config, where)
        yield Serving(uvicorn.Server(config), opened, f"{where.scheme}://{_shown(where.listen)}:{port}/", tokens)


def configured(application: ASGIApp, certificate: Path | None = None, key: Path | None = None) -> uvicorn.Config:
    """Of the server: what a browser may send at most, and how long its last words are waited for."""
    return uvicorn.Config(
        application,
        log_level="warning",
        ws_max_size=LARGEST_MESSAGE,
        ws_max_queue=8,
        ws_per_message_deflate=False,
        ssl_certfile=certificate,
        ssl_keyfile=key,
        server_header=False,
        timeout_graceful_shutdown=2,
    )


def _page(what: What, where: Where, port: int, tokens: Tokens) -> Page:
    receivers = what.receivers or receivers_of(what.tango_host, what.control)
    if not receivers:
        raise Lima2Error(f"{what.control} has no receivers that run: start them, or name them with --receiver")
    actions = Actions(what.tango_host, what.control)
    hub = Hub(Live(what.tango_host, what.control, receivers), actions.device, what.rate)
    door = Door.of(where.listen, port, where.names)
    return Page(what.title, hub, actions, tokens, door, where.certificate is not None)


def _listening(where: Where) -> socket.socket:
    family = socket.AF_INET6 if ":" in where.listen else socket.AF_INET
    try:
        return socket.create_server((where.listen, where.port), family=family)
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or error
        remedy = "choose another with --port (0 takes a free one), or another address with --listen"
        raise Lima2Error(f"the page cannot listen on {where.listen} port {where.port} ({why}): {remedy}") from error


def _load(config: uvicorn.Config, where: Where) -> None:
    """Raises ParamError for a certificate or key that is none."""
    try:
        config.load()
    except (OSError, ssl.SSLError) as error:
        raise ParamError("--certificate", str(where.certificate), f"TLS cannot use it with its key: {error}") from error


def _shown(listen: str) -> str:
    """An address that a browser of this computer can open."""
    own = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}
    return own.get(listen, f"[{listen}]" if ":" in listen else listen)
