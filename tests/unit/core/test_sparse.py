"""Packed sparse frames, as the client decodes them and as we do."""

import numpy as np
import pytest
from lima2.common.devencoded import smx_sparse_frame

from lima2_tango.core import encoded
from lima2_tango.core.errors import WireError
from lima2_tango.core.sparse import HEADER, SparseSpec, nb_picked, payload_size, unpacked

PIXELS = np.array([3, 11, 17], "<i4")
PARTS = (PIXELS, np.array([5, 6.5, 7], "<f4"), np.array([1, 2], "<f4"), np.array([3, 4], "<f4"))


def packed(room=100):
    payload = HEADER.pack(6, 4, 2, 3, 0) + b"".join(part.tobytes() for part in PARTS)
    made = np.full(len(payload) + room, 77, np.uint8)
    made[: len(payload)] = np.frombuffer(payload, np.uint8)
    return made


def test_the_client_decodes_what_is_handed_out():
    found = smx_sparse_frame.decode(encoded.sparse(packed(), 2**31))
    assert (found.idx, found.shape) == (2**31, (1, 4, 6))
    arrays = found.index, found.intensity, found.background_avg, found.background_std
    assert all(np.array_equal(one, other) for one, other in zip(arrays, PARTS, strict=True))


def test_what_is_handed_out_comes_back():
    frame = encoded.sparse_of(encoded.sparse(packed(), 9))
    assert (frame.index, frame.shape) == (9, (4, 6))
    arrays = frame.pixels, frame.intensity, frame.average, frame.deviation
    assert all(np.array_equal(one, other) for one, other in zip(arrays, PARTS, strict=True))


def test_handing_out_leaves_the_frame_alone():
    made = packed()
    encoded.sparse(made, 9)
    assert unpacked(made).index == 0
    assert payload_size(made) == made.size - 100


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (("DATA_ARRAY", b""), "a SMX_SPARSE_FRAME was due, DATA_ARRAY came"),
        (("SMX_SPARSE_FRAME", b"short"), "shorter than its header"),
        (("SMX_SPARSE_FRAME", bytes(packed(0))[:-1]), "takes 56 bytes, not 55"),
        (("SMX_SPARSE_FRAME", bytes(packed(1))), "of 56 bytes comes with 57"),
    ],
)
def test_what_is_no_sparse_frame_is_refused(answer, reason):
    with pytest.raises(WireError, match=reason):
        encoded.sparse_of(answer)


@pytest.mark.parametrize(("shape", "capacity"), [((2527, 2463), 778_000), ((4, 6), 24), ((24, 20), 64)])
def test_a_packed_frame_has_room_for_a_pixel_in_eight(shape, capacity):
    spec = SparseSpec(*shape, np.ones(10, "f4"), np.ones((1, 1), "f4"))
    assert spec.capacity == capacity
    assert spec.packed.nbytes == 16 + 8 * capacity + 80 + 4


def test_the_last_word_is_how_many_were_picked():
    block = np.zeros((2, 1, 1, 24), np.uint8)
    block[1, 0, 0, -4:] = np.array([5], "<i4").view(np.uint8)
    assert nb_picked(block).tolist() == [0, 5]
    assert nb_picked(block[:0]).tolist() == []
