"""The simulated detector: its images, its memory, its faults and its trigger input."""

import json
import socket
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lima2_tango.cameras._edges import TriggerPort
from lima2_tango.cameras._images import Generator, fill
from lima2_tango.cameras._pixels import store
from lima2_tango.cameras.simulator import PLUGIN
from lima2_tango.core.errors import DataLossError, DetectorError, MemoryBudgetError, ParamError, StateError
from lima2_tango.core.frame import BLOCK_BYTES, EndOfSeries, PixelType
from lima2_tango.core.pool import Pool
from lima2_tango.core.series import Series
from lima2_tango.testing.camera_rig import Rig
from lima2_tango.transport.topology import RoundRobin, full_random, predictive_random

SMALL = {"width": 32, "height": 24}
GROWING = {"gauss": {"peaks": [{"x0": 16.0, "y0": 12.0, "fwhm": 9.0, "max": 100.0}], "grow_factor": 0.1}}


@pytest.fixture
def bench():
    rigs = []

    def make(**det):
        rigs.append(Rig(PLUGIN, {**SMALL, "generator": GROWING, **det}))
        return rigs[-1]

    yield make
    for rig in rigs:
        rig.close()


def images(count=1, height=24, width=32, **generator):
    parsed = Generator.parse(json.dumps(generator))
    out = np.empty((count, parsed.nb_channels, height, width), parsed.pixel_type.dtype)
    fill(parsed, np.arange(count), out)
    return out


def test_a_gauss_is_the_sum_of_its_peaks():
    peaks = [{"x0": 10.0, "y0": 5.0, "fwhm": 4.0, "max": 80.0}, {"x0": 20.0, "y0": 15.0, "fwhm": 6.0, "max": 30.0}]
    (((image,),)) = images(pixel_type="gray64f", gauss={"peaks": peaks})
    y, x = np.mgrid[:24, :32]
    expected = sum(
        p["max"] * np.exp(-4 * np.log(2) * ((x - p["x0"]) ** 2 + (y - p["y0"]) ** 2) / p["fwhm"] ** 2) for p in peaks
    )
    assert np.allclose(image, expected)
    assert image[5, 12] == pytest.approx(40.0, rel=1e-3)


@pytest.mark.parametrize("kind", ["gauss", "diffraction", "spiral"])
@pytest.mark.parametrize("pixel_type", list(PixelType))
def test_every_pattern_in_every_pixel_type_is_clipped_and_never_wraps(kind, pixel_type):
    peak = {"peaks": [{"x0": 16.0, "y0": 12.0, "fwhm": 20.0, "max": 1e12}]}
    bright = {"gauss": peak, "diffraction": {"x0": 11.0, "y0": 7.0, "max": 1e12}, "spiral": {"max": 1e12}}
    image = images(type=kind, pixel_type=pixel_type, **bright)
    dtype = pixel_type.dtype
    assert image.max() == (np.iinfo(dtype).max if dtype.kind in "iu" else pytest.approx(1e12, rel=0.01))
    assert image.min() >= 0


@pytest.mark.parametrize(
    ("kind", "moving"), [("diffraction", {"source_speed_x": 3.0}), ("spiral", {"rotation": 30.0, "x0": 9.0, "y0": 9.0})]
)
def test_a_moving_pattern_moves_and_a_still_one_does_not(kind, moving):
    moved = images(2, type=kind, **{kind: moving})
    assert not np.array_equal(*moved)
    assert np.array_equal(*images(2, type=kind))


def test_diffraction_rings_are_centred_on_the_source():
    source = {"x0": 10.0, "y0": 10.0, "source_pos_x": 4.0, "source_pos_y": -2.0, "source_speed_x": 3.0}
    second = images(2, type="diffraction", pixel_type="gray64f", diffraction=source)[1, 0]
    assert np.unravel_index(second.argmax(), second.shape) == (8, 17)


def test_image_k_grows_and_channel_c_shrinks():
    frames = images(3, pixel_type="gray64f", nb_channels=2, **GROWING)
    assert np.allclose(frames[2, 0], frames[0, 0] * 1.2)
    assert np.allclose(frames[:, 1], frames[:, 0] / 2)


@given(st.floats(-1e10, 1e10), st.sampled_from([t.dtype for t in PixelType if t.dtype.kind in "iu"]))
def test_stored_pixels_are_the_nearest_whole_number_in_range(value, dtype):
    out = np.empty((1, 3), dtype)
    store(np.full((1, 3), value), 1.0, out)
    limits = np.iinfo(dtype)
    assert out.tolist() == [[int(min(max(np.floor(value + 0.5), limits.min), limits.max))] * 3]


