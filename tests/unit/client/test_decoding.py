"""Payloads of devices come back as they were sent; anything else is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from lima2_tango.core import encoded
from lima2_tango.core.errors import WireError
from lima2_tango.core.frame import PixelType
from lima2_tango.processing.rows import FRAME_IDX, ROI

FRAME = np.arange(24, dtype="<u2").reshape(2, 3, 4)


def sent(answer: tuple[str, bytearray]) -> encoded.Answer:
    return answer[0], bytes(answer[1])


@pytest.mark.parametrize("pixel_type", list(PixelType))
def test_a_frame_of_every_pixel_type_comes_back(pixel_type: PixelType) -> None:
    frame = FRAME.astype(pixel_type.dtype)
    index, data = encoded.frame_of(sent(encoded.image(frame, 2**40)))
    assert index == 2**40
    assert data.dtype == frame.dtype
    assert np.array_equal(data, frame)


@given(arrays.arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 9))))
def test_any_shape_comes_back(frame: np.ndarray) -> None:
    assert np.array_equal(encoded.frame_of(sent(encoded.image(frame, 0)))[1], frame, equal_nan=True)


def test_a_spectrum_has_one_dimension() -> None:
    steps = (0,) * 11
    header = encoded.HEADER.pack(encoded.MAGIC, 1, 64, encoded.SPECTRUM, 8, 0, 1, 5, *steps, 7)
    index, data = encoded.frame_of((encoded.DATA_ARRAY, header + np.arange(5, dtype="<f4").tobytes()))
    assert (index, data.tolist()) == (7, [0, 1, 2, 3, 4])


@pytest.mark.parametrize("dtype", [ROI, FRAME_IDX], ids=["regions", "frame numbers"])
@pytest.mark.parametrize("count", [0, 1, 100])
def test_rows_come_back(dtype: np.dtype, count: int) -> None:
    rows = np.zeros(count, dtype)
    rows["frame_idx"] = np.arange(count)
    assert np.array_equal(encoded.rows_of(sent(encoded.rows(rows.tobytes())), dtype), rows)


def spoilt(**fields: int) -> encoded.Answer:
    """A frame whose header says something else at the given byte offsets."""
    payload = encoded.image(FRAME, 0)[1]
    for name, value in fields.items():
        payload[int(name.removeprefix("byte_"))] = value
    return encoded.DATA_ARRAY, bytes(payload)


HOSTILE = {
    "empty": (encoded.DATA_ARRAY, b""),
    "only half a header": (encoded.DATA_ARRAY, bytes(encoded.image(FRAME, 0)[1][:32])),
    "another format": sent(encoded.rows(b"")),
    "no format": ("", b"\0" * 64),
    "wrong magic": spoilt(byte_0=0),
    "version 0": spoilt(byte_4=0),
    "a longer header": spoilt(byte_6=65),
    "a stack": spoilt(byte_8=4),
    "unknown type": spoilt(byte_12=10),
    "big-endian": spoilt(byte_16=1),
    "two dimensions": spoilt(byte_18=2),
    "a wider frame": spoilt(byte_20=5),
    "one pixel less": (encoded.DATA_ARRAY, bytes(encoded.image(FRAME, 0)[1][:-2])),
}


@pytest.mark.parametrize("answer", HOSTILE.values(), ids=HOSTILE)
def test_anything_else_is_refused(answer: encoded.Answer) -> None:
    with pytest.raises(WireError):
        encoded.frame_of(answer)


def test_half_a_row_is_refused() -> None:
    with pytest.raises(WireError, match="whole number"):
        encoded.rows_of(sent(encoded.rows(b"\0" * (ROI.itemsize + 1))), ROI)


@given(st.binary(max_size=200))
def test_no_bytes_do_worse_than_be_refused(raw: bytes) -> None:
    for decode in (encoded.frame_of, lambda answer: encoded.rows_of(answer, ROI)):
        for kind in (encoded.DATA_ARRAY, encoded.STRUCTURED_ARRAY):
            try:
                decode((kind, raw))
            except WireError:
                continue
