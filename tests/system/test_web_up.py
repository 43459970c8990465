"""The page as part of `lima2 up`: started with the system, started again alone, ended with it."""

import json
from pathlib import Path
from urllib.request import urlopen

import pytest
from supervised import kept_up, lima2, printed, write_config
from websockets.sync.client import connect as connected

from lima2_tango.cli.config import load_config
from lima2_tango.core.errors import ParamError


def test_the_page_comes_with_the_system_and_again_after_its_death(tmp_path: Path) -> None:
    config = write_config(tmp_path / "shown.yaml", "single", name="shown", web={"enabled": True, "port": 0})
    with kept_up(tmp_path / "home", config) as system:
        url = printed(lima2("status", "--json", home=system.home))["web_url"]
        assert about(url)["title"] == "shown"
        with connected(url.replace("http", "ws") + "/live") as socket:
            assert {json.loads(socket.recv(10))["kind"] for _ in range(2)} <= {"status", "runs"}
        job = system.pid(next(part.name for part in system.state.processes if part.name.startswith("s")))
        system.kill("web")
        system.wait_up(restarts=1)
        assert about(url)["title"] == "shown"
        assert job in {part.pid for part in system.state.processes}


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
