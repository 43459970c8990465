"""A client of a control that behaves, without Tango."""

import pytest
from fake_control import FakeControl

from lima2_tango.client import Client


@pytest.fixture
def control() -> FakeControl:
    return FakeControl()


@pytest.fixture
def lima(control: FakeControl) -> Client:
    return Client(control)
