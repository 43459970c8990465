"""The detector's chunks in an HDF5 file, as they came: HDF5's own filters read the same pixels."""

from pathlib import Path

import dectris_encoding as encode
import h5py
import hdf5plugin  # noqa: F401 - its import makes HDF5 know the filters
import numpy as np
import pytest

from lima2_tango.cameras.dectris import _chunks, _legacy, _stream2
from lima2_tango.cameras.dectris._messages import Chunk, Image

PIXELS = np.random.default_rng(1).poisson(3, (50, 61)).astype("<u2")
OPTIONS = {"bslz4": {"compression": 32008, "compression_opts": (0, 2)}, "lz4": {"compression": 32004}, "none": {}}


def read_back(folder: Path, chunk: Chunk, compression: str) -> np.ndarray:
    with h5py.File(folder / "chunk.h5", "w") as file:
        data = file.create_dataset("data", PIXELS.shape, PIXELS.dtype, chunks=PIXELS.shape, **OPTIONS[compression])
        data.id.write_direct_chunk((0, 0), _chunks.as_hdf5(chunk))
    with h5py.File(folder / "chunk.h5") as file:
        return file["data"][()]


@pytest.mark.parametrize("compression", ["bslz4", "lz4", "none"])
def test_of_stream2(tmp_path: Path, compression: str) -> None:
    image = _stream2.decode(encode.image2({"a": PIXELS}, compression=compression))
    assert isinstance(image, Image)
    assert np.array_equal(read_back(tmp_path, image.chunks[0], compression), PIXELS)


@pytest.mark.parametrize(
    ("encoding", "compression"), [("bslz4", "bslz4"), ("bare", "bslz4"), ("lz4", "lz4"), ("none", "none")]
)
def test_of_the_legacy_stream(tmp_path: Path, encoding: str, compression: str) -> None:
    image = _legacy.decode(encode.image1(PIXELS, encoding=encoding))
    assert isinstance(image, Image)
    assert np.array_equal(read_back(tmp_path, image.chunks[0], compression), PIXELS)


def test_a_chunk_that_needs_no_header_is_not_copied() -> None:
    message = encode.image2({"a": PIXELS})
    image = _stream2.decode(message)
    assert isinstance(image, Image)
    chunk = _chunks.as_hdf5(image.chunks[0])
    assert isinstance(chunk, memoryview)
    assert chunk.obj is message
