"""Payloads that we send, taken apart by the client's own decoders (contract section 7)."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from lima2.common.devencoded import data_array, structured_array

from lima2_tango.core import encoded
from lima2_tango.core.frame import PixelType
from lima2_tango.processing.rows import FRAME_IDX, ROI

HEADER_SIZE = 64


def a_frame(shape: tuple[int, int, int], dtype: np.dtype) -> np.ndarray:
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


@pytest.mark.parametrize("pixel_type", list(PixelType))
def test_a_frame_of_every_pixel_type_comes_back_bit_for_bit(pixel_type: PixelType) -> None:
    frame = a_frame((2, 3, 5), pixel_type.dtype)
    decoded = data_array.decode(encoded.image(frame, 7))
    assert decoded.idx == 7
    assert decoded.data.dtype == frame.dtype
    assert np.array_equal(decoded.data, frame)


@given(
    frame=arrays.arrays(np.uint16, st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 9))),
    index=st.integers(0, 2**62),
)
def test_any_shape_and_number_comes_back(frame: np.ndarray, index: int) -> None:
    decoded = data_array.decode(encoded.image(frame, index))
    assert decoded.idx == index
    assert np.array_equal(decoded.data, frame)


@pytest.mark.parametrize("dtype", ["f4", "f8", "u2"])
def test_a_vector_comes_back_bit_for_bit(dtype: str) -> None:
    values = np.arange(1000).astype(dtype)[::-1]
    decoded = data_array.decode(encoded.vector(values, 2**40))
    assert isinstance(decoded, data_array.Vector)
    assert decoded.idx == 2**40
    assert decoded.data.dtype == values.dtype
    assert np.array_equal(decoded.data, values)


VIEWS = {
    "rows upside down": lambda image: image[:, ::-1],
    "columns mirrored": lambda image: image[:, :, ::-1],
    "a region": lambda image: image[:, 2:7, 3:5],
    "transposed": lambda image: image.transpose(0, 2, 1),
    "every second row": lambda image: image[:, ::2],
    "channels last in memory": lambda image: np.moveaxis(np.ascontiguousarray(np.moveaxis(image, 0, 2)), 2, 0),
    "repeated without memory": lambda image: np.broadcast_to(image[:, :1], image.shape),
}


@pytest.mark.parametrize("view", VIEWS)
def test_the_payload_is_in_order_of_channel_row_column_whatever_the_memory(view: str) -> None:
    frame = VIEWS[view](a_frame((2, 8, 10), np.dtype("<u2")))
    kind, payload = encoded.image(frame, 0)
    assert kind == "DATA_ARRAY"
    assert payload[HEADER_SIZE:] == np.ascontiguousarray(frame).tobytes()
    assert np.array_equal(data_array.decode(bytes(payload)).data, frame)


def test_a_frame_that_is_reused_after_encoding_does_not_change_the_payload() -> None:
    frame = a_frame((1, 4, 4), np.dtype("u1"))
    _, payload = encoded.image(frame, 0)
    before = bytes(payload)
    frame[...] = 0
    assert bytes(payload) == before


def test_the_header_is_the_contracts() -> None:
    _, payload = encoded.image(a_frame((3, 4, 6), np.dtype("f4")), 2**40 + 1)
    magic, version, size, category, code, endianness, nb_dim, width, height, channels = struct.unpack_from(
        "<IHHIIHHHHH", payload
    )
    assert payload[:4] == b"YATD"
    assert magic == 0x44544159
    assert version >= 1
    assert (size, category, code, endianness, nb_dim) == (HEADER_SIZE, 2, 8, 0, 3)
    assert (width, height, channels) == (6, 4, 3)
    assert struct.unpack_from("<Q", payload, 56) == (2**40 + 1,)


@pytest.mark.parametrize("dtype", [ROI, FRAME_IDX], ids=["regions", "frame numbers"])
@pytest.mark.parametrize("count", [0, 1, 1000])
def test_rows_come_back_as_they_were_appended(dtype: np.dtype, count: int) -> None:
    sent = np.zeros(count, dtype)
    sent["frame_idx"] = np.arange(count)
    sent["recv_idx"] = 1
    kind, payload = encoded.rows(sent.tobytes())
    assert kind == "STRUCTURED_ARRAY"
    assert len(payload) == HEADER_SIZE + count * dtype.itemsize
    assert np.array_equal(structured_array.decode((kind, bytes(payload)), dtype), sent)


def test_row_layouts_are_packed_as_the_contract_says() -> None:
    assert ROI.itemsize == 32
    assert ROI.names == ("frame_idx", "recv_idx", "min", "max", "avg", "std", "sum")
    assert FRAME_IDX.itemsize == 8
    assert FRAME_IDX.names == ("recv_idx", "frame_idx")
