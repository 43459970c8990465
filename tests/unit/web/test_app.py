"""The page's addresses and its WebSocket, on a system without Tango."""

import json
import struct
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import numpy as np
import pytest
from fake_system import CONTROL, REFUSAL, FakeDevice, FakeLive, page_of
from starlette.testclient import TestClient, WebSocketTestSession
from starlette.websockets import WebSocketDisconnect

from lima2_tango.web.access import Role, Tokens
from lima2_tango.web.app import LARGEST_BODY, application
from lima2_tango.web.guard import HEADERS
from lima2_tango.web.hub import PACE

OPERATOR, READER = "operator-token-of-the-test", "reader-token-of-the-test"
TOKENS = Tokens({Role.OPERATOR: OPERATOR, Role.READER: READER})


@pytest.fixture
def live() -> FakeLive:
    return FakeLive()


@pytest.fixture
def device() -> FakeDevice:
    return FakeDevice()


@pytest.fixture
def client(live: FakeLive, device: FakeDevice) -> Iterator[TestClient]:
    with TestClient(application(page_of(live, device))) as found:
        yield found


@pytest.fixture
def guarded(live: FakeLive, device: FakeDevice) -> Iterator[TestClient]:
    with TestClient(application(page_of(live, device, TOKENS))) as found:
        yield found


def told(client: TestClient, address: str, order: Any, **headers: str) -> tuple[int, dict[str, Any]]:
    answer = client.post(address, json=order, headers=headers)
    return answer.status_code, answer.json()


def next_of(socket: WebSocketTestSession, kind: str) -> dict[str, Any]:
    """The next message of a kind; pictures come with their pixels."""
    for _ in range(200):
        message = socket.receive()
        if "bytes" in message and message["bytes"] is not None:
            length = struct.unpack_from("<I", message["bytes"])[0]
            found = json.loads(message["bytes"][4 : 4 + length])
            found["pixels"] = np.frombuffer(message["bytes"][4 + length :], np.uint8).reshape(found["shape"])
        else:
            found = json.loads(message["text"])
        if found["kind"] == kind:
            return found
    raise AssertionError(f"no {kind} came")


def test_the_page_is_whole_and_asks_no_other_host(client: TestClient) -> None:
    page = client.get("/")
    assert page.status_code == 200
    for name, value in HEADERS.items():
        assert page.headers[name] == value
    for kind, address in (("src=", "main.js"), ("href=", "style.css")):
        assert f'{kind}"static/{address}"' in page.text
        assert client.get(f"/static/{address}").status_code == 200
    assert "https://" not in page.text
    assert "<script>" not in page.text
    assert " style=" not in page.text


def test_start_stop_trigger_and_reset_reach_the_control(client: TestClient, device: FakeDevice) -> None:
    for command in ("start", "stop", "trigger", "reset"):
        assert told(client, "/api/order", {"command": command})[0] == 200
    assert [name for name, _ in device.told] == ["Acquire", "Stop", "Trigger", "Reset"]


def test_of_two_who_start_at_once_one_does_and_everybody_sees_it(client: TestClient, device: FakeDevice) -> None:
    device.hold = Event()
    with ThreadPoolExecutor() as pool, client.websocket_connect("/live") as socket:
        first = pool.submit(told, client, "/api/order", {"command": "start"})
        try:
            while not next_of(socket, "status")["starting"]:
                pass
            code, answer = told(client, "/api/order", {"command": "start"})
            assert (code, "being prepared" in answer["error"]["what"]) == (400, True)
            assert answer["error"]["remedy"] == "wait for it, or stop it"
            assert told(client, "/api/order", {"command": "stop"})[0] == 200
        finally:
            device.hold.set()
        assert first.result(10)[0] == 200
        while next_of(socket, "status")["starting"]:
            pass
    assert [name for name, _ in device.told].count("Acquire") == 1


def test_a_refusal_is_a_sentence_with_its_remedy_and_its_place(client: TestClient, device: FakeDevice) -> None:
    device.refusal = REFUSAL
    code, answer = told(client, "/api/order", {"command": "start"})
    assert code == 400
    assert answer == {
        "error": {"what": "$.acq.expo_time = 0", "remedy": "give at least 1 us"},
        "path": "$.acq.expo_time",
    }