@pytest.mark.parametrize("receivers", [1, 2, 3])
@pytest.mark.parametrize("prefetch", [1, 2, 5, 16])
def test_frame_i_shows_image_i_modulo_the_prefetched(bench, receivers, prefetch):
    expected = images(prefetch, **GROWING)
    for delivery in bench(nb_prefetch_frames=prefetch).run(receivers, nb_frames=40):
        for index, frame in delivery.frames().items():
            assert np.array_equal(frame, expected[index % prefetch])


@pytest.mark.parametrize("topology", [predictive_random(2), full_random(2, 1)], ids=["predictive", "full"])
@pytest.mark.parametrize("mode", ["predictive_random", "round_robin"])
def test_a_random_dispatch_shows_the_same_images_whatever_was_declared(bench, topology, mode):
    rig = bench(nb_prefetch_frames=5, dispatch_mode=mode)
    params = rig.params(nb_frames=50)
    rig.prepare(params, 2)
    expected = images(5, **GROWING)
    frames = {}
    for rank in range(2):
        delivery = rig.deliver(Series(params.acq, topology, rank))
        assert [block.local for block in delivery.blocks] == sorted({block.local for block in delivery.blocks})
        frames |= delivery.frames()
    assert sorted(frames) == list(range(50))
    assert all(np.array_equal(frame, expected[index % 5]) for index, frame in frames.items())


def test_blocks_of_small_frames_are_long_and_all_views_of_one_memory(bench):
    rig = bench(nb_prefetch_frames=3, width=64, height=64)
    params = rig.params(nb_frames=2000, expo_time=1)
    rig.prepare(params)
    delivery = rig.deliver(Series(params.acq, RoundRobin(1), 0, time.monotonic() - 1))
    assert [len(block) for block in delivery.blocks] == [512, 512, 512, 464]
    assert len({id(block.data.base) for block in delivery.blocks}) == 1
    assert rig.pool.pinned <= BLOCK_BYTES + 3 * 8192


def test_images_are_kept_for_equal_parameters_only(bench):
    rig = bench()
    first, again = (rig.run(nb_frames=1)[0].blocks[0].data for _ in range(2))
    assert np.shares_memory(first, again)
    rig.det["nb_prefetch_frames"] = 4
    assert not np.shares_memory(first, rig.run(nb_frames=1)[0].blocks[0].data)


def test_images_beyond_the_memory_budget_are_refused_with_the_numbers():
    params = PLUGIN.params.parse('{"det": {"nb_prefetch_frames": 16}}')
    with pytest.raises(MemoryBudgetError, match=r"16 prefetched frames .*nb_prefetch_frames.* 134\.2 MB .* 100 MB"):
        PLUGIN.receiver().prepare(params, 0, 1, Pool(100_000_000))


@pytest.mark.parametrize("dropped", [1, 6, 9])
def test_a_dropped_frame_arrives_as_zeros_and_marked_invalid(bench, dropped):
    rig = bench(dropped_frame_idx=dropped)
    deliveries = rig.run(2, nb_frames=10)
    lost = {int(block.index[0]) for one in deliveries for block in one.blocks if block.valid is not None}
    frames = {index: frame for one in deliveries for index, frame in one.frames().items()}
    assert lost == {dropped}
    assert sorted(frames) == list(range(10))
    assert [index for index, frame in frames.items() if not frame.any()] == [dropped]
    assert [one.ends for one in deliveries] == [[EndOfSeries(5)]] * 2


def late_series(rig, seconds, nb_frames):
    """A run of 10 ms a frame whose receiver comes to take its frames `seconds` after they began."""
    params = rig.params(nb_frames=nb_frames, expo_time=10_000)
    rig.prepare(params)
    return Series(params.acq, RoundRobin(1), 0, begin=time.monotonic() - seconds)


def test_who_comes_too_late_finds_placeholders_where_losses_are_counted(bench):
    rig = bench(overload="count", nb_buffered_frames=20)
    delivery = rig.deliver(late_series(rig, 1.0, 120))
    lost = [int(i) for block in delivery.blocks if block.valid is not None for i in block.index[~block.valid]]
    assert delivery.indices == list(range(120))
    assert delivery.ends == [EndOfSeries(120)]
    assert lost == list(range(len(lost))), "the oldest are lost, the newest 20 frames and 0.1 s of them are kept"
    assert 60 <= len(lost) <= 75
    assert all(frame.any() != (index in lost) for index, frame in delivery.frames().items())


def test_who_comes_too_late_is_told_the_first_lost_frame_where_losses_abort(bench):
    rig = bench(overload="abort", nb_buffered_frames=20)
    with pytest.raises(DataLossError, match=r"frame 0 is lost: .* buffer of 20 frames lasts 0\.3 s.*overload count"):
        rig.deliver(late_series(rig, 1.0, 120))


