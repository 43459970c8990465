"""Three, four and eight receivers in every topology, by conductor and control: every frame once, exact, in order."""

from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from conducting import Conducted
from support import CONFIG, Json, conduct
from test_topologies import ASSEMBLED, BOXES, HEIGHT, IMAGES, PEAK, SCATTERED, WIDTH, acq, expected

from lima2_tango.cli.config import DatabaseConfig, Member, SystemConfig, Topology, load_config
from lima2_tango.cli.system import System
from lima2_tango.client import RunState, connect

BOUND = 60.0
RECEIVERS = [3, pytest.param(4, marks=pytest.mark.long), pytest.param(8, marks=pytest.mark.long)]
FRAMES = 83
"""No multiple of the receivers, nor of the images."""
HALVES = [
    {"x": left, "y": y, "width": width, "height": rows}
    for top, left, height, width in BOXES
    for y, rows in ((top, height // 2), (top + height // 2, height - height // 2))
]
"""Eight modules, so that each receiver can keep one."""
BY_CONDUCTOR: dict[str, tuple[Topology, Json]] = {
    "full": (Topology.ROUND_ROBIN, {}),
    "full at random": (Topology.DYNAMIC, {"det.dispatch_mode": "full_random"}),
    "scattered": (Topology.ROUND_ROBIN, SCATTERED),
    "scattered by receiver 2": (Topology.ROUND_ROBIN, SCATTERED | {"det.acquisition_rank": 2}),
    "scattered to the least loaded": (Topology.DYNAMIC, SCATTERED | {"det.dispatch_mode": "least_loaded"}),
    "assembled": (Topology.ROUND_ROBIN, ASSEMBLED),
}
KEPT = "kept in parts"
"""Such frames are whole in the master file only."""
BY_CONTROL: dict[str, Json] = {
    "full": {},
    "scattered": SCATTERED,
    "assembled": ASSEMBLED,
    KEPT: {"det.topology": "kept_partial_frames", "det.modules": HALVES},
}


def with_receivers(count: int) -> SystemConfig:
    config = load_config(CONFIG / "simulator.yaml")
    members = [
        Member(device=f"id00/limareceiver/simulator{number}", instance=f"simulator_rcv{number}")
        for number in range(1, count + 1)
    ]
    conductor = config.conductor.model_copy(update={"enabled": False})
    changes = {"receivers": tuple(members), "database": DatabaseConfig(), "conductor": conductor}
    return config.model_copy(update=changes)


@pytest.fixture(scope="module", params=RECEIVERS)
def many(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with System(with_receivers(request.param), tmp_path_factory.mktemp("many")) as running:
        running.wait_ready(120)
        yield running


@pytest.fixture(scope="module")
def conducted(request: pytest.FixtureRequest, many: System) -> Conducted:
    conduct(many, request.param, many.config.devices[1:])
    return Conducted.of(many)


def check(frames: np.ndarray, det: Json) -> None:
    assert frames.shape == (FRAMES, HEIGHT, WIDTH)
    for index, frame in enumerate(frames):
        assert np.array_equal(frame, expected(det, index)), f"frame {index}"


@pytest.mark.parametrize(
    ("conducted", "case"),
    [(topology, case) for case, (topology, _) in BY_CONDUCTOR.items()],
    ids=BY_CONDUCTOR,
    indirect=["conducted"],
    scope="module",
)
def test_a_conductor_finds_every_frame_in_file_and_memory(conducted: Conducted, case: str, tmp_path: Path) -> None:
    det = BY_CONDUCTOR[case][1]
    conducted.run(acq(conducted, det, {"acq.nb_frames": FRAMES}), conducted.proc(tmp_path))
    check(conducted.master(), det)
    assert conducted.services.acquisition.nb_frames_xferred() == FRAMES
    for index in range(FRAMES - 16, FRAMES):
        found = conducted.services.pipeline.get_frame(index, "frame")
        assert found.idx == index
        assert np.array_equal(np.squeeze(found.data), expected(det, index))


@pytest.mark.parametrize("case", BY_CONTROL)
def test_the_control_finds_every_frame_in_file_and_stream(many: System, case: str, tmp_path: Path) -> None:
    det = BY_CONTROL[case]
    generator = {"gauss": {"peaks": [PEAK], "grow_factor": 0.1}}
    dealt = {"det.dispatch_mode": "round_robin", "det.acquisition_rank": -1}
    small = {"det.width": WIDTH, "det.height": HEIGHT, "det.nb_prefetch_frames": IMAGES, "det.generator": generator}
    with connect(many.control, many.tango_host) as lima:
        run = lima.acquire(
            nb_frames=FRAMES, expo_time=0.002, latency_time=0, saving=tmp_path, changes=small | dealt | det
        )
        streamed = [] if case == KEPT else list(run.frames(every=True))
        record = run.wait(BOUND)
    assert (record.state, record.error) == (RunState.DONE, "")
    assert record.nb_frames_acquired == record.nb_frames_saved == FRAMES
    with h5py.File(tmp_path / "lima2_master.h5") as file:
        check(file["entry_0000/measurement/data"][...], det)
    if case != KEPT:
        assert [frame.index for frame in streamed] == list(range(FRAMES))
        check(np.stack([frame.image for frame in streamed]), det)
