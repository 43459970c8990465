"""What an operator asks for, where parts of the system hang."""

import pytest

from lima2_tango.client.errors import UnreachableError
from lima2_tango.web.actions import Actions, Order


class Control:
    """A control device, connected before."""

    def __init__(self, silent: bool = False) -> None:
        self.silent = silent
        self.called: list[str] = []

    def command(self, name: str, argument: object = None) -> None:
        if self.silent:
            raise UnreachableError("its server has ended")
        self.called.append(name)

    def close(self) -> None:
        """Nothing is open."""


class Kept(Actions):
    """Connected once; a new connection is another control, or hangs."""

    def device(self) -> Control:
        if isinstance(new[0], Exception):
            raise new[0]
        return new[0]


new: list[Control | Exception] = []


@pytest.mark.parametrize("silent", [False, True])
def test_stop_asks_the_connection_of_before_and_a_new_one_where_that_is_gone(silent: bool) -> None:
    before, later = Control(silent), Control()
    new[:] = [later]
    assert "Stopped" in Kept("host:1", "a/b/c", [before]).obey(Order(command="stop"))
    assert (before.called, later.called) == (([], ["Stop"]) if silent else (["Stop"], []))


def test_stop_needs_no_database_that_hangs() -> None:
    before = Control()
    new[:] = [AssertionError("the database is asked")]
    Kept("host:1", "a/b/c", [before]).obey(Order(command="stop"))
    assert before.called == ["Stop"]
