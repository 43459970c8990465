"""`lima2 web`: the page of a running system."""

import os
import signal
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Annotated

import typer

from lima2_tango.core.errors import Lima2Error, ParamError
from lima2_tango.core.priority import lower_session

from .process import LaunchError
from .run import control_device
from .rundir import find_system
from .up import Folder, Name

if TYPE_CHECKING:
    from lima2_tango.web.serve import Where

EXAMPLES = """Example: lima2 web simulator

Example: lima2 web --device id00/limacontrol/simulator --tango-host localhost:10000 --port 8080

Example: lima2 web simulator --listen 0.0.0.0 --token-file ~/.lima2/tokens --certificate cert.pem --key key.pem
"""
PORT = 8000
FOLLOW = 1.0
"""Whether the system was started anew is looked at so often [s]."""
Found = tuple[str, str, tuple[str, ...], str]
"""Tango database, control, receivers and title."""
NICENESS = 10
"""Who looks on gives way to who acquires, on the same computer."""

Port = Annotated[int, typer.Option(min=0, max=65535, help="TCP port; 0 takes a free one.")]
Listen = Annotated[
    str, typer.Option(metavar="ADDRESS", help="Where to listen; other computers need 0.0.0.0 and --token-file.")
]
TokenFile = Annotated[
    Path | None,
    typer.Option(help="Lines `operator TOKEN` and `read-only TOKEN`; made with new tokens where it is missing."),
]
Certificate = Annotated[Path | None, typer.Option(help="Speak TLS, with this certificate (PEM) and --key.")]
Key = Annotated[Path | None, typer.Option(help="Private key of --certificate (PEM).")]
Names = Annotated[
    list[str] | None, typer.Option("--name", metavar="HOST", help="One more name of this page, such as a proxy's.")
]
Receivers = Annotated[
    list[str] | None, typer.Option("--receiver", metavar="DEVICE", help="Receivers of --device, in order of rank.")
]
Rate = Annotated[float, typer.Option(min=0.1, max=60, help="Most pictures a second, over all browsers.")]
Device = Annotated[str | None, typer.Option(metavar="DEVICE", help="Control device, in place of SYSTEM.")]
Title = Annotated[str | None, typer.Option(help="What the page is called; else as the system is.")]
TangoHost = Annotated[
    str | None, typer.Option(metavar="HOST:PORT", help="Tango database of --device; else that of TANGO_HOST.")
]


def web(
    system: Name = None,
    folder: Folder = None,
    port: Port = PORT,
    listen: Listen = "127.0.0.1",
    token_file: TokenFile = None,
    certificate: Certificate = None,
    key: Key = None,
    names: Names = None,
    device: Device = None,
    receivers: Receivers = None,
    tango_host: TangoHost = None,
    rate: Rate = 10.0,
    title: Title = None,
) -> None:
    """Show a running system in the browser: image, regions, receivers, runs; start and stop it there.

    Only this computer sees the page, and whoever sees it may command. With --listen others see it too: they need a
    token, of an operator or of one who may only look.

    Exit codes: 0 it was told to end; 1 it cannot listen there, or was refused; 2 there is no such system.
    """
    try:
        from lima2_tango.web.serve import Where  # what it needs is an extra
    except ModuleNotFoundError as error:
        raise LaunchError(f"the page needs {error.name}: pip install 'lima2_tango[web]'") from error
    find = partial(_what, system, folder, device, tuple(receivers or ()), tango_host)
    found: Found | None = find()
    where = Where(listen, port, tuple(names or ()), token_file, certificate, key)
    os.nice(NICENESS)
    if os.getsid(0) == os.getpid():  # not that of somebody's shell
        lower_session(NICENESS)
    with _interruptible():
        while found is not None:
            found, where = _show(found, where, (title, rate), find if device is None else None)


def _show(
    found: Found, where: "Where", how: tuple[str | None, float], find: Callable[[], Found] | None
) -> tuple[Found | None, "Where"]:
    """Show the page until it is told to end, or until the system was started anew with another database.

    What was found of that one, and where to go on: on the same port.
    """
    from lima2_tango.web.serve import What, serving  # what it needs is an extra

    host, name, receivers, known = found
    title, rate = how
    newer: list[Found] = []
    with serving(What(host, name, receivers, title or known, rate), where) as page:
        _tell(page.url, page.tokens.names, where.token_file)
        here, ended = replace(where, port=page.port), Event()

        def follow() -> None:
            while find is not None and not ended.wait(FOLLOW):
                with suppress(Lima2Error):  # it is down, for now
                    again = find()
                    if again[0] != host:
                        newer.append(again)
                        page.end()
                        return

        Thread(target=follow, name="lima2-follow", daemon=True).start()
        try:
            page.run()
        finally:
            ended.set()
        return (newer[0] if newer else None), here


def _what(
    system: str | None, folder: Path | None, device: str | None, receivers: tuple[str, ...], tango_host: str | None
) -> Found:
    """Raises ParamError or NotUpError where that is not said."""
    if device is None and receivers:
        raise ParamError("--receiver", receivers[0], "the system knows its receivers: leave it out, or give --device")
    name, host = control_device(system, folder, device, tango_host)
    host = host or os.environ.get("TANGO_HOST", "")
    if not host.rpartition(":")[2].isdigit():
        raise ParamError("--tango-host", host, "give the Tango database as HOST:PORT, or set TANGO_HOST")
    if device is not None:
        return host, name, receivers, name.rpartition("/")[2]
    found = find_system(system, folder)
    return host, name, tuple(found.receivers), found.name


def _tell(url: str, tokens: dict[str, str], token_file: Path | None) -> None:
    if not tokens:
        typer.echo(f"the page is at {url}")
    elif not sys.stdout.isatty():  # a log, which others may read
        typer.echo(f"the page is at {url}#token=TOKEN, with one of {token_file}")
    else:
        for role, token in tokens.items():
            typer.echo(f"the page for {role:<9} is at {url}#token={token}")
    typer.echo("Ctrl-C ends it; the system goes on.", err=True)


@contextmanager
def _interruptible() -> Generator[None]:
    """Ctrl-C and SIGTERM, which the server hands on once it has ended, are no failure."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with suppress(KeyboardInterrupt):
        yield
