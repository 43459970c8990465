"""The page in a real browser, on a real system: start, watch, draw a region, stop, fail."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import numpy as np
import pytest
from browsing import chromium, page_of
from playwright.sync_api import Browser, Page, expect
from support import LEGACY, Rig
from watching import wait_for
from websockets.sync.client import connect as connected

from lima2_tango.cli.system import System
from lima2_tango.client import Client, connect
from lima2_tango.core.roi import Arc, Position
from lima2_tango.core.state import State

MOVING = {"acq": {"expo_time": 20000, "nb_frames": 0}, "det": {"generator": {"gauss": {"grow_factor": 0.2}}}}
"""Until stopped, 50 frames a second, none like the one before."""
MASK_COLOUR, BRIGHTEST = [0x3B, 0x5B, 0x7A], [0xFC, 0xFF, 0xA4]
"""Of colour.js, the second one of inferno."""
PATIENCE = 30.0
"""A computer that does much else besides shows it within [s]."""


@pytest.fixture(scope="module")
def address(system: System, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with page_of(system, tmp_path_factory.mktemp("web")) as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    expect.set_options(timeout=PATIENCE * 1000)
    with chromium() as found:
        yield found


@pytest.fixture
def lima(system: System) -> Iterator[Client]:
    with connect(system.control, system.tango_host) as client:
        client.replace(acq=MOVING, proc={"class_name": LEGACY, "saving": {"enabled": False}})
        yield client
        client.stop()
        client.reset()


@pytest.fixture
def page(browser: Browser, address: str, lima: Client) -> Iterator[Page]:
    """The page open, and no fault of it at the end."""
    found = browser.new_page(viewport={"width": 1440, "height": 1000})
    found.set_default_timeout(PATIENCE * 1000)
    faults: list[str] = []
    hosts: set[str] = set()
    found.on("pageerror", lambda error: faults.append(str(error)))
    found.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
    found.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
    found.goto(address)
    expect(found.locator("#state")).to_have_text("idle")
    expect(found.locator("#f-acq\\.nb_frames")).to_be_visible()
    yield found
    found.close()
    assert [fault for fault in faults if "status of 4" not in fault] == []  # what is refused is told as such
    assert hosts == {urlsplit(address).netloc}


def number_of_frame(page: Page) -> int:
    found = re.search(r"frame ([\d\s]+)", page.locator("#frame-about").text_content() or "")
    return int("".join(found[1].split())) if found else -1


def picture_of(page: Page) -> str:
    """The pixels of the image on the page."""
    found: str = page.locator("#image").evaluate("canvas => canvas.toDataURL()")
    return found


def start(page: Page) -> None:
    page.locator("#start").click()
    expect(page.locator("#state")).to_have_text("running")
    wait_for(lambda: pump(page) and number_of_frame(page) >= 0, PATIENCE, "a frame")


def pump(page: Page) -> bool:
    """Playwright's events are handled while it is called."""
    page.evaluate("0")
    return True


def test_start_watch_and_stop(page: Page, lima: Client) -> None:
    start(page)
    first, image = number_of_frame(page), picture_of(page)
    wait_for(lambda: pump(page) and number_of_frame(page) > first, PATIENCE, "another frame")
    wait_for(lambda: picture_of(page) != image, PATIENCE, "another picture")
    page.locator("#stop").click()
    expect(page.locator("#state")).to_have_text("idle")
    expect(page.locator("#runs tbody tr").first).to_contain_text("stopped")
    assert lima.runs()[0].nb_frames_acquired > 0


def drag(page: Page, tool: str, begin: tuple[float, float], end: tuple[float, float]) -> None:
    """From one place of the image to another, in parts of the canvas."""
    page.locator(f"[data-tool={tool}]").click()
    box = page.locator("#image").bounding_box()
    assert box is not None
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in (begin, end)]
    page.mouse.move(*places[0])
    page.mouse.down()
    page.mouse.move(*places[1], steps=3)
    page.mouse.up()


def test_a_region_is_drawn_written_back_and_its_curve_moves(page: Page, lima: Client) -> None:
    start(page)
    drag(page, "rectangle", (0.45, 0.42), (0.55, 0.58))
    value = page.locator("#roi-0")
    expect(value).not_to_be_empty()
    told = value.text_content()
    expect(value).not_to_have_text(str(told))  # it moves
    rectangle = lima.proc_params()["statistics"]["rect_rois"][0]
    assert 600 < rectangle["topleft"]["x"] < 1024
    drag(page, "arc", (0.5, 0.5), (0.6, 0.5))
    expect(page.locator("#roi-1")).not_to_be_empty()
    (arc,) = lima.proc_params()["statistics"]["arc_rois"]
    assert abs(arc["center"]["x"] - 1023.5) < 4
    page.get_by_label("w of region 1").fill("40")
    page.get_by_label("w of region 1").press("Tab")
    wait_for(lambda: pump(page) and rectangle_of(lima)["dimensions"]["x"] == 40, PATIENCE, "the width that was typed")
    page.get_by_label("Remove region 2").click()
    expect(page.locator("#roi-1")).to_have_count(0)
    assert lima.proc_params()["statistics"]["arc_rois"] == []


