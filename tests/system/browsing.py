"""The page of a running system, and a Chromium that looks at it."""

import re
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright
from watching import wait_for

from lima2_tango.cli.process import Child, environment, program
from lima2_tango.cli.system import System

CHROMIUM = "/usr/bin/chromium"
"""Debian's; playwright brings none of its own."""
URL = re.compile(r"at (https?://\S+)")


@contextmanager
def page_of(system: System, folder: Path, options: Sequence[str] = ()) -> Generator[str, None, None]:
    """`lima2 web` on a running system; its address."""
    receivers = [word for name in system.receivers for word in ("--receiver", name)]
    where = ["--device", system.control, "--tango-host", system.tango_host, *receivers, "--port", "0"]
    child = Child("the page", [program("lima2"), "web", *where, *options], environment(), folder / "web.log")
    try:

        def said() -> re.Match[str] | None:
            child.check()
            return URL.search(child.log.read_text(encoding="utf-8"))

        yield wait_for(said, 20, "the address of the page")[1]
    finally:
        child.stop()


@contextmanager
def chromium() -> Generator[Browser, None, None]:
    """Headless; without its sandbox, which root cannot have."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()
