"""The unmodified conductor runs every topology: frames cross processes, each is in the master file once and exact."""

import json
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from conducting import Conducted, error_of
from lima2.common.exceptions import Lima2BackendError
from support import Json, conduct, launched
from test_control_drives import Lima
from watching import wait_for

from lima2_tango.cameras._images import Gauss, Generator, fill
from lima2_tango.cli.config import Topology
from lima2_tango.cli.system import System

WIDTH, HEIGHT, IMAGES = 128, 96, 8
PEAK = {"x0": 60.0, "y0": 40.0, "fwhm": 70.0, "max": 1000.0}
BOXES = [(0, 0, 40, 60), (2, 66, 40, 60), (48, 5, 45, 56), (50, 64, 44, 62)]
"""Four modules with gaps: top, left, height, width in the frame."""
TURNS = [0, 180, 90, 270]
MODULES = [
    {
        "x": left,
        "y": top,
        "width": height if turn % 180 else width,
        "height": width if turn % 180 else height,
        "rotation": turn,
    }
    for (top, left, height, width), turn in zip(BOXES, TURNS, strict=True)
]

SCATTERED: Json = {"det.topology": "distributed_processing"}
ASSEMBLED: Json = {"det.topology": "partial_frames", "det.modules": MODULES}
CASES = {
    "one receiver, scattered": (Topology.SINGLE, SCATTERED),
    "scattered in turn": (Topology.ROUND_ROBIN, SCATTERED),
    "scattered by receiver 1": (Topology.ROUND_ROBIN, SCATTERED | {"det.acquisition_rank": 1}),
    "assembled": (Topology.ROUND_ROBIN, ASSEMBLED),
    "scattered to the least loaded": (Topology.DYNAMIC, SCATTERED | {"det.dispatch_mode": "least_loaded"}),
    "scattered at random": (Topology.DYNAMIC, SCATTERED | {"det.dispatch_mode": "full_random"}),
}


@pytest.fixture(scope="module")
def whole_system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with launched(tmp_path_factory.mktemp("topologies"), "simulator") as running:
        yield running


@pytest.fixture(scope="module", params=CASES.values(), ids=CASES)
def case(whole_system: System, request: pytest.FixtureRequest) -> tuple[Conducted, Json]:
    """A conductor of its own for each case, and what the case asks of the detector."""
    topology, det = request.param
    devices = whole_system.config.devices[1:]
    conduct(whole_system, topology, devices[:1] if topology is Topology.SINGLE else devices)
    return Conducted.of(whole_system), det


@pytest.fixture
def client(case: tuple[Conducted, Json]) -> Iterator[Conducted]:
    yield case[0]
    case[0].recover()


def acq(client: Conducted, det: Json, changes: Json | None = None) -> Json:
    small = {
        "img.roi": {"topleft": {"x": 0, "y": 0}, "dimensions": {"x": 0, "y": 0}},
        "det.width": WIDTH,
        "det.height": HEIGHT,
        "det.nb_prefetch_frames": IMAGES,
        "det.generator.gauss": {"peaks": [PEAK], "grow_factor": 0.1},
    }
    return client.acq(small | det | (changes or {}))


def expected(det: Json, index: int, missing: tuple[int, ...] = ()) -> np.ndarray:
    image = np.empty((1, 1, HEIGHT, WIDTH), np.uint16)
    generator = Generator(gauss=Gauss.parse(json.dumps({"peaks": [PEAK], "grow_factor": 0.1})))
    fill(generator, np.array([index % IMAGES]), image)
    if "det.modules" not in det:
        return image[0, 0]
    frame = np.zeros((HEIGHT, WIDTH), np.uint16)
    for number, (top, left, height, width) in enumerate(BOXES):
        if number not in missing:
            area = (slice(top, top + height), slice(left, left + width))
            frame[area] = image[0, 0][area]
    return frame


def test_every_frame_is_in_the_master_file_once_and_exact(
    client: Conducted, case: tuple[Conducted, Json], tmp_path: Path
) -> None:
    det = case[1]
    client.run(acq(client, det, {"acq.nb_frames": 61}), client.proc(tmp_path))
    frames = client.master()
    assert frames.shape == (61, HEIGHT, WIDTH)
    for index, frame in enumerate(frames):
        assert np.array_equal(frame, expected(det, index)), f"frame {index}"
    assert client.services.acquisition.nb_frames_acquired() == client.services.acquisition.nb_frames_xferred() == 61


