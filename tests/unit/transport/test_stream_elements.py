"""Elements as bytes: what was written is read again, and what nobody wrote is refused."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lima2_tango.core.errors import WireError
from lima2_tango.transport.elements import (
    ALIGNMENT,
    END,
    FAILED,
    FIELDS,
    HEADER,
    HEADER_BYTES,
    PIXELS,
    RECORD,
    Header,
    head_dtype,
    pixel_code,
    read_columns,
    read_header,
    read_pixels,
    write_head,
)

WHERE = "stream test"


def as_bytes(data):
    return np.frombuffer(bytes(data), np.uint8)


def header(frames=2, **changed):
    return Header(7, 3, 0, frames * 12, 5, frames, rows=2, columns=3, pixel=b"<u2\0", **changed)


@given(
    frames=st.integers(1, 40),
    channels=st.integers(1, 3),
    rows=st.integers(1, 5),
    code=st.sampled_from(sorted(PIXELS)),
    marked=st.booleans(),
    local=st.integers(-1, 2**62),
)
def test_an_element_is_read_as_it_was_written(frames, channels, rows, code, marked, local):
    random = np.random.default_rng(frames)
    data = random.integers(0, 100, (frames, channels, rows, 4)).astype(code[:3].decode())
    index, time = random.integers(0, 2**62, frames), random.random(frames)
    valid = random.random(frames) > 0.5 if marked else None
    sent = Header(1, 2, 4 * marked, data.nbytes, local, frames, 9, channels, rows, 4, pixel_code(data.dtype))
    head = as_bytes(write_head(sent, index, time, valid))
    assert len(head) % ALIGNMENT == 0
    read = read_header(head, WHERE)
    assert read == sent
    got_index, got_time, got_valid = read_columns(read, head, WHERE)
    np.testing.assert_array_equal(got_index, index)
    np.testing.assert_array_equal(got_time, time)
    assert (got_valid is None) if valid is None else (got_valid == valid).all()
    pixels = read_pixels(read, as_bytes(data.tobytes()), np.dtype("u1"), WHERE)
    np.testing.assert_array_equal(pixels, data)
    assert pixels.dtype == data.dtype
    assert not pixels.flags.writeable


def test_the_table_of_fields_is_the_struct():
    table = np.dtype([(name, f"<{code}") for name, code in FIELDS])
    assert table.itemsize == HEADER_BYTES
    packed = Header(2**64 - 1, 2, END, 4, -5, 6, 7, 8, 9, 10, b"<f8\0").encode()
    values = np.frombuffer(packed, table)[0]
    assert values["identity"] == 2**64 - 1
    assert [int(values[name]) for name in ("sequence", "payload", "local", "frames", "part")] == [2, 4, -5, 6, 7]


@pytest.mark.parametrize("marked", [False, True])
@pytest.mark.parametrize("frames", [0, 1, 7, 4096])
@pytest.mark.parametrize("more", [0, 5, 16384])
def test_the_datatype_of_a_head_has_its_bytes(frames, marked, more):
    expected = Header(1, 1, 4 * marked, frames=frames).head_bytes + more
    assert head_dtype(frames, marked, more).itemsize == expected


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "0 bytes, but its header alone"),
        (b"\0" * (HEADER_BYTES - 1), "63 bytes"),
        (b"\0" * HEADER_BYTES, "not an element"),
        (b"\xff" * 200, "not an element"),
        (header(part=2**16).encode(), "not an element"),
        (Header(7, 3, 8).encode(), "not an element"),
        (Header(7, 3, FAILED, 6, frames=1, pixel=b"|u1\0").encode(), "flags 2"),
        (Header(7, 3, 0, 12, frames=1, pixel=b"|O8\0").encode(), "pixels"),
        (Header(7, 3, 0, 2**64 - 1, frames=1, pixel=b"|u1\0").encode(), "are not 1 frames"),
        (Header(7, 3, 0, 0, frames=0, channels=2**32 - 1, rows=2**32 - 1, columns=2**32 - 1).encode(), "are not 0"),
        (Header(7, 3, 0, 23, frames=2, rows=2, columns=3, pixel=b"<u2\0").encode(), "23 bytes, which are not 2"),
    ],
)
def test_hostile_headers_are_refused(data, says):
    with pytest.raises(WireError, match=says) as caught:
        read_header(as_bytes(data), WHERE)
    assert WHERE in caught.value.what


@given(st.binary(max_size=400))
def test_no_bytes_are_read_beyond_their_end(data):
    memory = as_bytes(data)
    try:
        read = read_header(memory, WHERE)
        read_columns(read, memory, WHERE)
        read_pixels(read, memory[read.head_bytes :], np.dtype("u1"), WHERE)
    except WireError:
        return


@given(st.integers(0, HEADER_BYTES - 1), st.integers(0, 255))
def test_a_header_with_one_byte_changed_stays_within_its_memory(place, value):
    data = bytearray(write_head(header(), np.arange(2), np.zeros(2), None)) + bytes(24)
    data[place] = value
    memory = as_bytes(data)
    try:
        read = read_header(memory, WHERE)
        index, time, _ = read_columns(read, memory, WHERE)
        pixels = read_pixels(read, memory[read.head_bytes :], np.dtype("u1"), WHERE)
    except WireError:
        return
    if not read.ended:
        assert len(index) == len(time) == read.frames
        assert pixels.nbytes == read.payload <= len(data)


def test_an_element_cut_short_is_refused():
    data = as_bytes(write_head(header(), np.arange(2), np.zeros(2), None))
    with pytest.raises(WireError, match="columns need 128 bytes"):
        read_columns(header(), data[:90], WHERE)
    with pytest.raises(WireError, match="10 of 24 bytes came"):
        read_pixels(header(), data[:10], np.dtype("u1"), WHERE)
    with pytest.raises(WireError, match="not a number of records"):
        read_pixels(Header(7, 3, 0, 10, pixel=RECORD), data, np.dtype("u8"), WHERE)


def test_struct_has_no_holes():
    assert struct.calcsize(HEADER.format) == 64
