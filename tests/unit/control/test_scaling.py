"""How many receivers a detector needs, by arithmetic that a person can follow."""

from dataclasses import replace

import pytest

from lima2_tango.control.scaling import (
    UNSAVED,
    USABLE,
    Detector,
    Host,
    Rates,
    answer,
    host_rate,
    other_time,
    worker_time,
)
from lima2_tango.core.acquisition import Sharing

RATES = Rates(
    compress=1e9,
    ratio=0.25,
    write=1e9,
    copy=4e9,
    copy_all=16e9,
    together=1.0,
    cores=4,
    disk=1e9,
    frame=1e-12,
    byte=0.0,
    receiver=0.0,
    system=0.0,
)
"""A machine with round figures, whose frames cost nothing beside their bytes."""
DETECTOR = Detector(width=1000, height=500, itemsize=2, rate=1000.0)
"""Frames of 1 MB at 1 GB/s."""
HOST = Host(cores=4, memory=8 * 10**9, network=10e9, disk=1e9, workers=4)


def needs(found):
    return {need.resource: need for need in found.needs}


def test_a_worker_compresses_hands_over_and_has_its_own_to_do():
    rates = replace(RATES, frame=1e-3)
    assert worker_time(DETECTOR, replace(rates, byte=1e-9)) == pytest.approx(1e-3 + 0.25e-3 + 1e-3 + 1e-3)
    assert worker_time(DETECTOR, rates) == pytest.approx(1e-3 + 0.25e-3 + 1e-3)
    assert worker_time(replace(DETECTOR, compressed=False), rates) == pytest.approx(1e-3 + 1e-3)
    assert worker_time(replace(DETECTOR, saved=False), rates) == pytest.approx(0.25e-3 + UNSAVED)


def test_a_frame_is_copied_once_more_where_it_crosses_ranks():
    assert other_time(DETECTOR, RATES) == pytest.approx(0.25e-3)
    assert other_time(replace(DETECTOR, sharing=Sharing.PARTIAL_FRAMES), RATES) == pytest.approx(0.5e-3)
    assert other_time(replace(DETECTOR, copies=0.0), RATES) == 0.0


def test_one_worker_is_as_fast_as_its_work_and_two_take_twice_that():
    detector = replace(DETECTOR, copies=0.0)
    one = host_rate(detector, replace(HOST, workers=1), RATES, alone=True)
    two = host_rate(detector, replace(HOST, workers=1, receivers=2), RATES, alone=True)
    assert one == pytest.approx(800)
    assert two == pytest.approx(1600)


def test_receivers_and_the_system_take_their_part_of_the_cores():
    rates = replace(RATES, receiver=0.1, system=0.3)
    detector, host = replace(DETECTOR, copies=0.0), replace(HOST, cores=2, receivers=2, workers=1)
    assert host_rate(detector, host, rates, alone=True) == pytest.approx(1.5 * 800)
    assert host_rate(detector, host, rates, alone=False) == pytest.approx(1.8 * 800)


def test_more_ranks_than_cores_only_add_their_own_cost():
    rates = replace(RATES, receiver=0.1)
    detector = replace(DETECTOR, copies=0.0)
    hosts = [replace(HOST, cores=2, receivers=ranks, workers=1) for ranks in (2, 4, 8)]
    assert [host_rate(detector, host, rates, alone=False) for host in hosts] == pytest.approx([1440, 1280, 960])


def test_cores_that_work_together_keep_less_than_alone():
    rates, detector = replace(RATES, together=0.5), replace(DETECTOR, copies=0.0)
    assert host_rate(detector, replace(HOST, workers=1), rates, alone=False) == pytest.approx(800)
    assert host_rate(detector, HOST, rates, alone=False) == pytest.approx(4 * 800 * 0.5)


def test_one_receiver_does_one_frame_at_a_time_of_what_is_ours():
    rates, host = replace(RATES, frame=2e-3), replace(HOST, cores=64, workers=32)
    assert host_rate(DETECTOR, host, rates, alone=False) == pytest.approx(500)
    assert host_rate(DETECTOR, replace(host, receivers=2), rates, alone=False) == pytest.approx(1000)


def test_a_host_without_a_core_to_spare_takes_nothing():
    busy = replace(RATES, receiver=2.0)
    assert host_rate(DETECTOR, replace(HOST, cores=1), busy, alone=True) == 0
    found = answer(DETECTOR, replace(HOST, cores=1), busy)
    assert (found.receivers, found.bottleneck) == (None, "cores")


def test_each_resource_says_what_is_needed_and_the_worst_is_the_bottleneck():
    found = answer(replace(DETECTOR, rate=5000.0), HOST, RATES)
    each = needs(found)
    assert each["compression"].need == pytest.approx(5e9)
    assert each["compression"].receivers == 2
    assert each["cores"].gives == pytest.approx(4 / 1.5e-3)
    assert each["disk"].need == pytest.approx(1.25e9)
    assert each["disk"].receivers == 2
    assert each["network"].gives == pytest.approx(USABLE * 10e9)
    assert each["network"].receivers == 1
    assert found.bottleneck == max(found.needs, key=lambda need: need.need / need.gives).resource
    assert found.receivers == found.hosts == 2


def test_receivers_that_share_a_host_share_what_it_has():
    one, two = (
        needs(answer(DETECTOR, replace(HOST, receivers=count, workers=0), RATES))["disk"].gives for count in (1, 2)
    )
    assert two == one / 2


def test_what_is_not_known_is_not_counted():
    found = answer(DETECTOR, replace(HOST, network=0.0), RATES)
    network = needs(found)["network"]
    assert (network.gives, network.receivers) == (None, None)
    assert not network.impossible
    assert found.receivers == 1


def test_parts_that_become_whole_elsewhere_cross_the_network_a_second_time():
    fast = replace(DETECTOR, rate=20_000.0, sharing=Sharing.PARTIAL_FRAMES)
    host = replace(HOST, cores=64, memory=10**12, disk=100e9, workers=64)
    whole, parts = (answer(one, host, RATES) for one in (replace(fast, sharing=Sharing.FULL_FRAMES), fast))
    assert needs(whole)["network"].need == pytest.approx(20e9)
    assert needs(parts)["network"].need == pytest.approx(20e9 * (1 + (parts.hosts - 1) / parts.hosts))
    assert parts.receivers > whole.receivers


def test_one_rank_that_acquires_all_is_bound_by_its_own_network():
    detector = replace(DETECTOR, rate=20_000.0, sharing=Sharing.DISTRIBUTED_PROCESSING)
    found = answer(detector, HOST, RATES)
    assert (found.receivers, found.hosts) == (None, None)
    assert found.bottleneck == "network of the acquiring host"
    assert answer(replace(detector, rate=1000.0), HOST, RATES).receivers == 1


def test_a_need_that_is_met_exactly_takes_no_more():
    host = replace(HOST, network=1e9 / USABLE, memory=10**12, disk=0.25e9)
    each = needs(answer(DETECTOR, host, RATES))
    assert each["network"].receivers == each["disk"].receivers == 1


def test_what_is_not_saved_needs_no_disk_and_is_not_compressed():
    each = needs(answer(replace(DETECTOR, saved=False), HOST, RATES))
    assert not {"disk", "compression"} & set(each)
