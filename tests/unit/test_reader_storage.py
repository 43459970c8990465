"""However an HDF5 file stores its frames, the reader shows them exactly; and what is damaged it names."""

import threading

import h5py
import hdf5plugin
import numpy as np
import pytest

from lima2_tango.cameras import _stored, reader
from lima2_tango.cameras._stored import BitshuffledFrames, ThroughHdf5, stored_frames
from lima2_tango.cameras.reader import PLUGIN
from lima2_tango.core.bitshuffle import split
from lima2_tango.core.errors import DetectorError
from lima2_tango.core.frame import EndOfSeries, PixelType
from lima2_tango.core.pool import MIN_SLABS
from lima2_tango.testing.camera_rig import Rig

DATA = "/entry_0000/measurement/data"
LZ4 = hdf5plugin.Bitshuffle()
COUNT = 3


def noise(shape, dtype="u2"):
    return np.random.default_rng(1).integers(0, 100, shape).astype(dtype)


def write(path, data, chunks=None, **options):
    with h5py.File(path, "w") as file:
        file.create_dataset(DATA, data=data, chunks=chunks, **options)


def change(path, work):
    with h5py.File(path, "r+") as file:
        work(file[DATA].id)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "one.h5"


@pytest.fixture
def bench(path):
    rigs = []

    def make(**det):
        det = {"base_path": str(path.parent), "filename_format": path.name, "nb_prefetch_frames": 1, **det}
        rigs.append(Rig(PLUGIN, det))
        return rigs[-1]

    yield make
    for rig in rigs:
        rig.close()


def read(path, shape, dtype, numbers=range(COUNT)):
    """The frames in the order of `numbers`, and the class that read them."""
    with h5py.File(path) as file:
        stored = stored_frames(file[DATA], path, shape, np.dtype(dtype))
        out = np.empty((len(numbers), *shape), dtype)
        stored.read(numbers[0], numbers[1] - numbers[0] if len(numbers) > 1 else 1, out)
        stored.close()
        return out, type(stored)


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (64, 128), (67, 129), (1031, 1025)])
@pytest.mark.parametrize("pixel_type", PixelType)
def test_bitshuffled_frames_are_exact_whatever_their_pixels_and_size(path, pixel_type, size):
    data = noise((COUNT, *size), pixel_type.dtype)
    write(path, data, (1, *size), **LZ4)
    out, way = read(path, (1, *size), pixel_type.dtype)
    assert way is BitshuffledFrames
    assert out.tobytes() == data.tobytes()


@pytest.mark.parametrize(
    ("shape", "chunks"),
    [((6, 8), (6, 8)), ((3, 6, 8), (1, 6, 8)), ((3, 2, 6, 8), (1, 2, 6, 8)), ((3, 2, 6, 8), (1, 1, 6, 8))],
    ids=["image", "frames", "all channels", "single channels"],
)
def test_chunks_of_frames_and_of_channels_are_read_directly(path, shape, chunks):
    write(path, noise(shape), chunks, **LZ4)
    count, image = (1, (1, *shape)) if len(shape) == 2 else (3, (1, *shape)[-3:] if len(shape) == 4 else (1, 6, 8))
    out, way = read(path, image, "u2", range(count))
    assert way is BitshuffledFrames
    assert np.array_equal(out.ravel(), noise(shape).ravel())


def test_a_stride_skips_frames(path):
    write(path, noise((9, 6, 8)), (1, 6, 8), **LZ4)
    out, _ = read(path, (1, 6, 8), "u2", range(1, 9, 3))
    assert np.array_equal(out[:, 0], noise((9, 6, 8))[1::3])


THROUGH_HDF5 = {
    "contiguous": ("u2", None, {}),
    "uncompressed": ("u2", (1, 6, 8), {}),
    "big-endian": (">u2", (1, 6, 8), LZ4),
    "two frames a chunk": ("u2", (2, 6, 8), LZ4),
    "tiles": ("u2", (1, 3, 8), LZ4),
    "deflate": ("u2", (1, 6, 8), {"compression": "gzip"}),
    "bitshuffle and zstd": ("u2", (1, 6, 8), hdf5plugin.Bitshuffle(cname="zstd")),
    "bitshuffle alone": ("u2", (1, 6, 8), hdf5plugin.Bitshuffle(cname="none")),
    "a second filter": ("u2", (1, 6, 8), {**LZ4, "fletcher32": True}),
}


@pytest.mark.parametrize(("dtype", "chunks", "options"), THROUGH_HDF5.values(), ids=THROUGH_HDF5)
def test_every_other_storage_is_left_to_hdf5(path, dtype, chunks, options):
    write(path, noise((3, 6, 8), dtype), chunks, **options)
    out, way = read(path, (1, 6, 8), "u2")
    assert way is ThroughHdf5
    assert np.array_equal(out[:, 0], noise((3, 6, 8)))


def test_a_file_with_a_user_block_is_left_to_hdf5(path):
    with h5py.File(path, "w", userblock_size=512) as file:
        file.create_dataset(DATA, data=noise((3, 6, 8)), chunks=(1, 6, 8), **LZ4)
    out, way = read(path, (1, 6, 8), "u2")
    assert way is ThroughHdf5
    assert np.array_equal(out[:, 0], noise((3, 6, 8)))


def test_a_chunk_that_was_stored_uncompressed_is_read_as_it_is(path):
    write(path, noise((3, 6, 8)), (1, 6, 8), **LZ4)
    change(path, lambda dataset: dataset.write_direct_chunk((1, 0, 0), noise((3, 6, 8))[2].tobytes(), filter_mask=1))
    out, way = read(path, (1, 6, 8), "u2")
    assert way is BitshuffledFrames
    assert np.array_equal(out[:, 0], noise((3, 6, 8))[[0, 2, 2]])


