"""Who died while somebody waited: the note of `lima2 up`, once it is there."""

import os
from threading import Timer

import pytest

from lima2_tango.cli import deaths
from lima2_tango.cli.deaths import witness
from lima2_tango.cli.events import Events
from lima2_tango.cli.rundir import HOME, Phase, Running, SystemState, write_state

CONTROL, HOST = "id00/limacontrol/a", "localhost:10000"


@pytest.fixture
def events(tmp_path, monkeypatch):
    """The log of a system that is up."""
    monkeypatch.setenv(HOME, str(tmp_path))
    monkeypatch.setattr(deaths, "PATIENCE", 0.3)
    folder = tmp_path / "a"
    made = Events(folder, lambda line: None)
    supervisor = Running.of("lima2 up", os.getpid())
    write_state(SystemState("a", "a.yaml", str(folder), supervisor, Phase.UP, HOST, CONTROL, ["id00/limareceiver/a"]))
    return made


def test_a_death_is_told_once_it_is_noted(events, monkeypatch):
    monkeypatch.setattr(deaths, "PATIENCE", 20.0)
    events("simulator_rcv1 (process 7) died long ago")
    seen = witness(CONTROL, HOST)
    Timer(0.2, events, ["simulator_rcv2 (process 4711) died: see its log"]).start()
    assert seen.deaths() == "simulator_rcv2 (process 4711) died: see its log"


def test_where_nobody_died_nobody_is_named(events):
    seen = witness(CONTROL, HOST)
    events("up: all devices answer after 1.0 s")
    assert seen.deaths() == ""


@pytest.mark.parametrize("where", [("id00/limacontrol/b", HOST), (CONTROL, "localhost:10001"), (CONTROL, None)])
@pytest.mark.usefixtures("events")
def test_the_log_of_another_system_is_not_read(where):
    assert witness(*where).log is None
    assert witness(*where).deaths() == ""
