"""The file under HDF5 keeps what the disk refused, and offers it again."""

import os

import pytest

from lima2_tango.saving.part import Part


@pytest.fixture
def part(tmp_path):
    part = Part(str(tmp_path / "part"))
    yield part
    part.close()


def put(part, position, data):
    part.seek(position)
    assert part.write(memoryview(data)) == len(data)


def get(part, position, size):
    part.seek(position)
    return part.read(size)


@pytest.fixture
def refusing(part):
    """Let the disk of `part` be full; the function it gives makes room again."""
    good = os.dup(part._descriptor)
    full = os.open("/dev/full", os.O_RDWR)
    os.dup2(full, part._descriptor)
    os.close(full)
    yield lambda: os.dup2(good, part._descriptor)
    os.close(good)


def test_reads_what_it_wrote_and_zeros_behind_the_end(part):
    put(part, 3, b"abc")
    assert get(part, 0, 8) == b"\0\0\0abc\0\0"
    assert part.seek(0, os.SEEK_END) == 6


def test_truncation_sets_the_end(part):
    put(part, 0, b"abcdef")
    part.truncate(2)
    assert part.seek(0, os.SEEK_END) == 2
    assert get(part, 0, 4) == b"ab\0\0"


def test_a_refused_write_is_reported_still_readable_and_written_later(part, refusing, tmp_path):
    put(part, 4, b"late")
    assert "No space left" in str(part.error)
    assert get(part, 4, 4) == b"late"
    refusing()
    part.settle()
    assert part.error is None
    assert (tmp_path / "part").read_bytes() == b"\0\0\0\0late"


def test_the_newer_write_wins_over_a_refused_one(part, refusing, tmp_path):
    put(part, 0, b"old")
    refusing()
    put(part, 0, b"new")
    part.settle()
    assert (tmp_path / "part").read_bytes() == b"new"


def test_what_is_forgotten_is_not_written(part, refusing, tmp_path):
    put(part, 0, b"chunk")
    put(part, 8, b"xy")
    part.forget(5)
    assert part.error is None
    refusing()
    part.settle()
    assert (tmp_path / "part").read_bytes() == b"\0" * 8 + b"xy"


def test_what_is_refused_again_is_an_error(part, refusing):
    put(part, 0, b"x")
    with pytest.raises(OSError, match="No space left"):
        part.settle()


def test_a_refused_truncation_cannot_be_settled(part, refusing):
    part.truncate(10)
    refusing()
    with pytest.raises(OSError, match="Invalid argument"):
        part.settle()


def test_closes_twice(part):
    part.close()
    part.close()
