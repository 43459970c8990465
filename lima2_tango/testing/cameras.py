"""What every camera keeps: inherit `CameraContract` and give it a `rig` (see `camera_rig.make_rig`)."""

import json
import re
import time
from collections.abc import Iterator, Sequence
from queue import Queue
from threading import Thread
from typing import Any

import jsonschema_default
import jsonschema_rs
import numpy as np
import pytest

from lima2_tango.core.acquisition import TriggerMode
from lima2_tango.core.errors import ParamError
from lima2_tango.core.frame import EndOfSeries
from lima2_tango.core.series import Series

from .camera_rig import Delivery, Rig

PATIENCE = 10.0
"""Bound of every wait [s]."""
ACCEPTED_VERSION = re.compile(r"([a-z]+-)+1\.2(\.\d+)?")


def leaves(schema: dict[str, Any], path: str = "$") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every value that a client's form asks for."""
    if "properties" not in schema:
        yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from leaves(child, f"{path}.{name}")


def check_shared(rig: Rig, deliveries: Sequence[Delivery], count: int) -> None:
    """Frames below `count` came once each, in order, and to whom they belong."""
    for rank, delivery in enumerate(deliveries):
        assert delivery.ends == [EndOfSeries(len(delivery.indices))]
        if not rig.plugin.free_running:
            assert delivery.indices == list(range(rank, count, len(deliveries)))
        assert delivery.indices == sorted(delivery.indices)
    assert sorted(index for delivery in deliveries for index in delivery.indices) == list(range(count))


