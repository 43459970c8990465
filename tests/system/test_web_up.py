"""The page as part of `lima2 up`: started with the system, started again alone, ended with it."""

import json
import os
import signal
import subprocess
from contextlib import ExitStack
from pathlib import Path
from urllib.request import urlopen

import pytest
from browsing import chromium
from playwright.sync_api import Page, expect
from supervised import LIMA2, kept_up, lima2, printed, write_config
from watching import wait_for
from websockets.sync.client import connect as connected

from lima2_tango.cli.config import load_config
from lima2_tango.core.errors import ParamError


def test_the_page_comes_with_the_system_and_again_after_its_death(tmp_path: Path) -> None:
    web, roots = {"enabled": True, "port": 0}, [str(tmp_path)]
    config = write_config(tmp_path / "shown.yaml", "single", name="shown", web=web, data_roots=roots)
    with kept_up(tmp_path / "home", config) as system, chromium() as browser:
        url = printed(lima2("status", "--json", home=system.home))["web_url"]
        assert f"the page is at {url}" in system.events
        with connected(url.replace("http", "ws") + "/live") as socket:
            assert {json.loads(socket.recv(10))["kind"] for _ in range(2)} <= {"status", "runs"}
        page = browser.new_page()
        page.goto(url)
        expect(page.locator("#title")).to_have_text("shown")
        its_files_are_handed_out(page, tmp_path)
        job = system.pid(next(part.name for part in system.state.processes if part.name.startswith("s")))
        system.kill("web")
        expect(page.locator("#state")).to_have_text("page not connected")
        expect(page.locator("#start")).to_be_disabled()
        system.wait_up(restarts=1)
        assert about(url)["title"] == "shown"
        expect(page.locator("#state")).to_have_text("idle")  # without a reload
        assert job in {part.pid for part in system.state.processes}


def its_files_are_handed_out(page: Page, folder: Path) -> None:
    """Of a run that the page starts; one that is gone is told as such."""
    page.locator("#f-acq\\.nb_frames").fill("2")
    page.locator("#f-saving\\.base_path").fill(str(folder))
    page.locator("#form-start").click()
    link = page.locator("#runs a").filter(has_text="_00000.h5")
    expect(page.locator("#runs tbody tr").first).to_contain_text("done")
    path = Path(str(link.text_content()))
    with page.expect_download() as coming:
        link.click()
    assert Path(coming.value.path()).read_bytes() == path.read_bytes()
    path.unlink()
    link.click()
    expect(page.locator("#what")).to_contain_text(f"{path} is not on this computer")
    expect(page.locator("#remedy")).to_contain_text("look for it where the receivers run")


def about(url: str) -> dict[str, str]:
    with urlopen(f"{url}/api/about", timeout=10) as answer:
        found: dict[str, str] = json.load(answer)
    return found


def test_a_page_that_others_reach_needs_tokens(tmp_path: Path) -> None:
    opened = write_config(tmp_path / "open.yaml", web={"enabled": True, "listen": "0.0.0.0"})
    with pytest.raises(ParamError, match=r"\$\.web\.listen"):
        load_config(opened)
    named = {"enabled": True, "listen": "0.0.0.0", "token_file": str(tmp_path / "tokens")}
    assert load_config(write_config(tmp_path / "named.yaml", web=named)).web.token_file


def test_a_page_of_its_own_follows_a_system_that_is_started_anew(tmp_path: Path) -> None:
    """Its database has another port then."""
    config, home, same = (
        write_config(tmp_path / "again.yaml", "single", name="again"),
        tmp_path / "home",
        tmp_path / "link",
    )
    same.symlink_to(home)  # what is left of the system is looked for by its folder, and the page is not of it
    environment = {**os.environ, "LIMA2_HOME": str(same)}
    with ExitStack() as ended:
        with kept_up(home, config) as system:
            command = [LIMA2, "web", "again", "--port", "0"]
            page = ended.enter_context(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True))
            ended.callback(page.terminate)
            url = str(page.stdout.readline()).split()[-1].rstrip("/")
            assert about(url)["tango_host"] == system.state.tango_host
        with kept_up(home, config) as system:
            wait_for(lambda: shown_host(url) == system.state.tango_host, 20, "the page of the new system")
            page.send_signal(signal.SIGINT)
            assert page.wait(10) == 0


def shown_host(url: str) -> str:
    try:
        return about(url)["tango_host"]
    except OSError:  # between the two
        return ""
