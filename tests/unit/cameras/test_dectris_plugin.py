"""Both halves of the Dectris camera against the simulated detector: real REST, real streams."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from threading import Thread
from typing import Any

import numpy as np
import pytest

from lima2_tango.cameras.dectris import PLUGIN
from lima2_tango.cameras.dectris._params import DectrisParams
from lima2_tango.core.acquisition import TriggerMode
from lima2_tango.core.errors import DataLossError, DetectorError, Lima2Error, ParamError
from lima2_tango.core.frame import Block, EndOfSeries
from lima2_tango.core.pool import Pool
from lima2_tango.core.series import Series
from lima2_tango.simulators.dectris.faults import Faults
from lima2_tango.simulators.dectris.frames import Powder
from lima2_tango.simulators.dectris.models import find_model
from lima2_tango.simulators.dectris.options import Options
from lima2_tango.simulators.dectris.server import SimulatedDetector
from lima2_tango.testing.camera_rig import Delivery
from lima2_tango.transport.topology import RoundRobin

SHAPE = (64, 80)
PATIENCE = 10.0


class Bench:
    """A simulated detector, and the camera's halves."""

    def __init__(self, simulator: SimulatedDetector) -> None:
        self.simulator = simulator
        self.pool = Pool(256 << 20)
        self.control = PLUGIN.control()
        self.receivers = [PLUGIN.receiver() for _ in range(3)]
        for half in (self.control, *self.receivers):
            half.locate(f"127.0.0.1:{simulator.port}")

    def params(
        self, det: dict[str, Any] | None = None, saving: dict[str, Any] | None = None, **acq: Any
    ) -> DectrisParams:
        det = {"thresholds": [{"energy": 6000.0, "enabled": True}], **(det or {})}
        stream2, legacy = self.simulator.stream_ports
        det.setdefault("stream_port", legacy if det.get("stream") == "legacy" else stream2)
        acq = {"nb_frames": 10, "expo_time": 1000, "latency_time": 100, **acq}
        text = json.dumps({"acq": acq, "det": det, "saving": saving or {}})
        return DectrisParams.parse(text)

    def prepare(self, params: DectrisParams, receivers: int = 1) -> list[Series]:
        self.control.prepare(params)
        made = []
        for rank in range(receivers):
            self.receivers[rank].prepare(params, rank, receivers, self.pool)
            made.append(Series(params.acq, RoundRobin(receivers), rank))
            made[-1].tag = self.control.tag
        return made

    def deliver(self, series: Series) -> Delivery:
        """Frames are copied as they come, their memory is given back."""
        delivery = Delivery()
        for item in self.receivers[series.rank].blocks(series):
            if isinstance(item, EndOfSeries):
                delivery.ends.append(item)
            else:
                delivery.blocks.append(item)
        return delivery

    def run(self, **asked: Any) -> Delivery:
        (series,) = self.prepare(self.params(**asked))
        self.control.start(series.grant)
        try:
            return self.deliver(series)
        finally:
            self.control.stop()

    def pulse(self, times: int) -> None:
        """External triggers, each as soon as the detector waits for it."""
        while times:
            times -= self.simulator.detector.pulse()

    def check(self, delivery: Delivery, numbers: list[int], channels: tuple[int, ...] = (0,)) -> None:
        """These images came, each once, pixel-exact."""
        assert delivery.indices == numbers
        assert delivery.ends == [EndOfSeries(len(numbers))]
        ring = self.simulator.detector.series.ring
        for block in delivery.blocks:
            for place, index in enumerate(block.index):
                for channel, name in enumerate(channels):
                    real = block.valid is None or block.valid[place]
                    wanted = ring.pixels(int(index), name) if real else 0
                    assert (block.data[place, channel] == wanted).all(), f"frame {index}, channel {channel}"
        delivery.release()

    def close(self) -> None:
        for half in (self.control, *self.receivers):
            half.close()


def release(items: Iterator[Block | EndOfSeries]) -> None:
    for item in items:
        if isinstance(item, Block):
            item.lease.release()


Maker = Callable[..., Bench]


@pytest.fixture
def bench() -> Iterator[Maker]:
    """Makes benches; `Options` by name, and `model`."""
    with ExitStack() as stack:

        def make(model: str = "eiger2-500k", **options: Any) -> Bench:
            wanted = Options(**{"distinct": 4, "rate": 2000.0, **options})
            simulator = stack.enter_context(SimulatedDetector(find_model(model), wanted, source=Powder(shape=SHAPE)))
            made = Bench(simulator)
            stack.callback(made.close)
            return made

        yield make


