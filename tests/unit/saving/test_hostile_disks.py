"""Folders that cannot be written, disks that fill up, writers that died."""

import os
import subprocess
import sys
import tempfile
from collections import deque
from pathlib import Path

import numpy as np
import pytest

from lima2_tango.core.errors import ParamError, SavingError
from lima2_tango.core.frame import FrameSpec
from lima2_tango.core.storage import Compression, FileExistsPolicy
from lima2_tango.saving.reserve import Reserve, remove_leftovers
from lima2_tango.testing.sinks import SPEC, make_block, pixels, read_images

BIG = FrameSpec(2, 512, 512, np.dtype("u2"))
"""1 MiB a frame, and random pixels do not shrink."""


def refused(open_series, **changes):
    """Path and text of the refusal at Prepare."""
    with pytest.raises(ParamError) as refusal:
        open_series(**changes)
    return refusal.value.path, str(refusal.value)


def test_relative_path_is_refused(open_series):
    path, text = refused(open_series, base_path="data")
    assert path == "$.saving.base_path"
    assert "absolute" in text


def test_missing_folders_are_made(open_series, tmp_path):
    folder = tmp_path / "deep" / "données 数据"
    writer = open_series(base_path=str(folder), filename_prefix="échantillon")
    writer.append(writer.encode(make_block(SPEC, 0, 2)))
    writer.close()
    assert len(read_images(folder / "échantillon_0_00000.h5")) == 2


def test_prepare_leaves_no_probe(open_series, tmp_path):
    open_series()
    assert os.listdir(tmp_path) == []


def test_path_below_a_file_is_refused(open_series, tmp_path):
    (tmp_path / "file").write_text("")
    path, text = refused(open_series, base_path=str(tmp_path / "file" / "below"))
    assert path == "$.saving.base_path"
    assert "not a folder" in text


def test_folder_that_is_a_file_is_refused(open_series, tmp_path):
    (tmp_path / "file").write_text("")
    assert "not a folder" in refused(open_series, base_path=str(tmp_path / "file"))[1]


def test_read_only_file_system_is_refused_to_root_too(open_series, mount):
    folder = mount("ro,size=1m")
    assert "read-only" in refused(open_series, base_path=str(folder))[1]


def test_folder_without_permission_is_refused(open_series, unprivileged):
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o555)
        with unprivileged():
            assert "may not write" in refused(open_series, base_path=folder)[1]


def test_nearly_full_disk_is_refused_with_both_numbers(open_series, mount):
    folder = mount("size=16m")
    (folder / "ballast").write_bytes(bytes(15 << 20))
    text = refused(open_series, spec=BIG, base_path=str(folder))[1]
    assert "2.097 MB" in text
    assert "1.049 MB" in text


@pytest.mark.parametrize(
    ("compression", "exact", "fits"),
    [(Compression.NONE, True, False), (Compression.NONE, False, True), (Compression.BSHUF_LZ4, True, True)],
)
def test_series_of_known_size_must_fit(open_series, mount, compression, exact, fits):
    setup = {"spec": BIG, "base_path": str(mount("size=16m")), "compression": compression, "expected": 20}
    if fits:
        open_series(exact=exact, **setup)
    else:
        assert "20 frames take 22.02 MB" in refused(open_series, exact=exact, **setup)[1]


