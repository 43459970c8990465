"""Files of sparse frames, as the clients, fabio's densifier and the master files read them."""

import subprocess
from collections import deque

import fabio
import h5py
import hdf5plugin  # noqa: F401  (the filter)
import numpy as np
import pytest
from lima2.client._utils import hdf5_get_frame
from lima2.common.types import FrameType

from lima2_tango.core.errors import ParamError, SavingError
from lima2_tango.core.frame import Block, FrameSpec, Lease
from lima2_tango.core.sparse import HEADER, SparseFrame, SparseSpec
from lima2_tango.core.storage import Compression, FileExistsPolicy, SavingParams
from lima2_tango.processing.nodes.sparse import densify
from lima2_tango.saving.master import write_master
from lima2_tango.saving.sources import find_sources
from lima2_tango.saving.writer import opener
from lima2_tango.testing.sinks import METADATA, SinkContract

HEIGHT, WIDTH, BINS = 30, 20, 6
DETECTOR = "entry_0000/instrument/detector"


def layout(normalization=True):
    rows, columns = np.indices((HEIGHT, WIDTH))
    radius2d = np.hypot(rows - 14.3, columns - 9.4).astype(np.float32)
    radius2d[3, 4] = np.nan
    weight = np.random.default_rng(0).uniform(0.8, 1.2, (HEIGHT, WIDTH)).astype(np.float32) if normalization else None
    return SparseSpec(HEIGHT, WIDTH, np.linspace(1, 15, BINS, dtype=np.float32), radius2d, weight, dummy=-1.0)


LAYOUT = layout()


def parts(number):
    """(pixels, intensity, average, deviation) of a frame; that with number 2 has no pixel."""
    rng = np.random.default_rng(number)
    count = 0 if number == 2 else rng.integers(1, 40)
    pixels = np.sort(rng.choice(HEIGHT * WIDTH, count, replace=False)).astype("<i4")
    background = rng.uniform(1, 9, (2, BINS)).astype("<f4")
    return pixels, rng.uniform(50, 99, count).astype("<f4"), background[0], background[1]


def packed(number, spec=LAYOUT):
    made = np.zeros(spec.packed.width, np.uint8)
    values = parts(number)
    head = HEADER.pack(WIDTH, HEIGHT, BINS, len(values[0]), number)
    payload = head + b"".join(value.tobytes() for value in values)
    made[: len(payload)] = np.frombuffer(payload, np.uint8)
    return made


def block(local, count, stride=1, offset=0, valid=None):
    index = np.arange(local, local + count) * stride + offset
    data = np.stack([packed(int(number)) for number in index])[:, np.newaxis, np.newaxis]
    return Block(data, index, local, index * 1e-3, Lease(), valid)


def params(folder, **changes):
    return SavingParams(base_path=str(folder), **{"nb_frames_per_file": 5, **changes})


def sink_for(folder, rank=0, **changes):
    saving = params(folder, filename_rank=rank, **changes)
    return opener(rank, METADATA, None)(saving, LAYOUT.packed, "$.saving_sparse", sparse=LAYOUT)


def written(folder, *blocks, **changes):
    sink = sink_for(folder, **changes)
    for each in blocks:
        sink.append(sink.encode(each))
    sink.close()
    return sorted(folder.glob("lima2_*.h5"))


@pytest.mark.parametrize("compression", Compression)
def test_the_client_reads_each_frame_from_its_file(tmp_path, compression):
    paths = written(tmp_path, *(block(local, 3) for local in range(0, 12, 3)), compression=compression)
    assert len(paths) == 3
    for number in range(12):
        url = f"file://{paths[number // 5]}:{DETECTOR}"
        frame = hdf5_get_frame(url, number, number % 5, FrameType.SMX_SPARSE, (1, HEIGHT, WIDTH))
        found = frame.index, frame.intensity, frame.background_avg, frame.background_std
        assert all(np.array_equal(one, other) for one, other in zip(found, parts(number), strict=True))
        assert frame.densify_peaks().shape == (1, HEIGHT, WIDTH)


def test_a_row_that_a_file_lacks_is_said_so_to_the_client(tmp_path):
    (path,) = written(tmp_path, block(0, 3))
    with pytest.raises(RuntimeError, match="Can't access element 3"):
        hdf5_get_frame(f"file://{path}:{DETECTOR}", 3, 3, FrameType.SMX_SPARSE, (1, HEIGHT, WIDTH))


def test_fabio_makes_the_frames_dense_again(tmp_path):
    paths = written(tmp_path, *(block(local, 4) for local in range(0, 8, 4)))
    for first, path in zip((0, 5), paths, strict=True):
        with fabio.open(str(path)) as file:
            assert type(file).__name__ == "SparseImage"
            assert file.cutoff == LAYOUT.cutoff
            for row in range(file.nframes):
                found = file.getframe(row).data
                pixels, intensity, average, deviation = parts(first + row)
                frame = SparseFrame(0, (HEIGHT, WIDTH), pixels, intensity, average, deviation)
                low, high = LAYOUT.radius[0], LAYOUT.radius[-1]  # beyond them fabio knows no background
                inside = (LAYOUT.radius2d > low) & (LAYOUT.radius2d < high)
                assert np.allclose(found[inside], densify(frame, LAYOUT)[inside], rtol=1e-5)
                assert found[3, 4] == -1.0