def chunk(number):
    with h5py.File("memory", "w", driver="core", backing_store=False) as file:
        dataset = file.create_dataset("data", data=noise((3, 6, 8)), chunks=(1, 6, 8), **LZ4)
        return bytearray(dataset.id.read_direct_chunk((number, 0, 0))[1])


def damaged(position, value):
    bad = chunk(1)
    bad[position] = value
    return bytes(bad)


DAMAGE = {
    "of another frame length": (damaged(7, 95), 0, "declares 95 bytes"),
    "with other blocks": (damaged(11, 3), 0, "blocks of"),
    "whose block is too long": (damaged(12, 0x7F), 0, "do not fit in"),
    "with other LZ4 data": (damaged(16, 0), 0, "damaged"),
    "cut short": (bytes(chunk(1)[:20]), 0, "do not fit in"),
    "without a header": (b"\0" * 5, 0, "no header"),
    "uncompressed and too short": (b"\0" * 95, 1, "95 bytes, not 96"),
    "uncompressed and too long": (b"\0" * 97, 1, "97 bytes, not 96"),
}


@pytest.mark.parametrize(("stored", "mask", "reason"), DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_chunk_is_an_error_with_file_frame_and_remedy(bench, path, stored, mask, reason):
    write(path, noise((3, 6, 8)), (1, 6, 8), **LZ4)
    change(path, lambda dataset: dataset.write_direct_chunk((1, 0, 0), stored, filter_mask=mask))
    with pytest.raises(DetectorError, match=reason) as failure:
        bench().run(nb_frames=3)
    assert f"frame 1 of {path}" in failure.value.what
    assert "$.det.frame_slice" in failure.value.what


def test_a_frame_that_was_never_written_is_an_error(bench, path):
    with h5py.File(path, "w") as file:
        file.create_dataset(DATA, (3, 6, 8), "u2", chunks=(1, 6, 8), **LZ4)[:2] = noise((2, 6, 8))
    with pytest.raises(DetectorError, match=r"frame 2 of .* never written.*frame_slice"):
        bench().run(nb_frames=3)
    (delivery,) = bench(frame_slice={"count": 2}).run(nb_frames=2)
    assert delivery.indices == [0, 1]


@pytest.mark.parametrize("grown", [False, True], ids=["before", "while it is read"])
def test_a_file_that_becomes_shorter_is_an_error(path, grown, monkeypatch):
    write(path, noise((3, 6, 8)), (1, 6, 8), **LZ4)
    with h5py.File(path) as file:
        stored = stored_frames(file[DATA], path, (1, 6, 8), np.dtype("u2"))
        if grown:
            monkeypatch.setattr(_stored.os, "preadv", lambda *_: 0)
        else:
            with path.open("r+b") as raw:
                raw.truncate(1000)
        with pytest.raises(DetectorError, match="shorter|beyond the end"):
            stored.read(0, 1, np.empty((3, 1, 6, 8), "u2"))
        stored.close()


def test_no_pool_memory_is_lost_to_a_damaged_frame(bench, path):
    write(path, noise((3, 6, 8)), (1, 6, 8), **LZ4)
    change(path, lambda dataset: dataset.write_direct_chunk((1, 0, 0), b"bad"))
    rig = bench()
    with pytest.raises(DetectorError):
        rig.run(nb_frames=3)
    assert rig.pool.lent == 0


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_large_frames_are_shared_by_threads_which_end_with_the_run(bench, path, monkeypatch, threads):
    monkeypatch.setattr(_stored, "THREADS", threads)
    monkeypatch.setattr(_stored, "PART_BYTES", 20_000)
    data = noise((4, 300, 301))
    write(path, data, (1, 300, 301), **LZ4)
    rig = bench()
    params = rig.params(nb_frames=4)
    rig.prepare(params)
    blocks = rig.receivers[0].blocks(rig.series(params)[0])
    first = next(blocks)
    assert np.array_equal(first.data[:, 0], data[: len(first)])
    assert _helpers() == (threads > 1)
    assert isinstance(list(blocks)[-1], EndOfSeries)
    assert not _helpers()


def _helpers():
    return any(thread.name.startswith("lima2-decompress") for thread in threading.enumerate())


def test_a_damaged_part_of_a_shared_frame_is_an_error(bench, path, monkeypatch):
    monkeypatch.setattr(_stored, "THREADS", 4)
    monkeypatch.setattr(_stored, "PART_BYTES", 20_000)
    write(path, noise((1, 300, 301)), (1, 300, 301), **LZ4)

    def spoil(dataset):
        stored = bytearray(dataset.read_direct_chunk((0, 0, 0))[1])
        last = split(np.frombuffer(stored, np.uint8), 2 * 300 * 301, 2, 4)[-1].start
        stored[last + 4 : last + 7] = b"\x00\xff\xff"  # a match 65535 bytes back
        dataset.write_direct_chunk((0, 0, 0), bytes(stored))

    change(path, spoil)
    with pytest.raises(DetectorError, match="frame 0 of"):
        bench().run(nb_frames=1)


@pytest.mark.parametrize(("blocks", "expected"), [(0, MIN_SLABS), (8, 8), (1000, reader.BLOCKS_IN_FLIGHT)])
def test_prepare_makes_a_bounded_memory(bench, path, monkeypatch, blocks, expected):
    write(path, noise((20, 6, 8)), (1, 6, 8), **LZ4)
    rig = bench()
    params = rig.params(nb_frames=20)
    block = 4096 * 6 * 8 * 2
    monkeypatch.setattr(reader, "RESERVE", blocks * block)
    rig.prepare(params)
    assert rig.pool.allocated == expected * block