@pytest.mark.parametrize("compression", [Compression.NONE, Compression.BSHUF_LZ4])
@pytest.mark.parametrize("per_file", [1, 6, 100])
def test_what_was_written_before_the_disk_was_full_is_readable(open_series, mount, compression, per_file):
    folder = mount("size=16m")
    writer = open_series(spec=BIG, base_path=str(folder), compression=compression, nb_frames_per_file=per_file)
    encoded = (writer.encode(make_block(BIG, local, 1)) for local in range(20))
    with pytest.raises(SavingError) as failure:
        deque(map(writer.append, encoded), maxlen=0)
    saved = writer.nb_frames_saved
    assert 10 < saved < 16
    assert "the disk is full; free some space" in str(failure.value)
    assert str(folder) in str(failure.value)
    with pytest.raises(SavingError):
        writer.append(writer.encode(make_block(BIG, saved, 1)))
    writer.close()
    writer.close()
    names = sorted(os.listdir(folder))
    assert names == [f"lima2_0_{number:05d}.h5" for number in range(-(-saved // per_file))]
    images = np.concatenate([read_images(folder / name) for name in names])
    assert len(images) == saved
    assert (images[-1] == pixels(BIG, saved - 1)).all()


def test_the_frame_that_did_not_fit_is_named(open_series, mount):
    writer = open_series(
        spec=BIG, base_path=str(mount("size=16m")), compression=Compression.NONE, nb_frames_per_file=100
    )
    with pytest.raises(SavingError, match=r"lima2_0_00000\.h5: frame \d+ \(row 1\d\) cannot be written"):
        writer.append(writer.encode(make_block(BIG, 0, 20, stride=3)))
    writer.close()


def test_overwriting_on_a_full_disk_keeps_the_old_file(open_series, mount):
    folder = mount("size=16m")
    setup = {"spec": BIG, "base_path": str(folder), "file_exists_policy": FileExistsPolicy.OVERWRITE}
    earlier = open_series(**setup)
    earlier.append(earlier.encode(make_block(BIG, 0, 4)))
    earlier.close()
    writer = open_series(**setup)
    free = os.statvfs(folder).f_bavail * 4096
    (folder / "ballast").write_bytes(bytes(free - (64 << 10)))
    with pytest.raises(SavingError, match="the disk is full"):
        writer.append(writer.encode(make_block(BIG, 0, 3)))
    writer.close()
    assert sorted(os.listdir(folder)) == ["ballast", "lima2_0_00000.h5"]
    assert len(read_images(folder / "lima2_0_00000.h5")) == 4


def test_a_folder_that_vanishes_is_reported(open_series, tmp_path):
    folder = tmp_path / "gone"
    writer = open_series(base_path=str(folder))
    folder.rmdir()
    with pytest.raises(SavingError, match="the folder is gone"):
        writer.append(writer.encode(make_block(SPEC, 0, 1)))
    writer.close()


@pytest.mark.parametrize("device", ["/dev/null", "/dev/full"])
def test_a_dying_disk_does_not_take_the_process_along(open_series, tmp_path, device):
    """Every write fails from some row on; HDF5 itself would crash the process at one of the next files."""
    for attempt in range(10):
        writer = open_series(filename_prefix=f"try{attempt}", file_exists_policy=FileExistsPolicy.OVERWRITE)
        writer.append(writer.encode(make_block(SPEC, 0, 2)))
        dead = os.open(device, os.O_RDONLY if device == "/dev/null" else os.O_RDWR)
        os.dup2(dead, writer._file._part._descriptor)
        os.close(dead)
        if attempt % 2:
            late = writer.encode(make_block(SPEC, 2, 1))
            with pytest.raises(SavingError, match=r"frame 2 \(row 2\) cannot be written"):
                writer.append(late)
        with pytest.raises(SavingError, match="cannot be completed"):
            writer.close()
        writer.close()
        assert not (tmp_path / f"try{attempt}_0_00000.h5").exists()
    writer = open_series(filename_prefix="after")
    writer.append(writer.encode(make_block(SPEC, 0, 2)))
    writer.close()
    assert len(read_images(tmp_path / "after_0_00000.h5")) == 2


class TestKilledWriters:
    """Hidden files beside the final name."""

    KILLED = """
import os, sys
from lima2_tango.saving.reserve import Reserve
reserve = Reserve(sys.argv[1])
open(reserve.part, "w").close()
print(reserve.part, flush=True)
sys.stdin.read()
os.abort()
"""

    @pytest.fixture
    def other_process(self, tmp_path):
        """A process that has a file under way."""
        final = str(tmp_path / "lima2_0_00000.h5")
        command = [sys.executable, "-c", self.KILLED, final]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            process.stdout.readline()
            yield process
            process.kill()

    def test_leftovers_go_when_the_file_is_written_again(self, open_series, tmp_path, other_process):
        other_process.kill()
        other_process.wait(10)
        assert len(os.listdir(tmp_path)) == 2
        writer = open_series()
        writer.append(writer.encode(make_block(SPEC, 0, 1)))
        writer.close()
        assert os.listdir(tmp_path) == ["lima2_0_00000.h5"]

    def test_files_of_a_living_writer_are_left_alone(self, open_series, tmp_path, other_process):
        writer = open_series()
        writer.append(writer.encode(make_block(SPEC, 0, 1)))
        writer.close()
        assert other_process.poll() is None
        assert len(os.listdir(tmp_path)) == 3

    def test_leftovers_of_other_names_are_left_alone(self, tmp_path):
        (tmp_path / ".a.h5.01234567.reserve").touch()
        remove_leftovers(str(tmp_path / "b.h5"))
        assert os.listdir(tmp_path) == [".a.h5.01234567.reserve"]

    def test_two_writers_of_one_name_do_not_meet(self, tmp_path):
        first, second = (Reserve(str(tmp_path / "a.h5")) for _ in range(2))
        assert first.part != second.part
        first.remove()
        second.remove()
        assert os.listdir(tmp_path) == []


def test_the_reserve_takes_room_and_gives_it_up(mount):
    folder = mount("size=1m")
    reserve = Reserve(str(folder / "a.h5"))
    reserve.hold(512 << 10)
    used = os.statvfs(folder).f_bfree
    reserve.give_up()
    assert os.statvfs(folder).f_bfree > used
    with pytest.raises(OSError, match="No space left"):
        reserve.hold(2 << 20)
    reserve.remove()
