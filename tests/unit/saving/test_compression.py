"""Chunks are read back exactly by HDF5's own filters, and output memory is used again."""

import threading

import h5py
import hdf5plugin  # noqa: F401 - readers need the filter
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lima2_tango.core.frame import FrameSpec, PixelType
from lima2_tango.core.storage import Compression
from lima2_tango.saving.compression import Buffers, compressor
from lima2_tango.testing.sinks import pixels


def through_hdf5(image, compression):
    """Compress with ours, read with HDF5."""
    ours = compressor(compression)
    bound = ours.bound(image.nbytes, image.itemsize)
    out = np.full(bound + 8, 0xAA, np.uint8)
    chunk = ours.compress(image, out[:bound])
    assert (out[bound:] == 0xAA).all()
    with h5py.File("memory", "w", driver="core", backing_store=False) as file:
        dataset = file.create_dataset(
            "data", image.shape, image.dtype, chunks=image.shape, **dict(ours.dataset_options)
        )
        dataset.id.write_direct_chunk((0, 0), chunk)
        return dataset[:]


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (3, 5), (64, 64), (67, 129), (512, 1030)])
@pytest.mark.parametrize("pixel_type", PixelType)
@pytest.mark.parametrize("compression", Compression)
def test_round_trip_is_exact(compression, pixel_type, shape):
    image = pixels(FrameSpec(1, *shape, pixel_type.dtype), 1)[0]
    back = through_hdf5(image, compression)
    assert back.dtype == image.dtype
    assert back.tobytes() == image.tobytes()


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.sampled_from(PixelType), st.integers(0, 255))
def test_round_trip_of_compressible_images(height, width, pixel_type, level):
    image = np.full((height, width), level % 127, pixel_type.dtype)
    image[height // 2 :, width // 3] = 1
    for compression in Compression:
        assert through_hdf5(image, compression).tobytes() == image.tobytes()


def test_big_endian_pixels_keep_their_bytes():
    image = np.arange(77, dtype=">u2").reshape(7, 11)
    assert (through_hdf5(image, Compression.BSHUF_LZ4) == image).all()


def test_bitshuffle_shrinks_a_sparse_image():
    image = np.zeros((512, 512), np.uint16)
    ours = compressor(Compression.BSHUF_LZ4)
    chunk = ours.compress(image, np.empty(ours.bound(image.nbytes, 2), np.uint8))
    assert len(chunk) < image.nbytes / 50


def test_uncompressed_chunk_is_the_frame_itself():
    image = np.zeros((4, 4), np.uint16)
    assert compressor(Compression.NONE).compress(image, np.empty(0, np.uint8)) is image


def test_threads_compress_at_once():
    image = pixels(FrameSpec(1, 256, 256, np.dtype("u2")), 3)[0]
    ours = compressor(Compression.BSHUF_LZ4)
    chunks = [b""] * 8

    def work(number):
        out = np.empty(ours.bound(image.nbytes, 2), np.uint8)
        chunks[number] = bytes(ours.compress(image, out))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(set(chunks)) == 1


def test_buffers_are_lent_again():
    buffers = Buffers()
    first, second = buffers.take(100), buffers.take(100)
    assert first is not second
    buffers.give_back(first)
    assert buffers.take(60) is first
    buffers.give_back(second)
    assert buffers.take(200).nbytes >= 200
