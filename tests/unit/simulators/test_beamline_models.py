"""Motor, shutter, trigger source and monitor of the simulated beamline, without Tango and on a clock of our own."""

import math
import socket
import threading

import numpy as np
import pytest

from lima2_tango.core.errors import ParamError, StateError
from lima2_tango.simulators.beamline.monitor import Monitor, Profile
from lima2_tango.simulators.beamline.motor import Motor
from lima2_tango.simulators.beamline.pulses import TriggerSource
from lima2_tango.simulators.beamline.shutter import Mode, Position, Shutter
from lima2_tango.simulators.beamline.wire import Wire


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def motor(clock: Clock) -> Motor:
    return Motor((-10, 10), 2.0, clock)


class TestMotor:
    def test_it_moves_at_its_velocity_and_stays_where_it_was_sent(self, motor, clock):
        motor.move(-5)
        clock.now += 1
        assert (motor.position, motor.moving) == (-2, True)
        clock.now += 1.5
        assert (motor.position, motor.moving) == (-5, False)
        clock.now += 9
        assert motor.position == -5

    def test_stopped_it_stays(self, motor, clock):
        motor.move(8)
        clock.now += 1
        motor.stop()
        clock.now += 1
        assert (motor.position, motor.moving, motor.target) == (2, False, 2)

    @pytest.mark.parametrize("target", [10.001, -11, float("nan"), float("inf")])
    def test_beyond_its_limits_it_does_not_go(self, motor, target):
        with pytest.raises(ParamError, match="the limits are -10 and 10"):
            motor.move(target)
        assert motor.position == 0

    def test_while_it_moves_nothing_about_it_changes(self, motor, clock):
        motor.move(8)
        for change in (lambda: motor.move(1), lambda: motor.set_velocity(1), lambda: motor.set_limits(-1, 1)):
            with pytest.raises(StateError, match="moves to 8"):
                change()
        clock.now += 4
        motor.set_limits(-1, 9)
        with pytest.raises(ParamError, match="at 8"):
            motor.set_limits(-1, 7)
        with pytest.raises(ParamError, match="more than 0"):
            motor.set_velocity(0)

    def test_it_says_when_it_will_be_where(self, motor, clock):
        since = motor.now()
        assert motor.reaches(0, since) is None
        motor.move(8)
        assert motor.reaches(4, since) == clock.now + 2
        clock.now += 3
        assert motor.reaches(4, since) == clock.now - 1
        assert motor.reaches(4, since, clock.now) is None, "it was there before"
        assert motor.reaches(9, since) is None
        assert motor.reaches(7, clock.now) is None, "of a motion that began before"

    def test_it_begins_within_its_limits(self, clock):
        assert Motor((3, 5), 1, clock).position == 3


class TestShutter:
    def test_by_hand(self, clock):
        shutter = Shutter(0.5, clock)
        assert shutter.position is Position.CLOSED
        shutter.open()
        assert shutter.position is Position.MOVING
        clock.now += 0.5
        assert shutter.is_open
        shutter.frame(False)
        shutter.sequence(False)
        assert shutter.is_open
        shutter.close()
        assert not shutter.is_open
        assert shutter.openings == 1

    def test_with_each_frame(self, clock):
        shutter = Shutter(0, clock)
        shutter.set_mode(" AUTO_FRAME")
        shutter.sequence(True)
        assert not shutter.is_open
        for _ in range(3):
            shutter.frame(True)
            assert shutter.is_open
            shutter.frame(False)
            assert not shutter.is_open
        assert shutter.openings == 3

    def test_with_each_sequence(self, clock):
        shutter = Shutter(0, clock)
        shutter.set_mode("auto_sequence")
        for on in (True, True, False):
            shutter.sequence(on)
            shutter.frame(not on)
            assert shutter.is_open is on
        assert shutter.openings == 1

    def test_what_moves_by_itself_is_not_moved_by_hand(self, clock):
        shutter = Shutter(0, clock)
        shutter.open()
        shutter.set_mode("auto_frame")
        assert not shutter.is_open, "another mode closes it"
        with pytest.raises(StateError, match="set mode manual"):
            shutter.open()
        with pytest.raises(ParamError, match="manual, auto_frame, auto_sequence"):
            shutter.set_mode("bulb")
        assert shutter.mode is Mode.AUTO_FRAME


class TestMonitor:
    def test_it_counts_what_is_expected_with_the_noise_of_photons(self, motor, clock):
        shutter = Shutter(0, clock)
        monitor = Monitor(motor, shutter, Profile(centre=0, fwhm=2, peak=1e5, dark=10), seed=1)
        assert monitor.rate == 10
        shutter.open()
        assert monitor.rate == pytest.approx(100_010)
        found = np.array([monitor.counts(0.1) for _ in range(2000)])
        assert found.mean() == pytest.approx(10_001, rel=0.002)
        assert found.var() == pytest.approx(10_001, rel=0.1)
        motor.move(1)
        clock.now += 1
        assert monitor.rate == pytest.approx(50_010), "at half of the full width at half maximum"

    def test_only_times_are_integrated_over(self, motor, clock):
        monitor = Monitor(motor, Shutter(0, clock), Profile(), seed=1)
        with pytest.raises(ParamError, match="more than 0"):
            monitor.set_integration_time(0)
        monitor.set_integration_time(2)
        assert monitor.integration_time == 2


