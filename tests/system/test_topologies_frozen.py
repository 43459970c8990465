"""A receiver that is frozen for a moment in the middle of a run costs no frame."""

import signal
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest
from support import Json, launched
from test_control_drives import Lima, assert_exact, server_of
from watching import wait_for

from lima2_tango.cli.system import System

FROZEN_S = 4.0
"""Longer than a call to a device waits (3 s), shorter than the ranks wait for each other (10 s)."""
FRAMES = 300
BOUND = 40.0
TOPOLOGIES: dict[str, Json] = {
    "full": {},
    "scattered": {"det.topology": "distributed_processing"},
    "assembled": {"det.topology": "partial_frames"},
}


@pytest.fixture(scope="module")
def whole_system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with launched(tmp_path_factory.mktemp("frozen"), "simulator") as running:
        yield running


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_a_receiver_that_is_frozen_for_a_moment_costs_no_frame(
    whole_system: System, tmp_path: Path, topology: str
) -> None:
    lima = Lima(whole_system.tango_host, whole_system.control)
    lima.write(tmp_path, {"acq.nb_frames": FRAMES, "acq.expo_time": 5000, **TOPOLOGIES[topology]})
    identity = lima.call("Acquire")
    wait_for(lambda: lima.read("nb_frames_saved") > 40, BOUND, "saved frames")
    frozen = server_of(whole_system, "simulator_rcv2")
    frozen.send_signal(signal.SIGSTOP)
    Event().wait(FROZEN_S)  # the moment itself
    frozen.send_signal(signal.SIGCONT)
    record = lima.wait_end(identity, BOUND)
    assert (record["state"], record["error"]) == ("done", "")
    assert record["nb_frames_saved"] == FRAMES
    assert_exact(record, FRAMES, 2)
