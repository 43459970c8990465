"""Chunks of bitshuffle and LZ4: what HDF5 writes is read exactly, whole or in parts, and damage is never followed."""

import struct

import h5py
import hdf5plugin
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lima2_tango.core import bitshuffle
from lima2_tango.core.frame import PixelType

GUARD = 64


def compressed(pixels):
    out = np.empty(bitshuffle.compress_bound(pixels.nbytes, pixels.itemsize), np.uint8)
    return out[: bitshuffle.compress(pixels, out)].copy()


def chunk_of_hdf5(pixels, **options):
    with h5py.File("memory", "w", driver="core", backing_store=False) as file:
        dataset = file.create_dataset("data", data=pixels, chunks=pixels.shape, **hdf5plugin.Bitshuffle(**options))
        return np.frombuffer(dataset.id.read_direct_chunk((0,) * pixels.ndim)[1], np.uint8)


def decompressed(chunk, size, dtype, at_most=1):
    """Also sees that the memory behind is left alone."""
    guarded = np.full(size * dtype.itemsize + GUARD, 0xA5, np.uint8)
    out = guarded[:-GUARD].view(dtype)
    try:
        for part in bitshuffle.split(chunk, out.nbytes, out.itemsize, at_most):
            bitshuffle.decompress(chunk, part, out)
    finally:
        assert (guarded[-GUARD:] == 0xA5).all()
    return out


def numbers(size, dtype="u2"):
    return (np.arange(size) % 251).astype(dtype)


@pytest.mark.parametrize("content", ["empty", "counts", "noise"])
@pytest.mark.parametrize("size", [8, 1024, 4095, 8192, 50_003])
@pytest.mark.parametrize("pixel_type", PixelType)
def test_chunks_are_byte_for_byte_those_of_hdf5(pixel_type, size, content):
    random = np.random.default_rng(size)
    pixels = {
        "empty": lambda: np.zeros(size, pixel_type.dtype),
        "counts": lambda: random.poisson(3, size).astype(pixel_type.dtype),
        "noise": lambda: np.frombuffer(random.bytes(size * pixel_type.dtype.itemsize), pixel_type.dtype),
    }[content]()
    np.testing.assert_array_equal(compressed(pixels), chunk_of_hdf5(pixels))


@pytest.mark.parametrize("at_most", [1, 2, 3, 4, 100])
@pytest.mark.parametrize("size", [1, 7, 8, 9, 4095, 4096, 4103, 4104, 12288, 50_003])
@pytest.mark.parametrize("pixel_type", PixelType)
def test_parts_make_up_the_frame(pixel_type, size, at_most):
    pixels = numbers(size, pixel_type.dtype)
    chunk = compressed(pixels)
    parts = bitshuffle.split(chunk, pixels.nbytes, pixels.itemsize, at_most)
    assert len(parts) <= at_most
    assert [part.first for part in parts[1:]] == [part.end for part in parts[:-1]]
    assert decompressed(chunk, size, pixels.dtype, at_most).tobytes() == pixels.tobytes()


@pytest.mark.parametrize("nelems", [0, 8, 64, 8192])
def test_blocks_of_any_length_are_those_of_hdf5(nelems):
    pixels = numbers(10_001)
    assert np.array_equal(decompressed(chunk_of_hdf5(pixels, nelems=nelems), 10_001, pixels.dtype, 3), pixels)


def test_a_header_without_block_length_means_bitshuffles_own():
    chunk = compressed(numbers(9000))
    chunk[8:12] = 0
    assert np.array_equal(decompressed(chunk, 9000, np.dtype("u2")), numbers(9000))


def with_header(declared, block):
    chunk = compressed(numbers(9000))
    chunk[:12] = np.frombuffer(struct.pack(">QI", declared, block), np.uint8)
    return chunk


def with_byte(position, value):
    chunk = compressed(numbers(9000))
    chunk[position] = value
    return chunk


DAMAGED = {
    "nothing": (np.empty(0, np.uint8), "no header"),
    "half a header": (compressed(numbers(9000))[:11], "no header"),
    "no blocks": (compressed(numbers(9000))[:12], "do not fit in"),
    "last byte missing": (compressed(numbers(9000))[:-1], "do not fit in"),
    "fewer pixels": (with_header(17_998, 8192), "declares 17998 bytes"),
    "far more pixels": (with_header(2**63, 8192), "declares 9223372036854775808 bytes"),
    "blocks of 1 byte": (with_header(18_000, 1), "blocks of 1 bytes"),
    "blocks of 9 pixels": (with_header(18_000, 18), "blocks of 18 bytes"),
    "other blocks": (with_header(18_000, 4096), "damaged"),
    "one block of 4 GB": (with_header(18_000, 2**32 - 16), "damaged"),
    "block beyond the chunk": (with_byte(12, 0x7F), "do not fit in"),
    "block of 4 GB": (with_byte(12, 0xFF), "do not fit in"),
    "block longer than its data": (with_byte(15, 0xF0), "damaged"),
    "literals beyond the block": (with_byte(16, 0xF0), "damaged"),
}


@pytest.mark.parametrize(("chunk", "reason"), DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_chunk_is_refused_with_the_reason(chunk, reason):
    with pytest.raises(ValueError, match=reason):
        decompressed(chunk, 9000, np.dtype("u2"), 2)


@settings(max_examples=200, deadline=None)
@given(st.data(), st.integers(1, 4))
def test_random_damage_gives_pixels_or_a_refusal(data, at_most):
    chunk = compressed(numbers(5000))
    for position in data.draw(st.lists(st.integers(0, len(chunk) - 1), min_size=1, max_size=8)):
        chunk[position] = data.draw(st.integers(0, 255))
    kept = data.draw(st.integers(0, len(chunk)))
    try:
        pixels = decompressed(chunk[:kept].copy(), 5000, np.dtype("u2"), at_most)
    except ValueError:
        return
    assert len(pixels) == 5000