def rectangle_of(lima: Client) -> dict[str, Any]:
    found: dict[str, Any] = lima.proc_params()["statistics"]["rect_rois"][0]
    return found


def test_an_error_is_told_with_its_remedy(page: Page, lima: Client) -> None:
    page.locator("#f-acq\\.expo_time").fill("0")
    page.locator("#form-start").click()
    expect(page.locator("#what")).to_contain_text("$.acq.expo_time")
    expect(page.locator("#remedy")).not_to_be_empty()
    expect(page.locator("[data-path='acq.expo_time']")).to_have_class(re.compile("wrong"))
    assert lima.state() is State.IDLE


def test_a_run_that_fails_is_explained_and_reset(page: Page, lima: Client) -> None:
    lima.replace(proc={"class_name": "LimaProcessingFailing", "failed_frame_idx": 5})
    page.locator("#start").click()
    expect(page.locator("#alert")).to_be_visible()
    expect(page.locator("#what")).to_contain_text("receiver")
    expect(page.locator("#remedy")).not_to_be_empty()
    expect(page.locator("#runs tbody tr").first).to_contain_text("failed")
    if lima.state() is State.FAULT:
        page.locator("#alert-reset").click()
    expect(page.locator("#state")).to_have_text("idle")


def test_the_form_sets_what_the_next_run_does(page: Page, lima: Client) -> None:
    page.locator("#f-acq\\.nb_frames").fill("7")
    page.locator("#f-acq\\.expo_time").fill("0.003")
    page.locator("#form-start").click()
    expect(page.locator("#frames")).to_have_text("7 of 7")
    expect(page.locator("#runs tbody tr").first).to_contain_text("done")
    assert lima.acq_params()["acq"]["expo_time"] == 3000
    assert lima.runs()[0].nb_frames_acquired == 7
    page.locator("#f-class_name").select_option("LimaProcessingSmx")
    wait_for(lambda: pump(page) and lima.proc_params()["class_name"] == "LimaProcessingSmx", PATIENCE, "the pipeline")
    expect(page.locator("#told")).to_have_text("Set for the next run.")


