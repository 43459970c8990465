"""Files of a series: rows, rotation, names, metadata, and what is there before and after."""

import os
from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np
import pytest

from lima2_tango.core.errors import ParamError, SavingError
from lima2_tango.core.frame import FrameSpec
from lima2_tango.core.storage import Compression, FileExistsPolicy, NbDimensions
from lima2_tango.testing.sinks import SPEC, make_block, pixels, read_images

ONE = FrameSpec(1, 6, 9, np.dtype("u2"))
OVERWRITE = FileExistsPolicy.OVERWRITE


def save(writer, *counts, spec=SPEC, **numbering):
    """Append blocks of these lengths, in order."""
    local = writer.nb_frames_saved
    for count in counts:
        writer.append(writer.encode(make_block(spec, local, count, **numbering)))
        local += count


def hidden(folder):
    return [name for name in os.listdir(folder) if name.startswith(".")]


def file_at(folder, number=0):
    return folder / f"lima2_0_{number:05d}.h5"


@pytest.mark.parametrize(
    ("blocks", "rows"),
    [((1,), [1]), ((5,), [5]), ((4, 4), [5, 3]), ((1, 1, 1, 1, 1), [5]), ((12,), [5, 5, 2]), ((3, 7), [5, 5])],
)
def test_files_hold_exactly_their_rows(open_series, tmp_path, blocks, rows):
    writer = open_series()
    save(writer, *blocks)
    writer.close()
    assert [len(read_images(file_at(tmp_path, n))) for n in range(len(rows))] == rows
    assert len(os.listdir(tmp_path)) == len(rows)
    everything = np.concatenate([read_images(file_at(tmp_path, n)) for n in range(len(rows))])
    assert (everything == [pixels(SPEC, i) for i in range(sum(blocks))]).all()


@pytest.mark.parametrize("compression", Compression)
@pytest.mark.parametrize(
    ("spec", "dimensions", "shape"),
    [
        (ONE, NbDimensions.DIM_3D_OR_4D, (3, 6, 9)),
        (ONE, NbDimensions.DIM_4D, (3, 1, 6, 9)),
        (SPEC, NbDimensions.DIM_3D_OR_4D, (3, 2, 5, 7)),
    ],
)
def test_shape_follows_nb_dimensions(open_series, tmp_path, compression, spec, dimensions, shape):
    writer = open_series(spec=spec, compression=compression, nb_dimensions=dimensions)
    save(writer, 3, spec=spec)
    writer.close()
    images = read_images(file_at(tmp_path))
    assert images.shape == shape
    assert (images.reshape(3, *spec.shape) == [pixels(spec, i) for i in range(3)]).all()


def test_long_files_grow(open_series, tmp_path):
    tiny = FrameSpec(1, 2, 2, np.dtype("u1"))
    writer = open_series(spec=tiny, nb_frames_per_file=2**31 - 1, include_frame_idx=True)
    save(writer, 1000, 1500, spec=tiny, stride=2)
    writer.close()
    with h5py.File(file_at(tmp_path)) as file:
        detector = file["entry_0000/instrument/detector"]
        assert len(detector["data"]) == 2500
        assert (detector["frame_idx"][:] == np.arange(0, 5000, 2)).all()
        assert (detector["data"][2400] == pixels(tiny, 4800)[0]).all()


def test_blocks_compressed_by_several_threads_are_written_in_order(open_series, tmp_path):
    writer = open_series(nb_frames_per_file=100)
    blocks = [make_block(SPEC, local, 5) for local in range(0, 100, 5)]
    with ThreadPoolExecutor(4) as workers:
        for encoded in list(workers.map(writer.encode, blocks)):
            writer.append(encoded)
    writer.close()
    assert (read_images(file_at(tmp_path)) == [pixels(SPEC, i) for i in range(100)]).all()


def test_several_series_are_written_at_once(open_series, tmp_path):
    writers = [open_series(filename_prefix=f"series{number}") for number in range(4)]

    def run(number):
        save(writers[number], *[3] * 20, offset=100 * number)
        writers[number].close()

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(run, range(4)))
    for number in range(4):
        files = [tmp_path / f"series{number}_0_{file:05d}.h5" for file in range(12)]
        images = np.concatenate([read_images(file) for file in files])
        assert (images == [pixels(SPEC, 100 * number + i) for i in range(60)]).all()


def test_a_file_is_invisible_until_complete(open_series, tmp_path):
    writer = open_series()
    save(writer, 4)
    assert not file_at(tmp_path).exists()
    save(writer, 1)
    assert len(read_images(file_at(tmp_path))) == 5
    assert not hidden(tmp_path)


def test_a_series_without_frames_makes_no_file(open_series, tmp_path):
    open_series().close()
    assert os.listdir(tmp_path) == []


