"""Every pair of state and event, asked of the one table."""

from itertools import product
from threading import Thread

import pytest

from lima2_tango.core.errors import StateError
from lima2_tango.core.state import (
    COMMAND,
    STATUS,
    TANGO_STATE,
    TRANSITIONS,
    Event,
    State,
    StateMachine,
    allowed,
    diagram,
)

PATH_TO = {
    State.IDLE: [],
    State.PREPARED: [Event.PREPARE],
    State.RUNNING: [Event.PREPARE, Event.START],
    State.FAULT: [Event.PREPARE, Event.START, Event.FAIL],
}


def machine_in(state):
    machine = StateMachine()
    for event in PATH_TO[state]:
        machine.fire(event)
    return machine


@pytest.mark.parametrize(("state", "event"), list(product(PATH_TO, Event)))
def test_every_pair_does_what_the_table_says_or_is_refused_with_the_way_out(state, event):
    machine = machine_in(state)
    if (state, event) in TRANSITIONS:
        assert machine.fire(event) is TRANSITIONS[state, event]
        return
    with pytest.raises(StateError) as refused:
        machine.fire(event)
    assert machine.state is state
    assert str(refused.value).startswith(f"cannot {event} while {state.label}; allowed now: ")
    told = set(str(refused.value).partition("allowed now: ")[2].split(", "))
    assert told == {COMMAND[choice] for choice in allowed(state) if choice in COMMAND}


def test_a_refusal_names_commands_and_no_events():
    with pytest.raises(StateError, match=r"cannot prepare while running; allowed now: close, reset, stop$"):
        machine_in(State.RUNNING).fire(Event.PREPARE)


@pytest.mark.parametrize(("state", "event"), list(product(PATH_TO, Event)))
def test_an_event_that_may_come_late_is_taken_or_ignored_never_refused(state, event):
    machine = machine_in(state)
    assert machine.try_fire(event) == ((state, event) in TRANSITIONS)
    assert machine.state is TRANSITIONS.get((state, event), state)


@pytest.mark.parametrize("state", PATH_TO)
def test_reset_leads_from_every_state_to_idle(state):
    assert machine_in(state).fire(Event.RESET) is State.IDLE


def test_fault_lasts_until_reset():
    assert allowed(State.FAULT) == {Event.RESET}


def test_codes_on_the_wire_are_those_of_the_clients():
    assert [(state.label, int(state)) for state in State] == [
        ("idle", 0),
        ("prepared", 1),
        ("running", 2),
        ("stopped", 3),
        ("fault", 4),
        ("terminate", 5),
    ]


@pytest.mark.parametrize("state", State)
def test_every_state_has_a_tango_state_and_a_sentence(state):
    assert TANGO_STATE[state].isupper()
    assert STATUS[state].endswith(".")


def test_wait_returns_as_soon_as_the_state_is_there():
    machine = machine_in(State.PREPARED)
    starter = Thread(target=machine.fire, args=[Event.START])
    starter.start()
    assert machine.wait(State.RUNNING, State.FAULT, timeout=5)
    starter.join()


def test_wait_is_bounded():
    assert not StateMachine().wait(State.RUNNING, timeout=0.01)


def test_the_story_tells_what_happened():
    machine = machine_in(State.FAULT)
    assert list(machine.story) == [
        (State.IDLE, Event.PREPARE),
        (State.PREPARED, Event.START),
        (State.RUNNING, Event.FAIL),
    ]


def test_the_diagram_shows_every_transition():
    drawn = diagram()
    for (start, event), end in TRANSITIONS.items():
        assert f"    {start.name} --> {end.name}: {event}\n" in drawn + "\n"
