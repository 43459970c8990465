"""Blocks that stay packed: their chunks go into files as they are, their pixels are made when somebody asks."""

from collections.abc import Callable
from pathlib import Path
from threading import Thread

import h5py
import hdf5plugin  # noqa: F401 - its import makes HDF5 know the filters
import numpy as np
import pytest
from numpy.typing import NDArray

from lima2_tango.cameras.dectris._blocks import block, in_order
from lima2_tango.cameras.dectris._messages import Chunk, Codec, Image
from lima2_tango.core import bitshuffle
from lima2_tango.core.errors import DetectorError, MemoryBudgetError, WireError
from lima2_tango.core.frame import FrameSpec
from lima2_tango.core.packed import PackedBlock
from lima2_tango.core.pool import Pool
from lima2_tango.core.storage import Compression, SavingParams
from lima2_tango.saving.layout import SeriesMetadata
from lima2_tango.saving.writer import opener

SPEC = FrameSpec(2, 40, 51, np.dtype("<u2"))
NAMES = ("threshold_1", "threshold_2")
METADATA = SeriesMetadata("Dectris", "EIGER2", "1", (75e-6, 75e-6), 1000, 10, "{}", "{}", 0, "test")
FRAMES = np.random.default_rng(1).poisson(3, (3, *SPEC.shape)).astype(SPEC.dtype)


def chunk(name: str, pixels: NDArray[np.generic], codec: Codec = Codec.BSLZ4) -> Chunk:
    out = np.empty(bitshuffle.compress_bound(pixels.nbytes, pixels.itemsize), np.uint8)
    packed = out[: bitshuffle.compress(pixels, out)].tobytes()
    packed = {Codec.BSLZ4: packed, Codec.BSLZ4_BARE: packed[12:], Codec.NONE: pixels.tobytes()}[codec]
    return Chunk(name, memoryview(packed), codec, (SPEC.height, SPEC.width), SPEC.dtype)


def packed(pool: Pool, codec: Codec = Codec.BSLZ4, local: int = 0) -> PackedBlock:
    frames = [tuple(chunk(name, image, codec) for name, image in zip(NAMES, frame, strict=True)) for frame in FRAMES]
    index = np.arange(local, local + len(frames), dtype=np.int64)
    return block(frames, index, local, index * 0.1, SPEC, pool)


@pytest.fixture
def pool() -> Pool:
    return Pool(16 << 20)


@pytest.mark.parametrize("codec", [Codec.BSLZ4, Codec.BSLZ4_BARE, Codec.NONE])
@pytest.mark.parametrize("compression", [Compression.BSHUF_LZ4, Compression.NONE, Compression.ZIP])
def test_files_have_the_pixels_whatever_both_sides_compress(
    pool: Pool, tmp_path: Path, codec: Codec, compression: Compression
) -> None:
    params = SavingParams(base_path=str(tmp_path), compression=compression)
    sink = opener(0, METADATA, 3)(params, SPEC, "$.saving")
    one = packed(pool, codec)
    sink.append(sink.encode(one))
    one.lease.release()
    sink.close()
    with h5py.File(tmp_path / "lima2_0_00000.h5") as file:
        assert np.array_equal(file["/entry_0000/instrument/detector/data"][()], FRAMES)
    assert pool.pinned == pool.lent == 0


def test_a_file_that_is_compressed_alike_has_the_detectors_bytes_and_nobody_unpacks(pool: Pool, tmp_path: Path) -> None:
    sink = opener(0, METADATA, 3)(SavingParams(base_path=str(tmp_path)), SPEC, "$.saving")
    one = packed(pool)
    came = [bytes(part.data) for frame in FRAMES for part in (chunk("", image) for image in frame)]
    before = pool.allocated
    sink.append(sink.encode(one))
    assert pool.allocated == before
    sink.close()
    with h5py.File(tmp_path / "lima2_0_00000.h5") as file:
        data = file["/entry_0000/instrument/detector/data"].id
        written = [data.read_direct_chunk((n, channel, 0, 0))[1] for n in range(3) for channel in range(2)]
    assert written == came
    one.lease.release()


def test_pixels_are_made_once_however_many_ask(pool: Pool) -> None:
    one, seen = packed(pool), []
    threads = [Thread(target=lambda: seen.append(one.data)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len({id(data) for data in seen}) == 1
    assert np.array_equal(seen[0], FRAMES)
    assert (len(one), one.spec) == (3, SPEC)
    one.lease.release()
    assert pool.lent == 0


def test_messages_count_as_memory(pool: Pool) -> None:
    one = packed(pool)
    assert pool.pinned == sum(len(chunk("", image).data) for frame in FRAMES for image in frame)
    one.lease.release()
    assert pool.pinned == 0


def test_a_damaged_chunk_names_its_frame_and_gives_its_memory_back(pool: Pool) -> None:
    good = [tuple(chunk(name, image) for name, image in zip(NAMES, frame, strict=True)) for frame in FRAMES]
    first = good[1][0]
    bad = Chunk(first.channel, first.data[: len(first.data) // 2], first.codec, first.shape, first.dtype)
    good[1] = (bad, good[1][1])
    one = block(good, np.arange(7, 10), 0, np.zeros(3), SPEC, pool)
    with pytest.raises(WireError, match="frame 8 is damaged: threshold_1: "):
        one.data  # noqa: B018 - asking is what makes it
    one.lease.release()
    assert pool.lent == 0


def image(**changes: object) -> Image:
    pixels = np.zeros((40, 51), "<u2")
    chunks = tuple(chunk(name, pixels) for name in NAMES)
    return Image(**{
        "series": 7,
        "unique_id": "",
        "number": 5,
        "chunks": chunks,
        "start_time": 0.0,
        "real_time": 0.0,
        **changes,
    })


def test_channels_come_in_the_order_that_was_set() -> None:
    assert [each.channel for each in in_order(image(chunks=image().chunks[::-1]), NAMES, SPEC)] == list(NAMES)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (
            lambda: image(chunks=image().chunks[:1]),
            "image 5 of series 7 has the channels threshold_1; threshold_1, threshold_2",
        ),
        (lambda: image(chunks=tuple(chunk(name, np.zeros((40, 51), "<u4")) for name in NAMES)), "uint16 were promised"),
    ],
)
def test_what_was_not_promised_is_named(make: Callable[[], Image], sentence: str) -> None:
    other = FrameSpec(2, 40, 50, np.dtype("<u2")) if "uint16" in sentence else SPEC
    with pytest.raises(DetectorError, match=sentence):
        in_order(make(), NAMES, other)


def test_memory_that_never_comes_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lima2_tango.cameras.dectris._blocks.PATIENCE", 0.05)
    with pytest.raises(MemoryBudgetError, match="images as they came"):
        packed(Pool(1000))
