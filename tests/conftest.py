"""What holds for every test: nothing keeps running after it."""

import os
import threading
import time
from collections.abc import Iterator

import pytest

GRACE = 3.0
"""How long a thread may take to end after its test [s]."""


def _running() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if not thread.daemon}


def _left_over(before: set[threading.Thread]) -> set[threading.Thread]:
    deadline = time.monotonic() + GRACE
    for thread in _running() - before:
        thread.join(max(0.0, deadline - time.monotonic()))
    return _running() - before


@pytest.fixture(autouse=True)
def no_thread_outlives_its_test() -> Iterator[None]:
    before = _running()
    yield
    left = sorted(thread.name for thread in _left_over(before))
    if left:
        pytest.fail(f"still running {GRACE:g} s after the test: {', '.join(left)}")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Continuous integration installs what every test needs: there, a skipped test is a failed one."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("LIMA2_FAIL_ON_SKIP") and reporter is not None and reporter.stats.get("skipped"):
        reporter.write_line("tests were skipped, and LIMA2_FAIL_ON_SKIP is set", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