def test_columns_say_which_frames_the_rows_are(tmp_path):
    valid = np.array([True, False, True])
    (path,) = written(tmp_path, block(0, 3, 2, 1, valid), include_frame_idx=True)
    with h5py.File(path) as file:
        detector = file[DETECTOR]
        assert detector["frame_idx"][:].tolist() == [1, 3, 5]
        assert detector["valid"][:].tolist() == [1, 0, 1]
        assert detector["frame_start_number"][()] == 1
        assert detector["data/frame_ptr"][:].tolist() == np.cumsum([0, *(len(parts(i)[0]) for i in (1, 3, 5))]).tolist()
        assert detector["data"].attrs["signal"] == "background_avg"


def test_a_master_file_has_the_frames_of_all_receivers_in_order(tmp_path):
    for rank in (0, 1):
        written(tmp_path, *(block(local, 2, 2, rank) for local in range(0, 8, 2)), rank=rank)
    saving, spec = params(tmp_path), FrameSpec(1, HEIGHT, WIDTH, np.dtype("u2"))
    rows = [np.arange(rank, 16, 2) for rank in (0, 1)]
    assert len(find_sources(saving, "sparse", (), rows)) == 4
    write_master(tmp_path / "lima2_master.h5", saving, "sparse", spec, rows, METADATA)
    with h5py.File(tmp_path / "lima2_master.h5") as file:
        data = file[f"{DETECTOR}/data"]
        pointer = data["frame_ptr"][:]
        for number in range(16):
            own = slice(int(pointer[number]), int(pointer[number + 1]))
            assert np.array_equal(data["index"][own], parts(number)[0])
            assert np.array_equal(data["intensity"][own], parts(number)[1])


def test_a_file_is_hidden_until_it_is_complete(tmp_path):
    sink = sink_for(tmp_path)
    sink.append(sink.encode(block(0, 4)))
    assert list(tmp_path.glob("lima2_*.h5")) == []
    assert sink.nb_frames_saved == 4
    sink.close()
    assert [path.name for path in tmp_path.iterdir()] == ["lima2_0_00000.h5"]


def test_a_file_that_exists_is_refused_or_replaced(tmp_path):
    written(tmp_path, block(0, 2))
    with pytest.raises(ParamError, match=r"\$\.saving_sparse\.file_exists_policy"):
        sink_for(tmp_path)
    (path,) = written(tmp_path, block(0, 3), file_exists_policy=FileExistsPolicy.OVERWRITE)
    with h5py.File(path) as file:
        assert len(file[f"{DETECTOR}/index"]) == 3


def test_what_is_no_packed_frame_of_the_series_is_refused(tmp_path):
    sink = sink_for(tmp_path)
    other = Block(np.zeros((1, 1, 1, 99), np.uint8), np.zeros(1, np.int64), 0, np.zeros(1), Lease())
    with pytest.raises(SavingError, match="was promised"):
        sink.encode(other)
    with pytest.raises(SavingError, match="where 0 was due"):
        sink.append(sink.encode(block(2, 1)))
    sink.close()


class TestSparseSink(SinkContract):
    """Blocks of the contract's frames are taken as sparse ones of the same numbers."""

    @pytest.fixture
    def open_sink(self, tmp_path):
        class Translating:
            def __init__(self):
                self.sink = sink_for(tmp_path, file_exists_policy=FileExistsPolicy.OVERWRITE)

            def encode(self, dense):
                made = block(dense.local, len(dense))
                made.index = dense.index
                return self.sink.encode(made)

            def __getattr__(self, name):
                return getattr(self.sink, name)

        return Translating


@pytest.fixture
def small_disk(tmp_path):
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=7m", "none", str(tmp_path)], capture_output=True)
    if done.returncode:
        pytest.skip("no permission to mount a disk")
    yield tmp_path
    subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)


@pytest.mark.parametrize("compression", [Compression.NONE, Compression.BSHUF_LZ4])
def test_a_full_disk_leaves_the_frames_before_it(small_disk, compression):
    sink = sink_for(small_disk, compression=compression, nb_frames_per_file=100_000)
    encoded = (sink.encode(block(local, 50)) for local in range(0, 40_000, 50))
    with pytest.raises(SavingError, match="the disk is full") as failure:
        deque(map(sink.append, encoded), maxlen=0)
    assert "cannot be written" in str(failure.value)
    saved = sink.nb_frames_saved
    assert saved > 1000
    sink.close()
    (path,) = small_disk.glob("lima2_*.h5")
    with h5py.File(path) as file:
        detector = file[DETECTOR]
        assert len(detector["index"]) == len(detector["background_avg"]) == len(detector["data/frame_ptr"]) - 1 == saved
        for number in (0, saved // 2, saved - 1):
            assert np.array_equal(detector["index"][number], parts(number)[0])
            assert np.array_equal(detector["background_std"][number], parts(number)[3])
        assert detector["data/frame_ptr"][-1] == len(detector["data/index"])
