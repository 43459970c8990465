"""Reduced data through the conductor equal what numpy computes from the saved frames."""

from collections.abc import Iterator

import numpy as np
import pytest
from conducting import Conducted
from support import launched

from lima2_tango.cli.system import System

NB_FRAMES = 50
RECTANGLES = [
    {"topleft": {"x": 0, "y": 0}, "dimensions": {"x": 64, "y": 96}},
    {"topleft": {"x": 17, "y": 40}, "dimensions": {"x": 9, "y": 23}},
    {"topleft": {"x": 63, "y": 95}, "dimensions": {"x": 1, "y": 1}},
]
ARCS = [
    {"center": {"x": 32.0, "y": 48.0}, "r1": 0.0, "r2": 20.0, "a1": 0.0, "a2": 360.0},
    {"center": {"x": 30.5, "y": 40.25}, "r1": 6.5, "r2": 21.25, "a1": -280.5, "a2": -100.4},
    {"center": {"x": 32.0, "y": 48.0}, "r1": 3.0, "r2": 12.0, "a1": 300.0, "a2": 420.0},
]


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with launched(tmp_path_factory.mktemp("reduced"), "simulator", conductor=True) as running:
        yield running


@pytest.fixture(scope="module")
def run(system: System, tmp_path_factory: pytest.TempPathFactory) -> tuple[Conducted, np.ndarray]:
    """A finished run with regions, and its frames (frame, row, column)."""
    client = Conducted.of(system)
    regions = {
        "statistics.enabled": True,
        "statistics.rect_rois": RECTANGLES,
        "statistics.arc_rois": ARCS,
        "profiles.enabled": True,
        "profiles.rois": RECTANGLES[:2],
        "profiles.directions": ["vertical", "horizontal"],
    }
    client.run(client.acq({"acq.nb_frames": NB_FRAMES}), client.proc(tmp_path_factory.mktemp("frames"), regions))
    return client, client.master().astype(np.float64)


def part(frames: np.ndarray, rectangle: dict[str, dict[str, int]]) -> np.ndarray:
    x, y = rectangle["topleft"]["x"], rectangle["topleft"]["y"]
    width, height = rectangle["dimensions"]["x"], rectangle["dimensions"]["y"]
    return frames[:, y : y + height, x : x + width]


def inside(arc: dict[str, object], shape: tuple[int, int]) -> np.ndarray:
    """Pixels whose centre lies in the arc: x = cx + r cos a, y = cy + r sin a (contract section 6.5)."""
    rows, columns = np.indices(shape)
    dx, dy = columns - arc["center"]["x"], rows - arc["center"]["y"]
    radius, angle = np.hypot(dx, dy), np.degrees(np.arctan2(dy, dx))
    turned = (angle - arc["a1"]) % 360
    return (radius >= arc["r1"]) & (radius < arc["r2"]) & (turned < arc["a2"] - arc["a1"])


def assert_statistics(found: np.ndarray, pixels: np.ndarray) -> None:
    """`found` rows against the pixels (frame, pixel) that they summarise."""
    expected = {
        "min": pixels.min(axis=1),
        "max": pixels.max(axis=1),
        "avg": pixels.mean(axis=1),
        "std": pixels.std(axis=1),
        "sum": pixels.sum(axis=1),
    }
    for name, values in expected.items():
        np.testing.assert_allclose(found[name].ravel(), values, rtol=1e-5, atol=1e-4, err_msg=name)


def test_statistics_come_for_each_region_rectangles_first(run: tuple[Conducted, np.ndarray]) -> None:
    client, frames = run
    for number, rectangle in enumerate(RECTANGLES):
        assert_statistics(client.rows("roi_stats", number), part(frames, rectangle).reshape(NB_FRAMES, -1))
    for number, arc in enumerate(ARCS, start=len(RECTANGLES)):
        assert_statistics(client.rows("roi_stats", number), frames[:, inside(arc, frames.shape[1:])])


def test_a_vertical_profile_has_a_value_for_each_row(run: tuple[Conducted, np.ndarray]) -> None:
    client, frames = run
    vertical = client.rows("roi_profile", 0)
    assert vertical.shape == (NB_FRAMES, 96)
    assert_statistics(vertical, part(frames, RECTANGLES[0]).reshape(NB_FRAMES * 96, -1))


def test_a_horizontal_profile_has_a_value_for_each_column(run: tuple[Conducted, np.ndarray]) -> None:
    client, frames = run
    horizontal = client.rows("roi_profile", 1)
    assert horizontal.shape == (NB_FRAMES, 9)
    columns = np.swapaxes(part(frames, RECTANGLES[1]), 1, 2)
    assert_statistics(horizontal, columns.reshape(NB_FRAMES * 9, -1))


def test_the_channels_are_described_as_the_rows_come(run: tuple[Conducted, np.ndarray]) -> None:
    client, _ = run
    channels = client.services.pipeline.reduced_data_channels()
    assert len(channels["roi_stats"]) == len(RECTANGLES) + len(ARCS)
    assert [shape for _, shape in channels["roi_profile"]] == [(96,), (9,)]
    assert set(client.services.pipeline.frame_channels()) == {"frame", "input_frame"}


def test_regions_stream_while_the_run_goes_on(system: System) -> None:
    client = Conducted.of(system)
    regions = {"statistics.enabled": True, "statistics.rect_rois": RECTANGLES[:1]}
    client.prepare(client.acq({"acq.nb_frames": 0, "acq.expo_time": 2_000}), client.proc(changes=regions))
    client.start()
    count = 0
    for chunk in client.services.pipeline.reduced_data("roi_stats", 0):
        count += len(chunk)
        if count >= 30:
            client.stop()
            break
    client.wait_end()
    assert count >= 30
    assert len(client.rows("roi_stats", 0)) == client.progress()
