"""What a rank says of a receiver on another host that has become silent."""

import time
from dataclasses import replace

import numpy as np
import pytest

from lima2_tango.core.errors import AgreementError
from lima2_tango.core.frame import FrameSpec
from lima2_tango.transport.fabric import LocalFabric, LocalJob
from lima2_tango.transport.far import CREDITS, StreamOutlet, stream_of
from lima2_tango.transport.outlet import Batch
from lima2_tango.transport.stream import Consumer

PART = FrameSpec(1, 1, 12, np.dtype("u2"))
SPEC = replace(stream_of("run", 0, (0, 1), PART), silence=0.3)
BOUND = 20.0


@pytest.fixture
def ends():
    """An outlet, and the receiver's end of its stream, on ranks without memory in common."""
    made = LocalJob(2)
    outlet = StreamOutlet(LocalFabric(0, made, shared=False), SPEC, PART)
    consumer = Consumer(LocalFabric(1, made, shared=False), SPEC)
    yield outlet, consumer
    outlet.end()


def put(outlet, index, pixels=12):
    """One frame; how many were taken."""
    parts = np.full((1, 1, pixels), index, np.uint16)
    none = np.zeros((1, 1), np.bool_)
    batch = Batch(parts, np.array([index]), np.array([0.5]), none, np.zeros(1, np.uint64))
    return outlet.put(batch, np.array([0]))


def put_until_lost(outlet, index):
    """Offer a frame that there is no room for until the receiver is taken for dead."""
    deadline = time.monotonic() + BOUND
    while time.monotonic() < deadline:
        assert put(outlet, index) == 0
    raise AssertionError("nobody misses the receiver")


@pytest.mark.parametrize("taken", [0, 3])
def test_the_frames_that_a_silent_receiver_may_not_have_are_named(ends, taken):
    outlet, consumer = ends
    consumer.take(timeout=0)
    for index in range(CREDITS):
        assert put(outlet, 10 + index) == 1
    for index in range(taken):
        element = consumer.take(timeout=BOUND)
        assert element.index[0] == 10 + index
        element.lease.release()
    consumer.beat()
    for index in range(taken):
        assert put(outlet, 10 + CREDITS + index) == 1
    with pytest.raises(AgreementError, match=f"frames from {10 + taken} on may have been lost") as caught:
        put_until_lost(outlet, 10 + CREDITS + taken)
    assert caught.value.info["missing"] == [1]
    assert "no sign of life from consumers [1]" in caught.value.what


def test_the_end_of_a_receiver_that_is_known_to_be_lost_is_no_second_error(ends):
    outlet, consumer = ends
    consumer.take(timeout=0)
    for index in range(CREDITS):
        put(outlet, index)
    with pytest.raises(AgreementError):
        put_until_lost(outlet, CREDITS)
    outlet.end("the camera has failed")


def test_a_receiver_that_has_become_silent_before_the_end_is_an_error():
    job, part = LocalJob(2), FrameSpec(1, 1, 1 << 16, np.dtype("u2"))
    outlet = StreamOutlet(LocalFabric(0, job, shared=False), SPEC, part)
    Consumer(LocalFabric(1, job, shared=False), SPEC).take(timeout=0)
    assert put(outlet, 0, pixels=1 << 16) == 1  # too large to leave before somebody takes it
    with pytest.raises(AgreementError, match="no sign of life"):
        outlet.end()
