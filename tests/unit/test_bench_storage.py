"""The rows that save frames from memory: they measure, they verify, and they leave nothing behind."""

import os
from types import SimpleNamespace

import h5py
import hdf5plugin  # noqa: F401 - to change what the writer compressed
import pytest

from lima2_tango.cli.bench import rig
from lima2_tango.cli.bench.storage import Frames, compressed, save, uncompressed, verified
from lima2_tango.core.errors import DataLossError, Lima2Error
from lima2_tango.core.storage import Compression

DETECTOR = "entry_0000/instrument/detector"


@pytest.fixture
def frames():
    """Two files full and a half."""
    return Frames(125, side=32, cycle=7)


@pytest.fixture
def memory_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(rig, "memory_disk", lambda: str(tmp_path))
    return tmp_path


@pytest.fixture
def saved(frames, tmp_path):
    save(frames, tmp_path, Compression.BSHUF_LZ4, 2)
    return sorted(tmp_path.glob("*.h5"))


def test_frames_are_all_different(frames):
    assert len({frames[number].tobytes() for number in range(len(frames))}) == len(frames) == 125
    with pytest.raises(IndexError):
        frames[125]


@pytest.mark.parametrize(("measure", "rows"), [(compressed, ["P3", "P3"]), (uncompressed, ["P4"])])
def test_rows_hold_both_rates_and_no_loss(measure, rows, frames, memory_disk):
    told, cores = [], os.sched_getaffinity(0)
    measured = measure(frames, 2, told.append)
    assert [row.id for row in measured] == rows
    assert len({row.what for row in measured}) == len(rows)
    for row in measured:
        assert row.ratio == pytest.approx(row.ours / row.reference)
        assert (row.lost, row.runs, row.unit) == (0, 2, "MB/s")
    assert told
    assert os.sched_getaffinity(0) == cores
    assert os.listdir(memory_disk) == []


@pytest.mark.parametrize("compression", [Compression.NONE, Compression.BSHUF_LZ4])
def test_what_was_saved_is_read_back(frames, tmp_path, compression):
    outcome = verified(frames, tmp_path, save(frames, tmp_path, compression, 1))
    assert outcome.lost == 0
    assert outcome.seconds > 0
    assert (outcome.file_bytes < frames.nbytes) is (compression is Compression.BSHUF_LZ4)


def test_a_pixel_that_differs_is_no_measurement(frames, tmp_path, saved):
    with h5py.File(saved[1], "r+") as file:
        file[f"{DETECTOR}/data"][3, 4, 5] += 1
    with pytest.raises(DataLossError, match="frame 53"):
        verified(frames, tmp_path, 1.0)


def test_a_frame_that_was_never_made_is_no_measurement(frames, tmp_path, saved):
    with h5py.File(saved[2], "r+") as file:
        file[f"{DETECTOR}/frame_idx"][-1] = 125
    with pytest.raises(DataLossError, match="frame 125"):
        verified(frames, tmp_path, 1.0)


def test_a_missing_file_is_lost_frames(frames, tmp_path, saved):
    saved[2].unlink()
    assert verified(frames, tmp_path, 1.0).lost == 25


def test_frames_out_of_order_count_as_lost(frames, tmp_path, saved):
    with h5py.File(saved[0], "r+") as file:
        for name in ("data", "frame_idx"):
            rows = file[f"{DETECTOR}/{name}"]
            rows[:2] = rows[:2][::-1]
    assert verified(frames, tmp_path, 1.0).lost == 2


def test_a_doubled_frame_counts_as_lost(frames, tmp_path, saved):
    with h5py.File(saved[2], "r+") as file:
        file[f"{DETECTOR}/data"][-1] = frames[0]
        file[f"{DETECTOR}/frame_idx"][-1] = 0
    assert verified(frames, tmp_path, 1.0).lost == 1


def test_a_disk_that_is_too_small_is_said_before_it_is_full(frames, memory_disk, monkeypatch):
    monkeypatch.setattr(rig.shutil, "disk_usage", lambda folder: SimpleNamespace(free=1))
    with pytest.raises(Lima2Error, match="memory"):
        uncompressed(frames, 1, lambda text: None)
