import mmap
import os

import pytest

from lima2_tango.transport.segments import remove_dead_segments


@pytest.fixture
def segment(tmp_path):
    path = tmp_path / "mpich_shm_dead_0"
    path.write_bytes(bytes(4096))
    return path


def test_a_segment_that_nobody_maps_is_removed(tmp_path, segment):
    assert remove_dead_segments(tmp_path, older_than=-1) == ["mpich_shm_dead_0"]
    assert not segment.exists()


def test_a_segment_in_use_stays(tmp_path, segment):
    with segment.open("r+b") as file, mmap.mmap(file.fileno(), 0):
        assert remove_dead_segments(tmp_path, older_than=-1) == []
    assert segment.exists()


def test_a_young_segment_stays(tmp_path, segment):
    assert remove_dead_segments(tmp_path) == []


def test_files_of_others_stay(tmp_path):
    (tmp_path / "precious").write_bytes(b"data")
    assert remove_dead_segments(tmp_path, older_than=-1) == []
    assert os.listdir(tmp_path) == ["precious"]