@pytest.mark.parametrize("case", [CASES["assembled"]], ids=["assembled"], indirect=True)
def test_a_master_file_shows_frames_that_lack_modules_and_the_data_files_say_which(
    client: Conducted, case: tuple[Conducted, Json], tmp_path: Path
) -> None:
    det = case[1]
    holed = [{**module, "missing_every": {1: 5, 2: 7}.get(number, 0)} for number, module in enumerate(MODULES)]
    client.run(acq(client, det, {"acq.nb_frames": 40, "det.modules": holed}), client.proc(tmp_path))
    lacks = [tuple(m for m, every in ((1, 5), (2, 7)) if (index + 1) % every == 0) for index in range(40)]
    frames = client.master()
    assert frames.shape == (40, HEIGHT, WIDTH)
    for index, frame in enumerate(frames):
        assert np.array_equal(frame, expected(det, index, lacks[index])), f"frame {index}"
    for rank in range(2):
        found: list[int] = []
        for path in sorted(tmp_path.glob(f"lima2_{rank}_*.h5")):
            with h5py.File(path) as file:
                detector = file["entry_0000/instrument/detector"]
                rows = len(detector["data"])
                found += detector["missing_modules"][...].tolist() if "missing_modules" in detector else [0] * rows
        assert found == [sum(1 << module for module in lacks[index]) for index in range(rank, 40, 2)]


def test_a_frame_is_the_same_from_memory(client: Conducted, case: tuple[Conducted, Json], tmp_path: Path) -> None:
    det = case[1]
    client.run(acq(client, det, {"acq.nb_frames": 12}), client.proc(tmp_path))
    for index in range(12):
        for source in ("frame", "input_frame"):
            found = client.services.pipeline.get_frame(index, source)
            assert found.idx == index
            assert np.array_equal(np.squeeze(found.data), expected(det, index))


@pytest.mark.parametrize("nb_frames", [0, 100_000], ids=["endless", "long"])
def test_a_stop_leaves_a_contiguous_series(
    client: Conducted, case: tuple[Conducted, Json], tmp_path: Path, nb_frames: int
) -> None:
    det = case[1]
    client.prepare(acq(client, det, {"acq.nb_frames": nb_frames}), client.proc(tmp_path))
    client.start()
    client.wait_progress(40)
    client.stop()
    client.wait_end()
    client.check_success()
    frames = client.master()
    assert len(frames) == client.progress() == client.services.acquisition.nb_frames_xferred() >= 40
    for index, frame in enumerate(frames):
        assert np.array_equal(frame, expected(det, index)), f"frame {index}"


def test_triggers_release_one_frame_each(client: Conducted, case: tuple[Conducted, Json]) -> None:
    client.prepare(acq(client, case[1], {"acq.trigger_mode": "software", "acq.nb_frames": 5}), client.proc())
    client.start()
    for point in range(5):
        assert client.progress() == point
        client.services.acquisition.trigger()
        wait_for(lambda point=point: client.progress() == point + 1, 3, f"frame {point}")
    client.wait_end(5)


def test_a_failed_camera_says_why_and_the_next_run_works_after_reset(
    client: Conducted, case: tuple[Conducted, Json], tmp_path: Path
) -> None:
    det = case[1]
    client.prepare(acq(client, det, {"acq.nb_frames": 400, "det.failed_frame_idx": 20}), client.proc(tmp_path))
    client.start()
    client.wait_end(15)
    assert client.services.acquisition.failed()
    assert any("20" in message for message in client.check_failure())
    client.reset()
    client.run(acq(client, det, {"acq.nb_frames": 3}), client.proc(tmp_path / "next"))


@pytest.mark.parametrize(
    "det",
    [ASSEMBLED, ASSEMBLED | {"det.topology": "kept_partial_frames"}, SCATTERED | {"det.dispatch_mode": "least_loaded"}],
    ids=["assembled", "kept in parts", "least loaded"],
)
def test_the_control_drives_it_too(whole_system: System, tmp_path: Path, det: Json) -> None:
    lima = Lima(whole_system.tango_host, whole_system.control)
    generator = {"gauss": {"peaks": [PEAK], "grow_factor": 0.1}}
    small = {"det.width": WIDTH, "det.height": HEIGHT, "det.nb_prefetch_frames": IMAGES, "det.generator": generator}
    lima.write(tmp_path, small | det | {"acq.nb_frames": 41})
    record = lima.acquire()
    assert (record["state"], record["error"]) == ("done", "")
    assert record["nb_frames_acquired"] == record["nb_frames_saved"] == 41
    with h5py.File(tmp_path / "lima2_master.h5") as file:
        frames = file["entry_0000/measurement/data"][...]
    assert len(frames) == 41
    for index, frame in enumerate(frames):
        assert np.array_equal(frame, expected(det, index)), f"frame {index}"


def test_what_the_conductor_cannot_show_is_refused(client: Conducted, case: tuple[Conducted, Json]) -> None:
    kept = acq(client, {"det.topology": "kept_partial_frames"})
    error = error_of(client.prepare, kept, client.proc())
    assert isinstance(error, Lima2BackendError)