@pytest.mark.parametrize(("overload", "buffered"), [("wait", 1), ("count", 200), ("abort", 200)])
def test_who_comes_late_finds_all_frames_where_the_camera_waits_or_keeps_them(bench, overload, buffered):
    rig = bench(overload=overload, nb_buffered_frames=buffered)
    delivery = rig.deliver(late_series(rig, 1.0, 120))
    assert delivery.indices == list(range(120))
    assert all(block.valid is None for block in delivery.blocks)


def test_a_failed_frame_fails_its_receiver_and_no_other(bench):
    rig = bench(failed_frame_idx=4)
    params = rig.params(nb_frames=10)
    rig.prepare(params, 2)
    mine, other = rig.series(params, 2)
    with pytest.raises(DetectorError, match="frame 4 failed"):
        rig.deliver(mine)
    assert rig.deliver(other).indices == [1, 3, 5, 7, 9]


class TestTriggerInput:
    """The level that the command ExternalTrigger and the UDP port set."""

    @pytest.fixture
    def started(self, bench):
        def start(**acq):
            limits = []
            rig = bench()
            rig.control.prepare(rig.params(**acq))
            rig.control.start(limits.append)
            return rig.control, limits

        return start

    @staticmethod
    def levels(control, *levels):
        for level in levels:
            PLUGIN.commands["ExternalTrigger"].run(control, level)

    def test_a_rising_edge_grants_the_frames_of_a_trigger_up_to_the_last(self, started):
        control, limits = started(nb_frames=5, trigger_mode="external", nb_frames_per_trigger=3, expo_time=1)
        for _ in range(4):
            self.levels(control, True, True, False, False)
            time.sleep(1e-4)
        assert limits == [3, 5]

    def test_an_edge_during_an_exposure_is_missed_and_counted(self, started):
        control, limits = started(nb_frames=0, trigger_mode="external", expo_time=10_000_000)
        self.levels(control, True, False, True, False, True)
        assert limits == [1]
        assert control.status()["nb_missed_triggers"] == 2

    def test_a_gate_grants_its_frame_when_it_closes(self, started):
        control, limits = started(nb_frames=0, trigger_mode="gate", expo_time=10_000_000)
        self.levels(control, True)
        assert limits == []
        self.levels(control, False, True, False)
        assert limits == [1, 2]

    def test_a_gate_that_was_open_before_the_start_is_no_exposure(self, started):
        control, _ = started(nb_frames=0, trigger_mode="gate")
        self.levels(control, True)
        limits = []
        control.start(limits.append)
        self.levels(control, False, True, False)
        assert limits == [1]

    @pytest.mark.parametrize("mode", ["internal", "software"])
    def test_the_command_is_refused_where_the_run_does_not_look_at_it(self, started, mode):
        control, _ = started(trigger_mode=mode)
        with pytest.raises(StateError, match="prepare with external or gate"):
            self.levels(control, True)

    def test_nothing_is_granted_after_a_stop(self, started):
        control, limits = started(nb_frames=0, trigger_mode="external")
        control.stop()
        self.levels(control, True)
        assert limits == []


class TestTriggerPort:
    HOSTILE = {"empty": b"", "other byte": b"\xff", "text": b"trigger", "long": b"x" * 9000}

    @staticmethod
    def wait_until(condition):
        deadline = time.monotonic() + 5
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(1e-3)

    @pytest.fixture
    def port(self):
        levels = []
        port = TriggerPort(0, levels.append)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.connect(("127.0.0.1", port.port))
            yield port, levels, sender
        port.close()
        port.close()

    def test_the_first_byte_is_the_level(self, port):
        _, levels, sender = port
        for datagram in (b"1", b"0", b"\x01", b"\x00 and more"):
            sender.send(datagram)
        self.wait_until(lambda: len(levels) == 4)
        assert levels == [True, False, True, False]

    @pytest.mark.parametrize("datagram", HOSTILE.values(), ids=HOSTILE)
    def test_a_hostile_datagram_is_counted_and_the_next_level_taken(self, port, datagram):
        listener, levels, sender = port
        sender.send(datagram)
        sender.send(b"1")
        self.wait_until(lambda: levels == [True])
        assert listener.bad_datagrams == 1

    def test_a_port_that_is_taken_is_refused_at_prepare(self, bench, port):
        rig = bench(trigger_port=port[0].port)
        with pytest.raises(ParamError, match=r"\$\.det\.trigger_port"):
            rig.control.prepare(rig.params())

    def test_datagrams_trigger_a_run(self, bench):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.bind(("127.0.0.1", 0))
            free = sender.getsockname()[1]
        rig, limits = bench(trigger_port=free), []
        for _ in range(2):  # the port is free again for the second
            rig.control.prepare(rig.params(nb_frames=1, trigger_mode="external"))
            rig.control.start(limits.append)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                sender.sendto(b"1", ("127.0.0.1", free))
                sender.sendto(b"0", ("127.0.0.1", free))
            self.wait_until(lambda: limits)
            assert limits == [1]
            limits.clear()
