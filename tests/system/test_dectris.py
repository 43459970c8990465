"""A simulated Dectris detector, our whole system, and the unmodified conductor: every frame once, pixel-exact."""

from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from conducting import Conducted
from detecting import config
from lima2.common.exceptions import Lima2BackendError
from support import LEGACY, Json, conduct, put
from watching import wait_for

from lima2_tango.cli.config import Topology
from lima2_tango.cli.system import System
from lima2_tango.simulators.dectris.frames import Powder
from lima2_tango.simulators.dectris.models import find_model
from lima2_tango.simulators.dectris.options import Options
from lima2_tango.simulators.dectris.server import SimulatedDetector

SHAPE = (96, 128)
FRAMES = 60
PLAIN: Json = {}
SCATTERED: Json = {"det.topology": "distributed_processing"}
CASES = {
    "one receiver": (Topology.SINGLE, 1, PLAIN),
    "one receiver, legacy stream": (Topology.SINGLE, 1, {"det.stream": "legacy"}),
    "two pull": (Topology.DYNAMIC, 2, PLAIN),
    "three pull": (Topology.DYNAMIC, 3, PLAIN),
    "scattered": (Topology.ROUND_ROBIN, 2, SCATTERED),
}


@pytest.fixture(scope="module")
def detector() -> Iterator[SimulatedDetector]:
    options = Options(distinct=4, rate=500)
    with SimulatedDetector(find_model("eiger2-500k"), options, source=Powder(shape=SHAPE)) as running:
        yield running