def test_metadata_is_read_back(open_series, tmp_path):
    writer = open_series(filename_prefix="lima2")
    block = make_block(SPEC, 0, 3, stride=2, offset=1)
    block.valid = np.array([True, False, True])
    writer.append(writer.encode(block))
    writer.close()
    with h5py.File(file_at(tmp_path)) as file:
        assert file.attrs["NX_class"] == "NXroot"
        assert file.attrs["file_name"] == "lima2_0_00000.h5"
        assert file["entry_0000/measurement/data"] == file["entry_0000/plot/data"]
        detector = file["entry_0000/instrument/detector"]
        assert detector["count_time"][()] == pytest.approx(1.5e-3)
        assert detector["count_time"].attrs["units"] == "s"
        assert detector["serial_number"].asstr()[()] == "SN-7"
        assert detector["receiver/first_frame"][()] == 1
        assert detector["receiver/rank"][()] == 0
        assert detector["valid"][:].tolist() == [1, 0, 1]
        assert detector["start_time"][:] == pytest.approx(block.time)
        assert detector["data"].chunks == (1, 1, 5, 7)


def test_output_memory_is_used_again(open_series):
    writer = open_series(nb_frames_per_file=100)
    seen = set()
    for local in range(0, 40, 4):
        encoded = writer.encode(make_block(SPEC, local, 4))
        seen.add(encoded.buffer.ctypes.data)
        writer.append(encoded)
    writer.close()
    assert len(seen) == 1


def test_uncompressed_frames_are_not_copied(open_series):
    writer = open_series(compression=Compression.NONE)
    block = make_block(SPEC, 0, 2)
    encoded = writer.encode(block)
    assert np.shares_memory(encoded.chunks[1][0], block.data)
    writer.discard(encoded)
    writer.close()


def test_a_missing_or_repeated_block_is_noticed(open_series, tmp_path):
    writer = open_series()
    save(writer, 2)
    with pytest.raises(SavingError, match="local index 3 came where 2 was due"):
        writer.append(writer.encode(make_block(SPEC, 3, 1)))
    writer.close()
    assert len(read_images(file_at(tmp_path))) == 2


@pytest.mark.parametrize("spec", [FrameSpec(2, 5, 8, np.dtype("u2")), FrameSpec(2, 5, 7, np.dtype("u4"))])
def test_frames_that_break_the_promise_are_refused(open_series, spec):
    with pytest.raises(SavingError, match="was promised"):
        open_series().encode(make_block(spec, 0, 1))


def test_scattered_pixels_are_refused(open_series):
    block = make_block(SPEC, 0, 1)
    block.data = np.asfortranarray(block.data)
    with pytest.raises(SavingError, match="a node must copy them"):
        open_series().encode(block)


class TestExistingFiles:
    """Policies `abort` and `overwrite`."""

    @pytest.fixture
    def earlier(self, open_series, tmp_path):
        """An earlier run of three files."""
        writer = open_series()
        save(writer, 11)
        writer.close()
        return tmp_path

    @pytest.mark.parametrize("expected", [None, 3, 11])
    def test_abort_refuses_and_names_the_first(self, open_series, earlier, expected):
        with pytest.raises(ParamError) as refusal:
            open_series(expected=expected)
        assert refusal.value.path == "$.saving.file_exists_policy"
        assert str(file_at(earlier)) in str(refusal.value)
        assert "or saving.file_exists_policy=overwrite" in str(refusal.value)

    def test_abort_accepts_files_out_of_reach(self, open_series, earlier):
        file_at(earlier, 0).unlink()
        writer = open_series(expected=5)
        save(writer, 5)
        writer.close()

    def test_abort_never_replaces_a_file_that_appeared(self, open_series, tmp_path):
        writer = open_series()
        save(writer, 4)
        file_at(tmp_path).write_text("precious")
        with pytest.raises(SavingError) as failure:
            save(writer, 1)
        assert file_at(tmp_path).read_text() == "precious"
        assert len(read_images(failure.value.info["part"])) == 5
        assert failure.value.info["part"] in str(failure.value)
        assert str(file_at(tmp_path)) in str(failure.value)
        writer.close()

    def test_overwrite_hides_the_old_run_so_that_nobody_takes_it_for_the_new(self, open_series, earlier):
        writer = open_series(file_exists_policy=OVERWRITE)
        assert file_at(earlier).exists()
        writer.encode(make_block(SPEC, 0, 1))
        assert not any(file_at(earlier, number).exists() for number in range(3))
        writer.close()
        assert [len(read_images(file_at(earlier, number))) for number in range(3)] == [5, 5, 1]

    def test_overwrite_replaces_what_was_written_again_and_keeps_the_rest(self, open_series, earlier):
        writer = open_series(file_exists_policy=OVERWRITE)
        save(writer, 7, offset=100)
        writer.close()
        assert [len(read_images(file_at(earlier, number))) for number in range(3)] == [5, 2, 1]
        assert (read_images(file_at(earlier))[0] == pixels(SPEC, 100)).all()
        assert not hidden(earlier)

    def test_overwrite_takes_over_what_a_killed_run_had_set_aside(self, open_series, earlier):
        for number in range(3):
            os.rename(file_at(earlier, number), earlier / f".{file_at(earlier, number).name}.old")
        writer = open_series(file_exists_policy=OVERWRITE)
        save(writer, 2)
        writer.close()
        assert [len(read_images(file_at(earlier, number))) for number in range(3)] == [2, 5, 1]
        assert not hidden(earlier)

    def test_a_folder_of_that_name_is_refused(self, open_series, tmp_path):
        file_at(tmp_path).mkdir()
        with pytest.raises(ParamError, match="is a folder"):
            open_series(file_exists_policy=OVERWRITE)