class CameraContract:
    """One method per promise; `rig` is the fixture that a test class gives."""

    @pytest.mark.parametrize("receivers", [1, 2, 3])
    def test_delivers_each_frame_once_in_order_to_its_receiver(self, rig: Rig, receivers: int) -> None:
        check_shared(rig, rig.run(receivers, nb_frames=7), 7)

    def test_blocks_are_what_was_promised(self, rig: Rig) -> None:
        params = rig.params(nb_frames=7)
        (spec,) = rig.prepare(params)
        series = rig.series(params)
        rig.start(series)
        delivery = rig.deliver(series[0])
        local = 0
        for block in delivery.blocks:
            assert block.spec == spec
            assert block.local == local
            assert all(frame.flags.c_contiguous for frame in block.data)
            assert len(block) == len(block.index) == len(block.time) > 0
            local += len(block)

    def test_times_are_ascending_and_now(self, rig: Rig) -> None:
        before = time.time()
        (delivery,) = rig.run(nb_frames=20)
        times = np.concatenate([block.time for block in delivery.blocks])
        assert (np.diff(times) >= 0).all()
        assert before - 1 < times[0] <= times[-1] < time.time() + 1

    def test_the_same_frame_has_the_same_pixels_however_many_receivers_share_it(self, rig: Rig) -> None:
        alone = rig.run(1, nb_frames=7)[0].frames()
        shared = {i: frame for delivery in rig.run(3, nb_frames=7) for i, frame in delivery.frames().items()}
        assert all(np.array_equal(alone[i], shared[i]) for i in range(7))

    @pytest.mark.parametrize("nb_frames", [0, 100_000])
    def test_a_stop_ends_all_receivers_at_one_frame(self, rig: Rig, nb_frames: int) -> None:
        params = rig.params(nb_frames=nb_frames)
        rig.prepare(params, 2)
        series = rig.series(params, 2)
        deliveries, seen = [Delivery(), Delivery()], Queue[int | Exception]()

        def pull(one: Series) -> None:
            try:
                rig.pull(one, deliveries[one.rank], lambda: seen.put(one.rank))
            except Exception as error:  # noqa: BLE001 - told to the test's own thread
                seen.put(error)

        threads = [Thread(target=pull, args=(one,)) for one in series]
        for thread in threads:
            thread.start()
        rig.start(series)
        while (rank := seen.get(timeout=PATIENCE)) != 1:
            assert rank == 0
        cut = max(one.hold() for one in series)
        for one in series:
            one.cut(cut)
        for thread in threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()
        check_shared(rig, deliveries, cut)

    def test_a_series_cut_before_its_first_frame_ends_empty(self, rig: Rig) -> None:
        params = rig.params(nb_frames=7)
        rig.prepare(params)
        (series,) = rig.series(params)
        series.cut(0)
        delivery = rig.deliver(series)
        assert (delivery.indices, delivery.ends) == ([], [EndOfSeries(0)])

    def test_a_second_run_delivers_like_the_first(self, rig: Rig) -> None:
        first, second = rig.run(nb_frames=7)[0], rig.run(nb_frames=7)[0]
        assert first.indices == second.indices
        assert all(np.array_equal(frame, second.frames()[i]) for i, frame in first.frames().items())

    def test_frames_held_from_one_run_keep_their_pixels_during_the_next(self, rig: Rig) -> None:
        (held,) = rig.run(nb_frames=3)
        copies = held.frames()
        rig.run(2, nb_frames=7)
        assert all(np.array_equal(copies[i], frame) for i, frame in held.frames().items())
        held.release()

    def test_prepare_twice_is_prepare_once(self, rig: Rig) -> None:
        rig.prepare(rig.params(nb_frames=3))
        assert rig.run(nb_frames=5)[0].indices == list(range(5))

    def test_fewer_receivers_than_expected_share_all_frames(self, rig: Rig) -> None:
        params = rig.params(nb_frames=7)
        rig.prepare(params, 3)
        series = rig.series(params, 2)
        rig.start(series)
        check_shared(rig, rig.deliver_all(series, 7), 7)

    def test_software_triggers_are_granted_in_the_order_they_come(self, rig: Rig) -> None:
        if TriggerMode.SOFTWARE not in rig.control.capabilities.trigger_modes:
            pytest.skip("this camera has no software trigger")
        params = rig.params(nb_frames=5, trigger_mode="software", nb_frames_per_trigger=2)
        rig.prepare(params)
        limits: list[int] = []
        (series,) = rig.series(params)
        rig.start([series], limits.append)
        for _ in range(3):
            rig.control.trigger()
        assert limits == ([] if rig.plugin.free_running else [2, 4, 5])
        assert rig.deliver(series).indices == list(range(5))
        rig.control.stop()

    @pytest.mark.parametrize("mode", list(TriggerMode))
    def test_a_trigger_mode_that_is_not_published_is_refused(self, rig: Rig, mode: TriggerMode) -> None:
        if mode in rig.control.capabilities.trigger_modes:
            rig.control.prepare(rig.params(trigger_mode=mode))
        else:
            with pytest.raises(ParamError, match=r"\$\.acq\.trigger_mode"):
                rig.control.prepare(rig.params(trigger_mode=mode))

    def test_an_unknown_parameter_is_refused_with_its_path(self, rig: Rig) -> None:
        with pytest.raises(ParamError) as refused:
            rig.plugin.params.parse('{"det": {"no_such": 1}}')
        assert refused.value.path == "$.det.no_such"

    def test_the_schema_gives_a_default_for_every_leaf_and_takes_it_back(self, rig: Rig) -> None:
        text = rig.plugin.params.schema_text()
        assert "\\" not in text
        assert len(text) < 60_000
        assert [path for path, leaf in leaves(json.loads(text)) if "default" not in leaf] == []
        defaults = jsonschema_default.create_from(text)
        jsonschema_rs.validator_for(text).validate(defaults)
        assert rig.plugin.params.parse(json.dumps(defaults)) == rig.plugin.params()

    def test_the_control_half_tells_the_clients_what_they_read(self, rig: Rig) -> None:
        (spec,) = rig.prepare(rig.params())
        info = rig.control.info().as_json()
        assert info["dimensions"] == {"x": spec.width, "y": spec.height}
        assert None not in info.values()
        assert isinstance(rig.control.status()["state"], str)
        assert "internal" in json.loads(json.dumps(rig.control.capabilities.as_json()))["trigger_modes"]
        assert ACCEPTED_VERSION.match(rig.plugin.version)

    def test_the_control_half_stops_and_closes_at_any_time_and_twice(self, rig: Rig) -> None:
        for _ in range(2):
            rig.control.stop()
            rig.control.close()
        rig.control.prepare(rig.params())
        rig.control.start(lambda _limit: None)
        for _ in range(2):
            rig.control.close()

    def test_warming_up_changes_nothing(self, rig: Rig) -> None:
        if rig.plugin.warm is not None:
            rig.plugin.warm()
        assert rig.run(nb_frames=2)[0].indices == [0, 1]

    def test_the_receiver_half_closes_at_any_time_and_twice(self, rig: Rig) -> None:
        half = rig.receivers[0]
        half.close()
        params = rig.params(nb_frames=2)
        rig.prepare(params)
        for _ in range(2):
            half.close()
        assert rig.run(nb_frames=2)[0].indices == [0, 1]

    def test_closing_gives_all_pinned_memory_back(self, rig: Rig) -> None:
        (delivery,) = rig.run(nb_frames=7)
        delivery.release()
        rig.close()
        assert rig.pool.pinned == 0