def test_keys_and_the_pixel_under_the_pointer(page: Page) -> None:
    start(page)
    page.locator("#image").hover()
    expect(page.locator("#pixel")).to_contain_text(re.compile(r"x \d+  y \d+  \d"))
    page.keyboard.press("l")
    expect(page.locator("#scale")).to_have_value("sqrt")
    before = page.locator("#frame-about").text_content() or ""
    for _ in range(8):
        page.keyboard.press("+")
    expect(page.locator("#frame-about")).not_to_contain_text("1 : ")
    assert before
    page.keyboard.press("?")
    expect(page.locator("#keys")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("x")
    expect(page.locator("#state")).to_have_text("idle")


def test_rows_are_left_to_who_pops_them_and_agree(address: str, lima: Client) -> None:
    regions: list[tuple[int, int, int, int] | Arc] = [
        (900, 900, 300, 200),
        Arc(center=Position(x=1024.0, y=1024.0), r1=20.0, r2=60.0),
    ]
    run = lima.acquire(nb_frames=0, expo_time=0.02, rois=regions)
    shown: dict[int, list[list[float]]] = {}
    with connected(address.replace("http", "ws") + "live", max_size=None) as socket:
        while len(shown) < 5:
            message = socket.recv(PATIENCE)
            if isinstance(message, bytes):
                header = json.loads(message[4 : 4 + int.from_bytes(message[:4], "little")])
                shown |= {frame: values for frame, *values in header["points"] if header["uuid"] == run.uuid}
                socket.send('{"drawn": true}')
    record = run.stop()
    rows = np.concatenate(list(run.roi_statistics()))
    assert rows["frame_idx"][:, 0].tolist() == list(range(record.nb_frames_processed))
    for frame, values in shown.items():
        for region, told in enumerate(values):
            row = rows[frame, region]
            assert np.allclose(told, [row[name] for name in ("min", "max", "avg", "std", "sum")], rtol=1e-5)


def test_a_run_that_a_conductor_drives_is_seen_too(page: Page, rig: Rig) -> None:
    acq = rig.acq({"acq.nb_frames": 0, "acq.expo_time": 20000, "det.generator.gauss.grow_factor": 0.2})
    rig.prepare(acq, rig.legacy())
    rig.start()
    expect(page.locator("#state")).to_have_text("running, by a conductor")
    wait_for(lambda: pump(page) and number_of_frame(page) > 2, PATIENCE, "a frame")
    page.locator("#stop").click()
    rig.wait_receivers(State.IDLE)


def test_who_may_only_look_has_no_buttons(system: System, browser: Browser, lima: Client, tmp_path: Path) -> None:
    with page_of(system, tmp_path, ["--token-file", str(tmp_path / "tokens")]) as address:
        tokens = dict(line.split() for line in (tmp_path / "tokens").read_text().splitlines())
        plain = address.partition("#")[0]
        for token, locked in ((tokens["read-only"], True), (tokens["operator"], False)):
            page = browser.new_context().new_page()
            page.goto(plain)
            expect(page.locator("#door")).to_be_visible()
            page.locator("#token").fill(token)
            page.locator("#login button").click()
            expect(page.locator("#state")).to_have_text("idle")
            expect(page.locator("#start")).to_be_disabled() if locked else expect(
                page.locator("#start")
            ).to_be_enabled()
        page.goto(f"{plain}#token={tokens['operator']}")
        expect(page.locator("#start")).to_be_enabled()


def test_several_look_and_command_at_once(page: Page, browser: Browser, address: str) -> None:
    other = browser.new_context().new_page()
    other.goto(address)
    start(page)
    expect(other.locator("#state")).to_have_text("running")
    wait_for(lambda: pump(other) and number_of_frame(other) >= 0, PATIENCE, "a frame in the other browser")
    page.locator("body").press("Space")
    expect(page.locator("#pause")).to_have_attribute("aria-pressed", "true")
    wait_for(lambda: held(page), PATIENCE, "the held picture")
    here, there = number_of_frame(page), number_of_frame(other)
    wait_for(lambda: pump(other) and number_of_frame(other) > there + 5, PATIENCE, "more frames in the other browser")
    assert number_of_frame(page) == here
    other.locator("#stop").click()
    expect(page.locator("#state")).to_have_text("idle")
    expect(other.locator("#state")).to_have_text("idle")
    other.context.close()


def held(page: Page) -> bool:
    """Nothing new for a while: what was on its way has come."""
    before = number_of_frame(page)
    page.wait_for_timeout(500)
    return number_of_frame(page) == before


def test_everything_is_done_with_keys_alone(page: Page, lima: Client) -> None:
    page.locator("body").press("s")
    expect(page.locator("#state")).to_have_text("running")
    expect(page.locator("#frame-about")).not_to_be_empty()
    page.locator("#image").focus()
    page.keyboard.press("r")
    page.keyboard.press("Enter")
    expect(page.locator("#roi-0")).not_to_be_empty()
    rectangle = rectangle_of(lima)
    assert abs(rectangle["topleft"]["x"] + rectangle["dimensions"]["x"] / 2 - 1024) <= 2
    page.get_by_label("Remove region 1").press("Enter")
    expect(page.locator("#roi-0")).to_have_count(0)
    page.locator("#stop").press("Enter")
    expect(page.locator("#state")).to_have_text("idle")


def test_what_is_masked_or_saturated_has_its_own_colour(page: Page, lima: Client) -> None:
    peak = [{"x0": 1024.0, "y0": 1024.0, "fwhm": 900.0, "max": 300000.0}]
    lima.replace(acq={**MOVING, "det": {"generator": {"pixel_type": "gray16", "gauss": {"peaks": peak}}}})
    start(page)
    page.locator("#image").hover()
    expect(page.locator("#pixel")).to_contain_text("65\u202f535")
    wait_for(lambda: pump(page) and middle_of(page) == MASK_COLOUR, PATIENCE, "the colour of what is saturated")
    expect(page.locator("#masked-key")).to_be_visible()
    page.keyboard.press("m")
    wait_for(lambda: pump(page) and middle_of(page) == BRIGHTEST, PATIENCE, "the brightest colour")
    expect(page.locator("#masked-key")).to_be_hidden()


def middle_of(page: Page) -> list[int]:
    """Red, green, blue in the middle of the image."""
    script = "c => [...c.getContext('2d').getImageData(c.width / 2, c.height / 2, 1, 1).data.slice(0, 3)]"
    found: list[int] = page.locator("#image").evaluate(script)
    return found


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_it_without_moving_sideways(
    browser: Browser, address: str, lima: Client, scheme: Literal["light", "dark"]
) -> None:
    phone = browser.new_page(viewport={"width": 390, "height": 844}, color_scheme=scheme)
    phone.goto(address)
    expect(phone.locator("#f-acq\\.nb_frames")).to_be_visible()
    assert phone.evaluate("document.documentElement.scrollWidth") == 390
    ground = phone.evaluate("getComputedStyle(document.body).backgroundColor")
    phone.locator("#theme").click()
    assert phone.evaluate("getComputedStyle(document.body).backgroundColor") != ground
