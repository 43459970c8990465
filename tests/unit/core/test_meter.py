"""A meter tells how much came, and how fast of late."""

import pytest

from lima2_tango.core import meter
from lima2_tango.core.meter import Meter


@pytest.fixture
def clock(monkeypatch):
    """The time that the meter sees; tests set it."""
    now = [100.0]
    monkeypatch.setattr(meter.time, "monotonic", lambda: now[0])
    return now


def test_a_meter_that_nothing_was_added_to_stands_still(clock):
    assert (Meter().total, Meter().rate()) == (0, 0.0)


def test_a_steady_flow_has_its_rate(clock):
    made = Meter()
    for _ in range(300):
        made.add(5)
        clock[0] += 0.01
    assert made.total == 1500
    assert made.rate() == pytest.approx(500, rel=0.03)


def test_a_flow_that_has_ended_has_no_rate(clock):
    made = Meter()
    made.add(1000)
    clock[0] += 0.5
    assert made.rate() == pytest.approx(2000)
    clock[0] += meter.WINDOW
    assert made.rate() == 0.0
    assert made.total == 1000


def test_a_burst_does_not_grow_the_meter(clock):
    made = Meter()
    for _ in range(100_000):
        made.add(1)
        clock[0] += 1e-5
    assert len(made._steps) <= meter.WINDOW / meter.STEP + 1