BAD: dict[str, Any] = {
    "an unknown command": {"command": "explode"},
    "a list": [1],
    "a number": 3,
    "an unknown key": {"commmand": "start"},
    "a wrong type": {"command": ["start"]},
    "changes that are none": {"changes": "acq.nb_frames=3"},
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_order_is_a_sentence(client: TestClient, device: FakeDevice, case: str) -> None:
    code, answer = told(client, "/api/order", BAD[case])
    assert code == 400
    assert answer["error"]["remedy"]
    assert device.told == []


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"1" * 10_000, b"x" * (LARGEST_BODY + 1)])
def test_bytes_that_are_no_order_are_a_sentence(client: TestClient, body: bytes) -> None:
    answer = client.post("/api/order", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["error"]["what"]


def test_a_form_of_another_site_is_no_order(client: TestClient, device: FakeDevice) -> None:
    assert client.post("/api/order", data={"command": "start"}).status_code == 400
    assert client.post("/api/order", content="{}", headers={"Content-Type": "text/plain"}).status_code == 400
    assert device.told == []


@pytest.mark.parametrize("headers", [{"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"Origin": "null"}])
def test_another_site_commands_nothing(client: TestClient, device: FakeDevice, headers: dict[str, str]) -> None:
    code, answer = told(client, "/api/order", {"command": "start"}, **headers)
    assert code == 403
    assert answer["error"]["remedy"]
    assert device.told == []
    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/live", headers=headers):
        pass


@pytest.mark.parametrize(
    "address", ["/nothing", "/static/none.js", "/static/../app.py", "/static/%2e%2e/app.py", "/api"]
)
def test_an_address_that_is_none_is_a_sentence(client: TestClient, address: str) -> None:
    answer = client.get(address)
    assert answer.status_code in {404, 405}
    assert answer.json()["error"]["remedy"]


def test_a_method_that_is_none_is_a_sentence(client: TestClient) -> None:
    assert client.get("/api/order").json()["error"]["remedy"]


def test_the_graph_of_a_pipeline(client: TestClient) -> None:
    nodes = client.get("/api/graph?pipeline=LimaProcessingLegacy").json()["nodes"]
    assert nodes[0]["reads"] == "camera"
    assert client.get("/api/graph?pipeline=Magic").status_code == 400
    assert client.get("/api/graph").status_code == 400


def test_regions_are_written_back_and_profiles_stay(client: TestClient, device: FakeDevice) -> None:
    sides = {"topleft": {"x": 1, "y": 2}, "dimensions": {"x": 3, "y": 4}}
    device.proc["profiles"] = {"rois": [sides], "directions": ["vertical"]}
    wanted = {"rectangles": [[1, 2, 3, 4]], "arcs": [[5.5, 6, 1, 2, 0, 360]]}
    assert told(client, "/api/regions", wanted)[0] == 200
    (sent,) = [json.loads(str(argument)) for name, argument in device.told if name == "SetRoi"]
    assert sent == {**wanted, "profiles": [[1, 2, 3, 4, "vertical"]]}
    assert told(client, "/api/regions", {"rectangles": [[1, 2]]})[0] == 400


def test_nobody_without_a_token_sees_or_does_anything(guarded: TestClient, device: FakeDevice) -> None:
    assert guarded.get("/api/about").json() == {
        "title": "fake", "control": "", "tango_host": "", "role": "nobody", "tokens": True, "files": False
    }  # fmt: skip
    for address in ("/api/form", "/api/graph?pipeline=x", "/api/file?path=x"):
        assert guarded.get(address).status_code == 403
    assert told(guarded, "/api/order", {"command": "start"})[0] == 403
    assert told(guarded, "/api/login", {"token": "wrong"})[0] == 403
    assert device.told == []
    with pytest.raises(WebSocketDisconnect), guarded.websocket_connect("/live"):
        pass


def test_who_may_only_look_changes_nothing(guarded: TestClient, device: FakeDevice) -> None:
    assert told(guarded, "/api/login", {"token": READER}) == (200, {"role": "reader"})
    assert guarded.get("/api/about").json()["control"] == CONTROL
    with guarded.websocket_connect("/live") as socket:
        assert next_of(socket, "status")["state"] == "running"
    assert told(guarded, "/api/order", {"command": "stop"})[0] == 403
    assert told(guarded, "/api/regions", {})[0] == 403
    assert guarded.get("/api/file?path=/etc/passwd").status_code == 403
    assert device.told == []


def test_an_operator_commands_by_cookie_or_by_header(guarded: TestClient) -> None:
    bearer = {"Authorization": f"Bearer {OPERATOR}"}
    assert told(guarded, "/api/order", {"command": "stop"}, **bearer)[0] == 200
    answer = guarded.post("/api/login", json={"token": OPERATOR})
    assert "httponly" in answer.headers["set-cookie"].lower()
    assert "samesite=strict" in answer.headers["set-cookie"].lower()
    assert told(guarded, "/api/order", {"command": "stop"})[0] == 200


def test_pictures_come_one_for_each_that_was_drawn(client: TestClient, live: FakeLive) -> None:
    live.index = 0
    with client.websocket_connect("/live") as socket:
        first = next_of(socket, "picture")
        assert (first["frame"], first["columns"], first["rows"], first["type"]) == (0, 8, 6, "uint16")
        assert first["pixels"].shape == (6, 8)
        live.index = 5
        socket.send_json({"drawn": True})
        assert next_of(socket, "picture")["frame"] == 5


def test_the_value_of_a_pixel_is_of_the_whole_frame(client: TestClient, live: FakeLive) -> None:
    live.index = 2
    with client.websocket_connect("/live") as socket:
        next_of(socket, "picture")
        for place, value in (([3, 1], 8 + 3 + 2), ([7, 5], 47 + 2), ([8, 0], None), ([65535, 65535], None)):
            socket.send_json({"pixel": place})
            assert next_of(socket, "pixel")["value"] == value


def test_another_view_of_the_same_frame_is_drawn_at_once(client: TestClient, live: FakeLive) -> None:
    live.index = 0
    with client.websocket_connect("/live") as socket:
        next_of(socket, "picture")
        socket.send_json({"drawn": True, "view": {"x": 2, "y": 1, "width": 3, "height": 2}})
        found = next_of(socket, "picture")
        assert (found["frame"], found["x"], found["y"], found["pixels"].shape) == (0, 2, 1, (2, 3))


def test_a_slow_browser_holds_nobody_and_is_sent_one_picture(client: TestClient, live: FakeLive) -> None:
    live.index = 0
    with client.websocket_connect("/live") as slow, client.websocket_connect("/live") as quick:
        next_of(slow, "picture")
        for index in range(20):
            live.index = index
            found = next_of(quick, "picture")
            while found["frame"] != index:
                quick.send_json({"drawn": True})
                found = next_of(quick, "picture")
            quick.send_json({"drawn": True})
        assert live.fetched <= 21  # one for both
        slow.send_json({"drawn": True})
        assert next_of(slow, "picture")["frame"] == 19


def test_who_asks_for_pictures_without_end_has_no_more_than_his_share(client: TestClient, live: FakeLive) -> None:
    live.index, asked = 0, 3 * round(1 / PACE)
    with client.websocket_connect("/live") as greedy:
        next_of(greedy, "picture")
        begin = time.monotonic()
        for _ in range(asked):
            for width in (2, 3):
                greedy.send_json({"drawn": True, "view": {"width": width, "height": 2}})
        pictures = 0
        greedy.send_json({"pixel": [0, 0]})
        while (message := greedy.receive()).get("bytes") or json.loads(message["text"])["kind"] != "pixel":
            pictures += message.get("bytes") is not None
        assert pictures <= 2 + (time.monotonic() - begin) / PACE


@pytest.mark.parametrize(
    "said",
    ["", "{", "null", "3", '"x"', "[]", '{"view": {"columns": 1e9}}', '{"view": {"x": -1}}', '{"pixel": [1]}',
     '{"pixel": ["a", 2]}', '{"view": {"low": 1e999}}', '{"shout": 1}', "[" * 5000],
)  # fmt: skip
def test_what_a_browser_should_not_say_is_told_and_the_picture_goes_on(
    client: TestClient, live: FakeLive, said: str
) -> None:
    live.index = 0
    with client.websocket_connect("/live") as socket:
        socket.send_text(said)
        assert next_of(socket, "refusal")["error"]["what"]
        socket.send_json({"drawn": True, "view": {"width": 2, "height": 2}})
        while next_of(socket, "picture")["pixels"].shape != (2, 2):
            socket.send_json({"drawn": True})


def test_bytes_from_a_browser_are_refused(client: TestClient) -> None:
    with client.websocket_connect("/live") as socket:
        socket.send_bytes(b"\0\1\2")
        assert next_of(socket, "refusal")["error"]["remedy"]


def test_without_a_browser_nothing_is_fetched(client: TestClient, live: FakeLive) -> None:
    live.index = 3
    assert client.get("/api/about").status_code == 200
    assert live.fetched == 0


def test_a_pipeline_without_frames_says_so(device: FakeDevice) -> None:
    live = FakeLive(pipeline="LimaProcessingFailing", index=3)
    with TestClient(application(page_of(live, device))) as client, client.websocket_connect("/live") as socket:
        assert "keeps no frames" in next_of(socket, "status")["no_picture"]
    assert live.fetched == 0


def test_what_goes_wrong_once_ends_no_loop(client: TestClient, live: FakeLive) -> None:
    with client.websocket_connect("/live") as socket:
        live.broken, live.index = True, 0
        next_of(socket, "status")
        next_of(socket, "status")
        live.broken = False
        assert next_of(socket, "picture")["frame"] == 0


def test_who_comes_to_a_page_that_nobody_watched_sees_what_is_now(
    client: TestClient, live: FakeLive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lima2_tango.web.hub.IDLE", 3600.0)
    for live.uuid in ("of-the-first", "of-the-second"):
        with client.websocket_connect("/live") as socket:
            while next_of(socket, "status")["uuid"] != live.uuid:
                pass