class TestDiscovery:
    def test_what_the_detector_is(self, bench: Maker) -> None:
        told = bench("pilatus4-1m").control.info().as_json()
        assert (told["plugin"], told["sn"], told["nb_thresholds"]) == ("Dectris", "P4-01-9006", 4)
        assert told["pixel_size"] == {"x": 150e-6, "y": 150e-6}
        assert told["dimensions"] == {"x": SHAPE[1], "y": SHAPE[0]}

    def test_what_the_detector_can_do(self, bench: Maker) -> None:
        capabilities = bench().control.capabilities
        assert set(capabilities.trigger_modes) == set(TriggerMode)
        assert capabilities.expo_time_range == (100, 3_600_000_000_000)

    def test_how_the_detector_is(self, bench: Maker) -> None:
        status = bench().control.status()
        assert status["state"] == "na"
        assert (status["temperature"], status["humidity"], status["stream_dropped"]) == (22.5, 7.4, 0)

    def test_what_the_detector_calls_critical_is_an_alarm(self, bench: Maker) -> None:
        assert bench().control.status()["alarms"] == []
        status = bench(faults=Faults(high_temperature=True)).control.status()
        assert (status["temperature"], status["alarms"]) == (48.3, ["temperature"])

    @pytest.mark.parametrize("version", ["1.6.0", "1.7.0", "1.8.0"])
    def test_versions(self, bench: Maker, version: str) -> None:
        assert bench(version=version).control.info().serial == "E-08-9001"


class TestImages:
    @pytest.mark.parametrize("stream", ["stream2", "legacy"])
    @pytest.mark.parametrize("compression", ["bshuf_lz4", "none"])
    def test_are_pixel_exact(self, bench: Maker, stream: str, compression: str) -> None:
        one = bench()
        one.check(one.run(det={"stream": stream}, saving={"compression": compression}), list(range(10)))

    def test_have_a_channel_for_each_threshold(self, bench: Maker) -> None:
        one = bench()
        thresholds = [{"energy": 6000.0, "enabled": True}, {"energy": 9000.0, "enabled": True}]
        one.check(one.run(det={"thresholds": thresholds}), list(range(10)), (0, 1))

    def test_of_the_difference(self, bench: Maker) -> None:
        one = bench()
        one.check(one.run(det={"difference": {"enabled": True}}), list(range(10)))

    def test_of_32_bits(self, bench: Maker) -> None:
        one = bench()
        delivery = one.run(expo_time=50_000, nb_frames=3)
        assert delivery.blocks[0].data.dtype == np.uint32
        one.check(delivery, [0, 1, 2])

    def test_one_run_after_another(self, bench: Maker) -> None:
        one = bench()
        for _ in range(3):
            one.check(one.run(), list(range(10)))

    def test_times_are_ascending_and_of_the_detectors_clock(self, bench: Maker) -> None:
        delivery = bench(rate=0).run(nb_frames=20)
        times = np.concatenate([block.time for block in delivery.blocks])
        assert np.diff(times) == pytest.approx(np.full(19, 0.0011), abs=1e-6)


