"""The rows P4 (small frames) and P8 measure real systems, and see what is lost; nothing here looks at speed."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from lima2.conductor.processing.reduced_data import ROI_STATS_DTYPE
from watching import wait_for

from lima2_tango.cli.bench import live, small
from lima2_tango.cli.bench.small import Case, Images, lost_rows, misplaced
from lima2_tango.core.errors import DataLossError, Lima2Error

IMAGES = Images(64, 8)
COUNT = 20


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of a moment: they show that the row works, not how fast we are."""
    for module, name, value in [
        (small, "SHORT", 0.05),
        (small, "MEMORY", 4 << 20),
        (live, "SHORT_ROWS", (1000, 200)),
        (live, "STREAMED", Images(64, 16)),
        (live, "SHORT_FRAMES", 20),
        (live, "SHOWN", Images(64, 8)),
        (live, "SHORT_TURNS", 1),
    ]:
        monkeypatch.setattr(module, name, value)


def rows_of(*numbers: int) -> np.ndarray:
    """Rows of these frames, as a receiver that gets all frames makes them."""
    rows = IMAGES.rows()[np.array(numbers) % IMAGES.count]
    rows["frame_idx"] = numbers
    return rows


def encoded(index: int, pixels: np.ndarray) -> tuple[str, bytes]:
    height, width = pixels.shape
    steps = [0] * 6
    header = live.data_array.struct.pack(
        live.data_array.HEADER_FORMAT,
        live.data_array.MAGIC,
        2,
        live.data_array.HEADER_SIZE,
        2,
        1,
        0,
        3,
        width,
        height,
        1,
        0,
        0,
        0,
        *steps,
        index,
    )
    return "DATA_ARRAY", header + pixels.tobytes()


@contextmanager
def told() -> Iterator[list[str]]:
    yield []


def test_small_frames_are_measured_on_one_receiver(quick: None) -> None:
    heard: list[str] = []
    rows = small.measure(True, heard.append)
    assert [(row.id, row.lost, row.runs) for row in rows] == [("P4", 0, 1)] * 2
    assert [row.reference for row in rows] == [20_000, 60_000]
    assert all(row.ratio == row.ours / row.reference > 0 for row in rows)
    assert len(heard) == 2
