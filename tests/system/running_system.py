"""Plugin for pytest: the fixtures by which the clients' suite starts a system give it the one that runs already."""

import pytest

STARTED = ("tango_db", "lima2_simulator")
"""Fixtures of the suite; nothing reads their values."""


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[object], request: pytest.FixtureRequest) -> bool | None:
    """Ends the search for who sets a fixture up where it answers something."""
    if fixturedef.argname not in STARTED:
        return None
    fixturedef.cached_result = (True, fixturedef.cache_key(request), None)
    return True