@pytest.fixture(scope="module")
def whole_system(detector: SimulatedDetector, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with System(config(detector), tmp_path_factory.mktemp("dectris")) as running:
        running.wait_ready()
        yield running


@pytest.fixture(scope="module", params=CASES.values(), ids=CASES)
def case(whole_system: System, request: pytest.FixtureRequest) -> tuple[Conducted, int, Json]:
    topology, receivers, det = request.param
    conduct(whole_system, topology, whole_system.config.devices[1 : 1 + receivers])
    return Conducted.of(whole_system), receivers, det


@pytest.fixture
def client(case: tuple[Conducted, int, Json]) -> Iterator[Conducted]:
    yield case[0]
    case[0].recover()


def acq(client: Conducted, detector: SimulatedDetector, det: Json, changes: Json | None = None) -> Json:
    stream2, legacy = detector.stream_ports
    asked = {
        "acq.nb_frames": FRAMES,
        "acq.expo_time": 1000,
        "acq.latency_time": 100,
        "det.thresholds": [{"energy": 6000.0, "enabled": True}],
        "det.stream_port": legacy if det.get("det.stream") == "legacy" else stream2,
    }
    return put(client.services.acquisition.default_params()[1], asked | det | (changes or {}))


def proc(client: Conducted, folder: Path) -> Json:
    changes = {"saving.enabled": True, "saving.base_path": str(folder), "saving.nb_frames_per_file": 7}
    return put(client.services.pipeline.default_params(LEGACY), changes)


def check_exact(shown: np.ndarray, detector: SimulatedDetector, count: int = FRAMES) -> None:
    ring = detector.detector.series.ring
    assert shown.shape == (count, *SHAPE)
    for index, frame in enumerate(shown):
        assert np.array_equal(frame, ring.pixels(index, 0)), f"frame {index}"


def test_each_frame_is_in_the_master_file_once_and_exact(
    case: tuple[Conducted, int, Json], client: Conducted, detector: SimulatedDetector, tmp_path: Path
) -> None:
    client.run(acq(client, detector, case[2]), proc(client, tmp_path))
    check_exact(client.master(), detector)


def test_the_detectors_own_chunks_are_in_files_of_their_own(
    case: tuple[Conducted, int, Json], client: Conducted, detector: SimulatedDetector, tmp_path: Path
) -> None:
    raw: Json = {"saving.enabled": True, "saving.base_path": str(tmp_path), "saving.filename_prefix": "raw"}
    raw |= {"saving.nb_frames_per_file": 9}
    asked = acq(client, detector, case[2], raw)
    if case[2] == SCATTERED:
        with pytest.raises(Lima2BackendError, match="receivers get pixels, not the detector's chunks"):
            client.prepare(asked, proc(client, tmp_path))
        return
    client.run(asked, proc(client, tmp_path))
    check_exact(client.master("raw_frame"), detector)
    check_exact(client.master(), detector)
    with h5py.File(tmp_path / "raw_0_00000.h5") as file:
        data = file["/entry_0000/instrument/detector/data"]
        number = int(file["/entry_0000/instrument/detector/receiver/first_frame"][()])
        chunk = data.id.read_direct_chunk((0, 0, 0))[1]
    ring = detector.detector.series.ring
    assert chunk == bytes(ring.chunks[number % len(ring)][0].data)


def test_a_live_frame_is_exact(
    case: tuple[Conducted, int, Json], client: Conducted, detector: SimulatedDetector, tmp_path: Path
) -> None:
    client.run(acq(client, detector, case[2]), proc(client, tmp_path))
    wait_for(lambda: client.located(FRAMES - 1), 5, "the last frame in the conductor's table")
    frame = client.services.pipeline.get_frame(FRAMES - 1, "frame")
    assert np.array_equal(np.squeeze(frame.data), detector.detector.series.ring.pixels(FRAMES - 1, 0))


def test_a_stop_ends_all_and_the_next_run_works(
    case: tuple[Conducted, int, Json], client: Conducted, detector: SimulatedDetector, tmp_path: Path
) -> None:
    client.prepare(acq(client, detector, case[2], {"acq.nb_frames": 100_000}), proc(client, tmp_path))
    client.start()
    client.wait_progress(10)
    client.stop()
    client.wait_end()
    client.recover()
    folder = tmp_path / "again"
    folder.mkdir()
    client.run(acq(client, detector, case[2]), proc(client, folder))
    check_exact(client.master(), detector)


def test_a_parameter_that_the_detector_refuses_is_named_with_its_own_words(
    case: tuple[Conducted, int, Json], client: Conducted, detector: SimulatedDetector, tmp_path: Path
) -> None:
    too_low = acq(client, detector, case[2], {"det.thresholds": [{"energy": 1.0, "enabled": True}]})
    with pytest.raises(Lima2BackendError, match=r"\$\.det\.thresholds\[0\]\.energy"):
        client.prepare(too_low, proc(client, tmp_path))
    client.recover()
    client.run(acq(client, detector, case[2]), proc(client, tmp_path))


def test_what_bliss_writes_has_a_channel_for_each_threshold(
    case: tuple[Conducted, int, Json], client: Conducted, detector: SimulatedDetector, tmp_path: Path
) -> None:
    bliss = {"energy": 4020.5, "enabled": True}
    asked = acq(client, detector, case[2], {"det.thresholds": [bliss, bliss], "exp.photon_energy": 8041})
    if case[2].get("det.stream") == "legacy":
        with pytest.raises(Lima2BackendError, match="the legacy stream carries one threshold"):
            client.prepare(asked, proc(client, tmp_path))
        return
    client.run(asked, proc(client, tmp_path))
    shown, ring = client.master(), detector.detector.series.ring
    assert shown.shape == (FRAMES, 2, *SHAPE)
    for index, channels in enumerate(shown):
        assert all(np.array_equal(frame, ring.pixels(index, number)) for number, frame in enumerate(channels))


def test_a_conductor_that_deals_in_turn_is_told_to_be_another(
    whole_system: System, detector: SimulatedDetector, tmp_path: Path
) -> None:
    conduct(whole_system, Topology.ROUND_ROBIN, whole_system.config.devices[1:3])
    client = Conducted.of(whole_system)
    client.prepare(acq(client, detector, PLAIN), proc(client, tmp_path))
    client.start()
    client.wait_end()
    assert "a conductor of topology dynamic" in " ".join(client.check_failure())
    client.recover()