class Listener:
    """Levels that were sent, and a wait for so many of them."""

    def __init__(self) -> None:
        self.levels: list[bool] = []
        self._more = threading.Condition()

    def __call__(self, level: bool) -> None:
        with self._more:
            self.levels.append(level)
            self._more.notify_all()

    def wait(self, count: int) -> bool:
        with self._more:
            return self._more.wait_for(lambda: len(self.levels) >= count, 5)


class TestTriggerSource:
    @pytest.fixture
    def listener(self):
        return Listener()

    @pytest.fixture
    def fast(self):
        """On the real clock."""
        return Motor((-10, 10), 50.0)

    @pytest.fixture
    def source(self, fast, listener):
        source = TriggerSource(fast, [listener], lambda seconds: round(seconds * 1e6))
        yield source
        source.disarm()

    def test_each_place_of_the_train_gives_a_pulse(self, source, fast, listener):
        fast.move(-3)
        source.configure(start=-2, step=0.5, count=8, width=0.002)
        while fast.moving:
            pass
        source.arm()
        fast.move(5)
        assert listener.wait(16)
        assert listener.levels == [True, False] * 8
        positions = np.array([each.position for each in source.latched])
        assert len(positions) == 8
        assert (positions >= source.train.positions).all(), "never before it is there"
        assert (np.diff(positions) > 0).all()
        assert {each.counts for each in source.latched} == {2000}

    def test_a_motion_of_before_gives_none(self, source, fast, listener):
        fast.move(2)
        while fast.moving:
            pass
        source.configure(start=0, step=1, count=2)
        source.arm()
        fast.move(-1)
        assert listener.wait(2)
        assert source.latched[0].position <= 0.0
        while fast.moving:
            pass
        fast.move(2)
        assert listener.wait(4)
        assert source.latched[1].position >= 1.0, "the second place was not on the way back"

    def test_it_gives_them_downwards_too(self, source, fast, listener):
        source.configure(start=-1, step=-1, count=3)
        source.arm()
        fast.move(-4)
        assert listener.wait(6)

    def test_pulses_are_kept_apart_where_one_was_late(self, fast, listener):
        """The first output stalls as a busy computer does: the pulses behind it do not come at once."""
        stall = threading.Event()
        source = TriggerSource(fast, [lambda _: stall.wait(0.2), listener], lambda _: 0)
        source.configure(start=0.5, step=0.5, count=4, width=0.001, least_period=0.009)
        source.arm()
        fast.move(5)
        stall_ends = threading.Timer(0.1, stall.set)
        stall_ends.start()
        assert listener.wait(8)
        stall_ends.join()
        source.disarm()
        assert np.diff([each.time for each in source.latched])[1:].min() > 0.008
        assert source.latched[-1].position > 2.0, "where it really was"

    def test_a_pulse_by_hand(self, source, listener):
        source.pulse()
        assert listener.levels == [True, False]
        assert source.latched[0].position == 0

    def test_armed_it_is_not_changed(self, source):
        source.configure(count=5)
        source.arm()
        for change in (source.arm, source.pulse, lambda: source.configure(count=1)):
            with pytest.raises(StateError, match="0 of 5 pulses"):
                change()
        source.disarm()
        assert not source.armed
        source.configure(count=1)

    @pytest.mark.parametrize(
        ("train", "sentence"),
        [
            ({"count": 0}, "give 1 to"),
            ({"count": 2, "step": 0.0}, "at one place"),
            ({"count": 20}, "beyond the motor's limits"),
            ({"count": 2, "width": 0.5}, "every 0.02 s"),
            ({"count": 2, "least_period": 0.5}, "every 0.02 s"),
        ],
        ids=str,
    )
    def test_a_train_that_cannot_be_is_refused(self, source, train, sentence):
        source.configure(**train)
        with pytest.raises(ParamError, match=sentence):
            source.arm()

    @pytest.mark.parametrize("name", ["start", "step", "width", "least_period"])
    @pytest.mark.parametrize("value", [math.nan, math.inf])
    def test_what_is_no_number_is_refused_at_once(self, source, name, value):
        with pytest.raises(ParamError, match=rf"{name}.*give a number"):
            source.configure(**{name: value})

    @pytest.mark.parametrize(
        ("name", "value"), [("width", 0.0), ("width", -1.0), ("least_period", -1.0), ("width", 1e9)]
    )
    def test_a_time_that_no_pulse_can_take_is_refused_at_once(self, source, name, value):
        with pytest.raises(ParamError, match=f"{name}.*give seconds"):
            source.configure(**{name: value})

    def test_a_pulse_that_a_caller_would_not_wait_for_is_refused(self, source):
        source.configure(width=2.5)
        with pytest.raises(ParamError, match="at most 2 s"):
            source.pulse()


def test_the_wire_ends_at_a_udp_port() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
        end.bind(("127.0.0.1", 0))
        end.settimeout(5)
        wire = Wire(end.getsockname()[1])
        wire.level(True)
        wire.level(False)
        assert [end.recv(8), end.recv(8)] == [b"\x01", b"\x00"]
        with pytest.raises(ParamError, match="1 to 65535"):
            wire.connect(0)
        wire.close()
