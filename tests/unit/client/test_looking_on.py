"""A system as who looks on sees it, from what its devices said."""

from threading import Event

import pytest

from lima2_tango.client import live as module
from lima2_tango.client.live import Answer, Live

RECEIVERS = ["r/1", "r/2"]


@pytest.fixture
def live() -> Live:
    return Live("nowhere:1", "c/1", RECEIVERS)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What time it is [s]."""
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def said(*counts: int | None) -> list[Answer]:
    return [Answer(name, {"nb_frames_xferred": count}) for name, count in zip(RECEIVERS, counts, strict=True)]


def test_rates_are_those_of_each_receiver(live: Live, clock: list[float]) -> None:
    assert live._rates(said(0, 0)) == (0.0, 0.0)
    clock[0] += 0.5
    assert live._rates(said(50, 5)) == (100.0, 10.0)


def test_a_receiver_that_was_silent_comes_back_with_the_rate_it_had(live: Live, clock: list[float]) -> None:
    live._rates(said(1000, 1000))
    for _ in range(5):
        clock[0] += 0.5
        assert live._rates(said(1000, None))[1] == 0.0
    clock[0] += 0.5
    assert live._rates(said(1000, 1300)) == (0.0, 100.0)


def test_a_new_run_counts_from_its_begin(live: Live, clock: list[float]) -> None:
    live._rates(said(500, 500))
    clock[0] += 0.5
    assert live._rates(said(10, 10)) == (0.0, 0.0)
    clock[0] += 0.5
    assert live._rates(said(60, 60)) == (100.0, 100.0)


@pytest.mark.parametrize(
    ("first", "second", "newest"),
    [(["a"], ["a", "b"], "b"), (["a", "b"], ["a"], "b"), (["a"], ["a"], "a"), ([], ["a"], "a"), ([], [], "ours")],
)
def test_the_newest_run_is_that_of_any_receiver(live: Live, first: list[str], second: list[str], newest: str) -> None:
    receivers = [Answer("r/1", {"pipelines": first}), Answer("r/2", {"pipelines": second})]
    assert live._newest_uuid(Answer("c/1", {"run_uuid": "ours"}), receivers) == newest


def test_who_owes_an_answer_is_not_asked_again(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_LIMIT", 0.05)
    thawed, asked = Event(), []

    def answer(name: str, attributes: tuple[str, ...]) -> Answer:
        asked.append(name)
        assert name != "r/1" or thawed.wait(20)
        return Answer(name, {"acq_state": 0})

    monkeypatch.setattr(live, "_answer", answer)
    question = [(name, ("acq_state",)) for name in RECEIVERS]
    for _ in range(3):
        frozen, well = live._ask(question)
        assert "frozen" in frozen.silence
        assert not well.silence
    assert asked.count("r/1") == 1
    assert asked.count("r/2") == 3
    thawed.set()
    monkeypatch.setattr(module, "LOOK_LIMIT", 20)
    while (again := live._ask(question)[0]).silence:  # until the late answer has come
        pass
    assert again.values == {"acq_state": 0}