class TestTriggers:
    def test_software(self, bench: Maker) -> None:
        one = bench()
        (series,) = one.prepare(one.params(nb_frames=6, trigger_mode="software", nb_frames_per_trigger=2))
        one.control.start(series.grant)
        for _ in range(3):
            one.control.trigger()
        one.check(one.deliver(series), list(range(6)))

    @pytest.mark.parametrize(("mode", "per_trigger"), [("external", 2), ("external", 1), ("gate", 1)])
    def test_external(self, bench: Maker, mode: str, per_trigger: int) -> None:
        one = bench()
        (series,) = one.prepare(one.params(nb_frames=6, trigger_mode=mode, nb_frames_per_trigger=per_trigger))
        one.control.start(series.grant)
        pulses = Thread(target=one.pulse, args=(6 // per_trigger,))
        pulses.start()
        one.check(one.deliver(series), list(range(6)))
        pulses.join(PATIENCE)

    def test_gated(self, bench: Maker) -> None:
        one = bench()
        (series,) = one.prepare(one.params({"gate_mode": "extg"}, nb_frames=6, trigger_mode="gate"))
        one.control.start(series.grant)
        one.pulse(1)  # as the simulator has it: one gate for the series
        one.check(one.deliver(series), list(range(6)))

    def test_frames_beyond_the_last_are_left_out(self, bench: Maker) -> None:
        one = bench()
        (series,) = one.prepare(one.params(nb_frames=5, trigger_mode="software", nb_frames_per_trigger=2))
        one.control.start(series.grant)
        for _ in range(3):
            one.control.trigger()
        one.check(one.deliver(series), list(range(5)))
        one.control.stop()

    def test_an_endless_run_is_stopped(self, bench: Maker) -> None:
        one = bench()
        (series,) = one.prepare(one.params(nb_frames=0))
        one.control.start(series.grant)
        delivered = []
        for item in one.receivers[0].blocks(series):
            if isinstance(item, EndOfSeries):
                assert item.nb_frames == len(delivered)
                continue
            delivered += item.index.tolist()
            item.lease.release()
            if len(delivered) > 20 and not series.is_cut:
                one.control.stop()
                series.cut(series.hold())
        assert delivered == list(range(len(delivered)))


class TestFaults:
    def test_lost_images_become_zeros(self, bench: Maker) -> None:
        one = bench(faults=Faults(drop=frozenset({3, 4, 9})))
        delivery = one.run()
        gone = [int(i) for block in delivery.blocks if block.valid is not None for i in block.index]
        assert gone == [3, 4, 9]
        one.check(delivery, list(range(10)))

    def test_or_end_the_run(self, bench: Maker) -> None:
        with pytest.raises(DataLossError, match="frame 3 never came"):
            bench(faults=Faults(drop=frozenset({3}))).run(det={"overload": "abort"})

    @pytest.mark.parametrize(
        "faults",
        [
            {"duplicate": frozenset({2, 5})},
            {"reorder": frozenset({2, 5})},
            {"wrong_series": frozenset({2})},
            {"no_end": True},
            {"stall": (4, 0.3)},
        ],
    )
    def test_are_survived(self, bench: Maker, faults: dict[str, Any]) -> None:
        one = bench(faults=Faults(**faults))
        one.check(one.run(), list(range(10)))

    def test_a_missing_end_and_last_image_end_by_the_detectors_state(self, bench: Maker) -> None:
        one = bench(faults=Faults(no_end=True, drop=frozenset({9})))
        one.check(one.run(), list(range(10)))

    def test_an_error_of_the_detector_is_named_and_the_next_run_works(self, bench: Maker) -> None:
        one = bench(faults=Faults(error_at=4))
        with pytest.raises(DetectorError, match="in state error"):
            one.run()
        one.check(one.run(nb_frames=4), list(range(4)))

    def test_a_series_that_somebody_ends_is_named(self, bench: Maker) -> None:
        one = bench()
        (series,) = one.prepare(one.params(nb_frames=10_000))
        one.control.start(series.grant)
        items = one.receivers[0].blocks(series)
        assert not isinstance(next(items), EndOfSeries)
        one.simulator.detector.command("detector", "abort")
        with pytest.raises(DataLossError, match="somebody else has stopped or disarmed it"):
            release(items)

    def test_a_restart_of_the_detector_is_named_and_the_next_run_works(self, bench: Maker) -> None:
        one = bench()
        (series,) = one.prepare(one.params(nb_frames=100_000))
        one.control.start(series.grant)
        items = one.receivers[0].blocks(series)
        assert not isinstance(next(items), EndOfSeries)
        one.simulator.detector.command("system", "restart")
        with pytest.raises(DetectorError, match="the detector was restarted"):
            release(items)
        one.control.stop()
        one.check(one.run(), list(range(10)))

    def test_a_stream_that_is_closed_is_named_and_the_next_run_works(self, bench: Maker) -> None:
        one = bench(faults=Faults(hang_up_at=4), rate=200.0)
        with pytest.raises(DataLossError, match="has ended its series before frame [234], 100 were asked for"):
            one.run(nb_frames=100)
        one.control.stop()
        one.simulator.set_faults(Faults())
        one.check(one.run(), list(range(10)))

    @pytest.mark.parametrize("address", ["command/arm", "config/nimages", "status/state", "config/threshold/1/mode"])
    def test_an_error_of_the_interface_is_named_and_the_next_run_works(self, bench: Maker, address: str) -> None:
        one = bench(faults=Faults(rest_errors=frozenset({address})))
        with pytest.raises(Lima2Error, match="internal server error"):
            one.run()
        one.simulator.set_faults(Faults())
        one.check(one.run(), list(range(10)))

    def test_a_detector_that_is_gone_is_named_and_the_next_run_works_where_it_is_back(self) -> None:
        model, options, source = find_model("eiger2-500k"), Options(distinct=4, rate=100.0), Powder(shape=SHAPE)
        with SimulatedDetector(model, options, source=source) as simulator:
            one, port, ports = Bench(simulator), simulator.port, simulator.stream_ports
            (series,) = one.prepare(one.params({"silence_limit": 1}, nb_frames=10_000))
            one.control.start(series.grant)
            items = one.receivers[0].blocks(series)
            assert not isinstance(next(items), EndOfSeries)
        with pytest.raises(DetectorError, match=r"frame \d+ has not come for .* cannot be reached at"):
            release(items)
        one.control.stop()
        with SimulatedDetector(model, options, port=port, stream_ports=ports, source=source) as one.simulator:
            one.check(one.run(), list(range(10)))
            one.close()

    def test_a_wrong_port_is_named(self, bench: Maker) -> None:
        one = bench()
        with pytest.raises(DetectorError, match=r"none of its 10 images came: is its stream really at tcp"):
            one.run(det={"stream_port": 9})
        one.check(one.run(), list(range(10)))

    def test_no_image_while_the_detector_exposes_is_named(self, bench: Maker) -> None:
        one = bench(faults=Faults(stall=(3, 5.0)), rate=0)
        with pytest.raises(DetectorError, match="frame 3 has not come for [12] s, the detector is in state acquire"):
            one.run(det={"silence_limit": 1}, nb_frames=10_000)


class TestSeveralReceivers:
    @pytest.mark.parametrize("receivers", [2, 3])
    def test_share_the_images(self, bench: Maker, receivers: int) -> None:
        one = bench()
        params = one.params(nb_frames=60)
        all_series = one.prepare(params, receivers)
        deliveries: dict[int, Delivery] = {}

        for series in all_series:
            series.on_end = lambda: [other.cut(60) for other in all_series]
        threads = [
            Thread(target=lambda s=series: deliveries.__setitem__(s.rank, one.deliver(s))) for series in all_series
        ]
        for thread in threads:
            thread.start()
        one.control.start(lambda _: None)
        for thread in threads:
            thread.join(PATIENCE)
        numbers = sorted(index for delivery in deliveries.values() for index in delivery.indices)
        assert numbers == list(range(60))
        assert all(delivery.indices for delivery in deliveries.values())

    def test_one_that_was_given_up_takes_no_image(self, bench: Maker) -> None:
        one = bench()
        params = one.params()
        one.prepare(params, 2)
        one.receivers[1].abandon()
        alone = Series(params.acq, RoundRobin(1), 0)
        alone.tag = one.control.tag
        one.control.start(lambda _: None)
        one.check(one.deliver(alone), list(range(10)))


REFUSED = {
    "an energy": ({"thresholds": [{"energy": 1.0, "enabled": True}]}, {}, "$.det.thresholds[0].energy"),
    "a threshold that is not there": ({"thresholds": [{"energy": 6000.0}] * 3}, {}, "$.det.thresholds[2].enabled"),
    "no threshold": ({"thresholds": []}, {}, "$.det.thresholds"),
    "a region": ({"roi": "5M"}, {}, "$.det.roi"),
    "partial frames": ({"topology": "partial_frames"}, {}, "$.det.topology"),
    "a rank": ({"acquisition_rank": 0}, {}, "$.det.acquisition_rank"),
    "a rate": ({}, {"expo_time": 10}, "$.acq.latency_time"),
    "an exposure": ({}, {"expo_time": 4_000_000_000}, "$.acq.expo_time"),
}


class TestRefusals:
    @pytest.mark.parametrize("name", REFUSED)
    def test_name_the_parameter(self, bench: Maker, name: str) -> None:
        det, acq, path = REFUSED[name]
        one = bench()
        with pytest.raises(ParamError) as caught:
            one.prepare(one.params(det, **acq))
        assert caught.value.path == path
        one.check(one.run(), list(range(10)))

    def test_an_unreachable_detector_is_named(self) -> None:
        control = PLUGIN.control()
        control.locate("127.0.0.1:9")
        with pytest.raises(DetectorError, match="cannot be reached at 127.0.0.1:9"):
            control.info()
        assert control.status()["state"] == "unreachable"
        control.close()

    def test_no_address_is_named(self) -> None:
        with pytest.raises(DetectorError, match="device property detector"):
            PLUGIN.control().info()

    def test_another_version_is_named(self, bench: Maker) -> None:
        with pytest.raises(Lima2Error, match=r"speaks SIMPLON 2\.0\.0, known are 1\.6 to 1\.8"):
            bench(version="2.0.0").control.info()

    @pytest.mark.parametrize("name", [name for name in REFUSED if "acq" not in REFUSED[name][2]])
    def test_come_from_a_receiver_too_without_waiting_for_the_control(self, bench: Maker, name: str) -> None:
        det, acq, path = REFUSED[name]
        one = bench()
        with pytest.raises(ParamError) as caught:
            one.receivers[0].prepare(one.params(det, **acq), 0, 1, one.pool)
        assert caught.value.path == path

    def test_a_receiver_whose_control_does_not_arm_says_so(self, bench: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
        one = bench()
        receiver = one.receivers[0]
        monkeypatch.setattr("lima2_tango.cameras.dectris._receiver.ARMED_LIMIT", 0.1)
        with pytest.raises(DetectorError, match=r"was not armed .* \(it is in state na\): prepare the control"):
            receiver.prepare(one.params(), 0, 1, one.pool)
        one.control.prepare(one.params())
        with pytest.raises(DetectorError, match=r"\(its nimages differ\)"):
            receiver.prepare(one.params(nb_frames=11), 0, 1, one.pool)
        one.check(one.run(), list(range(10)))
