"""The newest frame and the values of the regions as generic clients read them."""

import json
from functools import partial

import numpy as np
import pytest
import tango
from support import ROW, Rig, rows
from taurus.core.util.codecs import CodecFactory
from watching import wait_for

from lima2_tango.core.encoded import frame_of
from lima2_tango.core.live import HEADER, VIDEO_IMAGE

FRAMES = 12
SPECTRA = ("roi_min", "roi_max", "roi_avg", "roi_std", "roi_sum")
LONG = 600
"""Enough that frames come while somebody looks."""
TOGETHER = ("last_image", "last_image_frame", "roi_sum", "roi_frame", "roi_history", "roi_history_frames")
PEAK = {"x0": 30.0, "y0": 25.0, "fwhm": 20.0, "max": 1000.0}
FAST_S = 20.0


def value(device: tango.DeviceProxy, name: str):
    return device.read_attribute(name).value


def copies(rig: Rig) -> list[int]:
    return [int(value(device, "last_image_copies")) for device in (*rig.receivers, *rig.processing())]


@pytest.fixture
def driven(rig: Rig) -> Rig:
    """A whole run that the control has driven, with two regions; nobody has looked yet."""
    control = rig.control
    control.acq_params = json.dumps({
        "acq": {"nb_frames": FRAMES, "expo_time": 1000, "latency_time": 0},
    })
    control.proc_params = json.dumps({
        "class_name": "LimaProcessingLegacy",
        "saving": {"enabled": False},
        "buffers": {"nb_frames_buffer": 32},
    })
    control.det_width, control.det_height = 96, 64
    control.SetRoi('{"rectangles": [[0, 0, 8, 8], [10, 10, 20, 30]]}')
    rig.uuid = control.Acquire()
    wait_for(partial(done, control, rig.uuid), FAST_S, "the run's end")
    return rig


def done(control: tango.DeviceProxy, uuid: str) -> bool:
    return json.loads(control.Run(uuid))["state"] == "done"


def wait_shown(control: tango.DeviceProxy, number: int, name: str = "last_image_frame") -> None:
    """Until the control shows this frame: who is not answered in time has what was known before."""
    wait_for(lambda: value(control, name) == number, FAST_S, f"{name} {number}")


def test_nothing_is_copied_before_somebody_looks_and_one_frame_is_copied_once(driven: Rig) -> None:
    before = copies(driven)
    assert before[len(driven.receivers) :] == [0] * len(driven.receivers)
    processing = driven.processing()[0]
    for name in ("last_image", "video_last_image", "last_image_factor", "last_image_data"):
        value(processing, name)
    assert value(processing, "last_image_copies") == 1


def test_the_control_shows_the_newest_frame_of_all_receivers(driven: Rig) -> None:
    number, pixels = frame_of(driven.control.getFrame(-1))
    assert number == FRAMES - 1
    wait_shown(driven.control, number)
    image = driven.control.read_attribute("last_image")
    assert (image.quality, image.value.dtype, image.value.shape) == (tango.AttrQuality.ATTR_VALID, np.float32, (64, 96))
    np.testing.assert_array_equal(image.value, pixels[0])
    assert (value(driven.control, "last_image_frame"), value(driven.control, "last_image_factor")) == (number, 1)


def test_every_device_shows_it_in_limas_encoding(driven: Rig) -> None:
    newest = []
    wait_shown(driven.control, FRAMES - 1)
    for device in (driven.control, *driven.receivers, *driven.processing()):
        answer = value(device, "video_last_image")
        assert answer[0] == VIDEO_IMAGE
        magic, version, mode, number, width, height, _, size, _, _ = HEADER.unpack_from(answer[1])
        assert (magic, version, mode, width, height, size) == (0x5644454F, 1, 1, 96, 64, 32)
        _, pixels = CodecFactory().getCodec(VIDEO_IMAGE).decode(answer)
        np.testing.assert_array_equal(pixels, frame_of(driven.control.getFrame(number))[1][0])
        newest.append(number)
    assert newest[0] == FRAMES - 1
    assert newest[1:3] == newest[3:]


