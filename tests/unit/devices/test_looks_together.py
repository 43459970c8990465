"""What a client reads in one call is of one frame, and is made once, or not at all."""

from collections.abc import Iterator

import numpy as np
import pytest
import tango
from tango.server import attribute
from tango.test_context import DeviceTestContext

from lima2_tango.control.live import Regions
from lima2_tango.core.errors import NotAvailableError
from lima2_tango.core.live import Look, video_of
from lima2_tango.devices.live import LiveDevice
from lima2_tango.processing.rows import ROI

IMAGES = ("last_image", "video_last_image", "last_image_frame", "last_image_factor")
FIRST = 3
"""The first frame comes at this question; those before are told that there is none."""


class Hurried(LiveDevice):
    """A frame comes at every question: none is the newest for long."""

    def init_device(self) -> None:
        super().init_device()
        self._asked = 0

    @attribute(dtype=int)
    def asked(self) -> int:
        return self._asked

    def _next(self) -> int:
        self._asked += 1
        if self._asked < FIRST:
            raise NotAvailableError("there is no frame yet")
        return self._asked

    def newest(self) -> int:
        return self._next()

    def make_look(self, limit: int) -> Look:
        number = self._next()
        return Look("run", number, np.full((2, 4), number, np.uint16), 1)

    def is_newest(self, look: Look) -> bool:
        return False

    def regions(self) -> Regions:
        number = self._next()
        values = np.zeros((1, 2), ROI)
        values["sum"] = number
        return Regions(np.array([number], np.int32), values)


@pytest.fixture
def device() -> Iterator[tango.DeviceProxy]:
    with DeviceTestContext(Hurried, process=True) as proxy:
        yield proxy


def together(device: tango.DeviceProxy, *names: str) -> list[tango.DeviceAttribute]:
    return list(device.read_attributes(list(names)))


def test_images_of_one_call_are_one_frame_and_are_asked_for_once(device: tango.DeviceProxy) -> None:
    for call in range(1, FIRST):
        image, encoded, number, factor = together(device, *IMAGES)
        assert image.quality == encoded.quality == tango.AttrQuality.ATTR_INVALID
        assert (number.value, factor.value, device.asked) == (-1, 0, call)
    for call in range(FIRST, FIRST + 3):
        image, encoded, number, factor = together(device, *IMAGES)
        shown, pixels = video_of(encoded.value)
        assert (number.value, shown, factor.value, device.asked) == (call, call, 1, call)
        assert (image.value == call).all()
        assert (pixels == call).all()
    assert device.last_image_copies == 3


def test_values_of_one_call_are_of_one_frame(device: tango.DeviceProxy) -> None:
    names = ("roi_frame", "roi_sum", "roi_history", "roi_history_frames")
    for _ in range(1, FIRST):
        assert together(device, *names)[0].value == -1
    for call in range(FIRST, FIRST + 3):
        frame, sums, history, frames = together(device, *names)
        assert (frame.value, *sums.value, *history.value, *frames.value, device.asked) == (call,) * 5 + (call,)


def test_who_asks_for_the_number_alone_has_nothing_copied(device: tango.DeviceProxy) -> None:
    for _ in range(FIRST):
        number = device.last_image_frame
    assert (number, device.last_image_copies) == (FIRST, 0)
