"""The rows P8 and P4 (small frames) measure real systems and see what is lost; nothing here looks at speed."""

from typing import Any

import numpy as np
import pytest

from lima2_tango.cli.bench import live, small
from lima2_tango.cli.bench.small import Images, lost_rows
from lima2_tango.core import encoded
from lima2_tango.core.errors import DataLossError

IMAGES = Images(64, 8)
FRAMES = 20


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of a moment."""
    for module, name, value in [
        (small, "SHORT", 0.05),
        (small, "MEMORY", 4 << 20),
        (live, "STREAMED", IMAGES),
        (live, "SHORT_ROWS", (1000, 200)),
        (live, "SHOWN", IMAGES),
        (live, "SHORT_FRAMES", FRAMES),
        (live, "SHORT_TURNS", 2),
    ]:
        monkeypatch.setattr(module, name, value)


def silent(text: str) -> None:
    """Nobody waits for a test."""


def rows_of(*numbers: int) -> np.ndarray:
    """Rows of frames with these numbers, as they must be."""
    rows = IMAGES.rows()[np.array(numbers) % IMAGES.count]
    rows["frame_idx"] = numbers
    return rows


def test_small_frames_of_both_sizes_are_measured_without_loss() -> None:
    rows = small.measure(True, silent)
    assert [(row.id, row.reference, row.lost, row.runs) for row in rows] == [("P4", 20_000, 0, 1), ("P4", 60_000, 0, 1)]
    assert all(row.ratio == row.ours / row.reference > 0 for row in rows)


def test_rows_frames_and_the_next_run_are_measured_against_bare_servers() -> None:
    rows = live.measure(True, silent)
    assert [(row.id, row.goal, row.lost, row.runs) for row in rows] == [
        ("P8", 0.5, 0, 1),
        ("P8", 1.0, 0, 1),
        ("P8", 1.0, 0, 2),
    ]
    assert all(row.ours > 0 and row.reference > 0 for row in rows)
    streamed, shown, prepared = rows
    assert streamed.ratio == pytest.approx(streamed.ours / streamed.reference)
    assert shown.ratio == pytest.approx((shown.reference + 10 + 5) / shown.ours)
    assert prepared.ratio == pytest.approx((prepared.reference + 20) / prepared.ours)


def test_a_frame_that_the_detector_dropped_is_no_success(monkeypatch: pytest.MonkeyPatch) -> None:
    parameters = Images.parameters

    def with_a_dropped_frame(images: Images) -> dict[str, Any]:
        return parameters(images) | {"dropped_frame_idx": 7}

    monkeypatch.setattr(Images, "parameters", with_a_dropped_frame)
    with pytest.raises(DataLossError, match="row 7"):
        small.measure(True, silent)


def test_complete_rows_in_order_are_no_loss() -> None:
    assert lost_rows(rows_of(*range(FRAMES)), FRAMES, IMAGES.rows()) == 0


@pytest.mark.parametrize(
    "numbers",
    [
        pytest.param([*range(9), *range(10, FRAMES)], id="missing"),
        pytest.param(range(FRAMES - 1), id="cut short"),
        pytest.param([*range(9), 8, *range(9, FRAMES)], id="doubled"),
        pytest.param([1, 0, *range(2, FRAMES)], id="swapped"),
    ],
)
def test_rows_that_are_not_those_of_the_series_are_counted(numbers: list[int]) -> None:
    assert lost_rows(rows_of(*numbers), FRAMES, IMAGES.rows()) > 0


def test_a_row_of_another_image_is_counted_though_its_number_is_right() -> None:
    rows = rows_of(*range(FRAMES))
    rows[["min", "max", "avg", "std", "sum"]][3] = rows[["min", "max", "avg", "std", "sum"]][4]
    assert lost_rows(rows, FRAMES, IMAGES.rows()) == 1


@pytest.mark.parametrize("name", ["min", "max", "avg", "std", "sum"])
def test_a_value_that_no_image_has_is_refused(name: str) -> None:
    rows = rows_of(*range(FRAMES))
    rows[name][5] += 0.5
    with pytest.raises(DataLossError, match="of row 5"):
        lost_rows(rows, FRAMES, IMAGES.rows())


def test_the_frame_that_was_asked_for_is_taken() -> None:
    images = IMAGES.pixels(np.arange(IMAGES.count))
    live.check_frame(encoded.image(images[3][np.newaxis], 11), 11, images)


@pytest.mark.parametrize(("number", "image", "pixel"), [(10, 3, 0), (11, 4, 0), (11, 3, 1)])
def test_another_frame_or_another_pixel_is_refused(number: int, image: int, pixel: int) -> None:
    images = IMAGES.pixels(np.arange(IMAGES.count))
    shown = images[image].copy()
    shown[63, 63] += pixel
    with pytest.raises(DataLossError, match="frame 11"):
        live.check_frame(encoded.image(shown[np.newaxis], number), 11, images)