def test_a_large_frame_is_made_small_with_its_peaks(rig: Rig) -> None:
    control = rig.control
    control.acq_params = json.dumps({"acq": {"nb_frames": 1, "expo_time": 1000, "latency_time": 0}})
    control.proc_params = json.dumps({"class_name": "LimaProcessingLegacy", "saving": {"enabled": False}})
    rig.uuid = control.Acquire()
    wait_for(partial(done, control, rig.uuid), FAST_S, "the run's end")
    wait_shown(control, 0)
    image = value(control, "last_image")
    factor = value(control, "last_image_factor")
    _, pixels = frame_of(control.getFrame(0))
    assert factor == 2
    assert image.shape == (1024, 1024)
    np.testing.assert_array_equal(image, pixels[0].reshape(1024, 2, 1024, 2).max(axis=(1, 3)))


def test_values_of_the_regions_are_spectra_and_stay_for_who_pops(driven: Rig) -> None:
    control = driven.control
    wait_shown(control, FRAMES - 1, "roi_frame")
    shown = {name: value(control, name) for name in SPECTRA}
    frame = value(control, "roi_frame")
    control.roi_history_region = 1
    history, frames = value(control, "roi_history"), value(control, "roi_history_frames")
    popped = np.concatenate([rows(device.popRoiStatistics(), ROW) for device in driven.processing()])
    assert len(popped) == 2 * FRAMES, "looking has taken rows"
    last = popped[popped["frame_idx"] == frame]
    assert frame == FRAMES - 1
    for name, values in shown.items():
        np.testing.assert_array_equal(values, last[name.removeprefix("roi_")].astype(float))
    assert frames.tolist() == list(range(FRAMES))
    sums = popped[np.argsort(popped["frame_idx"], kind="stable")].reshape(FRAMES, 2)["sum"][:, 1]
    np.testing.assert_array_equal(history, sums)
    np.testing.assert_array_equal(value(control, "roi_sum"), shown["roi_sum"])  # popping took nothing from who looks
    control.roi_history_region = 0


def test_a_run_of_a_conductor_is_shown_by_the_control_too(rig: Rig) -> None:
    changes = {"acq.nb_frames": 4, "acq.expo_time": 1000, "acq.latency_time": 0}
    rig.run(rig.acq(changes), rig.legacy())
    newest = max(int(value(device, "last_image_frame")) for device in rig.receivers)
    assert newest == 3
    wait_shown(rig.control, newest)
    assert value(rig.control, "last_image").shape == (1024, 1024)


def test_before_the_first_frame_images_are_invalid_and_spectra_empty(rig: Rig) -> None:
    for device in rig.receivers:
        for name in ("last_image", "video_last_image"):
            assert device.read_attribute(name).quality == tango.AttrQuality.ATTR_INVALID
        assert value(device, "last_image_frame") == -1
        for name in SPECTRA:
            assert np.size(value(device, name)) == 0


def test_what_is_read_in_one_call_is_of_one_frame_while_others_come(rig: Rig) -> None:
    control = rig.control
    growing = {"det": {"generator": {"gauss": {"peaks": [PEAK], "grow_factor": 0.05}}}}
    control.acq_params = json.dumps(growing | {"acq": {"nb_frames": LONG, "expo_time": 2000, "latency_time": 0}})
    control.proc_params = json.dumps({"class_name": "LimaProcessingLegacy", "saving": {"enabled": False}})
    control.det_width, control.det_height = 64, 48
    control.SetRoi('{"rectangles": [[0, 0, 64, 48]]}')
    rig.uuid = control.Acquire()
    seen = []
    while not done(control, rig.uuid):
        seen.append([answer.value for answer in control.read_attributes(list(TOGETHER))])
    popped = rows(control.popRoiStatistics(), ROW)
    sums = popped["sum"][np.argsort(popped["frame_idx"])]
    assert len(sums) == LONG
    numbers = set()
    for image, number, sum_of_number, frame, history, frames in seen:
        if number >= 0:
            assert image.astype(float).sum() == sums[number]
            numbers.add(number)
        np.testing.assert_array_equal(sum_of_number, sums[frame : frame + 1] if frame >= 0 else [])
        np.testing.assert_array_equal(history, sums[frames] if np.size(frames) else [])
    assert len(numbers) > 1
