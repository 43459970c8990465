"""Stream V2 of a Dectris detector: real messages pixel-exact, every form of ours, and what no detector should send."""

from importlib.resources import files

import cbor2
import dectris.compression
import dectris_encoding as encode
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lima2_tango.cameras.dectris import _chunks, _stream2
from lima2_tango.cameras.dectris._messages import Codec, Image, SeriesEnd, SeriesStart
from lima2_tango.core.errors import WireError


def frame(shape: tuple[int, int] = (50, 61), dtype: str = "<u2", seed: int = 1) -> NDArray[np.generic]:
    return np.random.default_rng(seed).poisson(3, shape).astype(dtype)


def decode_image(message: bytes) -> Image:
    image = _stream2.decode(message)
    assert isinstance(image, Image)
    return image


class TestMessagesOfARealDetector:
    """Recorded from an EIGER2 16M; PyPI's tickit-devices carries them."""

    recorded = files("tickit_devices.eiger") / "data" / "stream2"

    def test_start(self) -> None:
        start = _stream2.decode((self.recorded / "start.cbor").read_bytes())
        assert isinstance(start, SeriesStart)
        assert (start.series, start.unique_id, start.nb_images) == (15614, encode.UNIQUE, 1)
        assert (start.shape, start.channels) == ((4362, 4148), ("threshold_1",))
        assert start.fields["detector_serial_number"] == "E-32-0117"
        assert start.fields["sensor_thickness"] == 0.00045

    def test_image_is_pixel_exact(self) -> None:
        message = (self.recorded / "image.cbor").read_bytes()
        image = decode_image(message)
        tag = cbor2.loads(message)["data"]["threshold_1"].value[1].value
        wanted = np.frombuffer(dectris.compression.decompress(tag.value[2], "bslz4", elem_size=2), "<u2")
        assert (image.series, image.number, image.real_time) == (15614, 0, 215873 / 50_000_000)
        assert np.array_equal(_chunks.pixels(image.chunks[0]).ravel(), wanted)

    def test_end(self) -> None:
        assert _stream2.decode((self.recorded / "end.cbor").read_bytes()) == SeriesEnd(15614, encode.UNIQUE)


class TestImages:
    @pytest.mark.parametrize("compression", ["bslz4", "lz4", "none"])
    @pytest.mark.parametrize("dtype", ["|u1", "<u2", "<u4"])
    @pytest.mark.parametrize("shape", [(50, 61), (1, 1), (1, 7), (128, 64)])
    def test_every_form_is_pixel_exact(self, compression: str, dtype: str, shape: tuple[int, int]) -> None:
        pixels = frame(shape, dtype)
        (chunk,) = decode_image(encode.image2({"threshold_1": pixels}, compression=compression)).chunks
        assert (chunk.channel, chunk.shape, chunk.codec) == ("threshold_1", shape, Codec(compression))
        assert np.array_equal(_chunks.pixels(chunk), pixels)

    def test_thresholds_and_their_difference_come_in_the_order_of_the_message(self) -> None:
        images = {name: frame(seed=n) for n, name in enumerate(("threshold_1", "threshold_2", "difference"))}
        image = decode_image(encode.image2(images, number=12, series=8))
        assert (image.number, image.series, image.start_time) == (12, 8, 0.12)
        assert [chunk.channel for chunk in image.chunks] == list(images)
        for chunk in image.chunks:
            assert np.array_equal(_chunks.pixels(chunk), images[chunk.channel])

    def test_chunks_are_views_of_the_message(self) -> None:
        message = encode.image2({"threshold_1": frame()})
        (chunk,) = decode_image(message).chunks
        assert chunk.data.obj is message

    def test_parts_unpack_in_any_order(self) -> None:
        pixels = frame((300, 311))
        (chunk,) = decode_image(encode.image2({"a": pixels})).chunks
        out = np.zeros_like(pixels)
        tasks = _chunks.tasks(chunk, out, 4)
        assert len(tasks) == 4
        for task in reversed(tasks):
            task()
        assert np.array_equal(out, pixels)

    def test_what_a_user_added_comes_along(self) -> None:
        message = encode.message({**encode.image_fields({"a": frame()}), "user_data": {"sample": [1, None, 2.5]}})
        assert decode_image(message).appendix == {"sample": [1, None, 2.5]}

    def test_fields_that_are_not_known_and_their_tags_are_left_alone(self) -> None:
        fields = {**encode.image_fields({"a": frame()}), "future": cbor2.CBORTag(4711, [1, cbor2.CBORTag(1, 2)])}
        assert decode_image(encode.message(fields)).number == 0


class TestStarts:
    def test_tables_and_masks(self) -> None:
        mask, flat = frame(dtype="<u4"), frame().astype("<f4")
        lookup = cbor2.CBORTag(85, flat.tobytes())
        message = encode.start2(
            pixel_mask={"threshold_1": encode.array(mask)},
            flatfield={"threshold_1": encode.array(flat, "none")},
            countrate_correction_lookup_table=lookup,
        )
        start = _stream2.decode(message)
        assert isinstance(start, SeriesStart)
        fields = dict(start.fields)
        assert np.array_equal(_chunks.pixels(fields["pixel_mask"]["threshold_1"]), mask)
        assert np.array_equal(fields["flatfield"]["threshold_1"], flat)
        assert np.array_equal(fields["countrate_correction_lookup_table"], flat.ravel())
        assert start.dtype == np.uint16


def changed(**fields: object) -> bytes:
    return encode.message(encode.image_fields({"threshold_1": frame()}) | fields)


def grid(shape: list[object], typed: int = 69, content: object = b"") -> dict[str, object]:
    return {"threshold_1": cbor2.CBORTag(40, [shape, cbor2.CBORTag(typed, content)])}


BOMB = cbor2.CBORTag(56500, ["bslz4", 2, b"\0\0\xff\xff\xff\xff\0\0" + b"\0\0 \0" + b"\0" * 50])
HOSTILE = {
    "nothing": (b"", "cut short"),
    "only a tag": (b"\xd9\xd9\xf7", "cut short"),
    "no map": (cbor2.dumps([1, 2]), "a map was due"),
    "a number": (b"\x01", "a map was due"),
    "bytes behind": (encode.end2() + b"\0", "1 bytes follow"),
    "two messages in one": (encode.end2() * 2, "bytes follow"),
    "no type": (encode.message({"series_id": 1}), "of type None"),
    "another type": (encode.message({"type": "imagine"}), "of type 'imagine'"),
    "a type that is no text": (encode.message({"type": [1]}), r"of type \[1\]"),
    "a key twice": (b"\xa2\x61a\x01\x61a\x02", "'a' comes twice"),
    "a key that is a map": (b"\xa1\xa0\x01", "key is"),
    "endless nesting": (b"\x81" * 100_000, "more than 16 levels"),
    "endless tags": (b"\xc1" * 100_000, "more than 16 levels"),
    "many items": (cbor2.dumps([0] * 20_000), "more than 10000 items"),
    "a huge array": (b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff", "items are due"),
    "a huge map": (b"\xbb\x7f\xff\xff\xff\xff\xff\xff\xff", "items are due"),
    "a huge byte string": (b"\x5b\xff\xff\xff\xff\xff\xff\xff\xff\x01", "bytes are due"),
    "a huge text": (b"\x7b\x00\x00\x00\xff\xff\xff\xff\xff\x01", "is the most"),
    "text that is none": (b"\xa1\x62\xff\xfe\x01", "no UTF-8"),
    "a reserved length": (b"\x1c", "reserved"),
    "a stray break": (b"\xff", "break"),
    "an unknown simple value": (b"\xf0", "simple value"),
    "bytes in pieces": (b"\x5f\x41\x01\xff", "without a length"),
    "no series": (changed(series_id=None), "series_id is None"),
    "a negative series": (changed(series_id=-1), "series_id is -1"),
    "a series that is true": (changed(series_id=True), "series_id is True"),
    "an image number that is a text": (changed(image_id="0"), "image_id is '0'"),
    "an image number beyond all": (changed(image_id=2**64), "image_id is"),
    "a time by zero": (changed(start_time=[1, 0]), "start_time is"),
    "a time that is a text": (changed(real_time="now"), "real_time is 'now'"),
    "no data": (changed(data={}), "its data is"),
    "data that is a list": (changed(data=[1]), "its data is"),
    "too many channels": (changed(data={str(n): encode.array(frame()) for n in range(9)}), "1 to 8 channels"),
    "an unknown tag": (changed(data={"threshold_1": cbor2.CBORTag(41, [1])}), "threshold_1: tag 41 came"),
    "column-major": (changed(data={"a": cbor2.CBORTag(1040, encode.array(frame()).value)}), "tag 1040 came"),
    "an unknown typed array": (changed(data=grid([1, 2], 60, b"1234")), "tag 40 came"),
    "half floats": (changed(data=grid([1, 2], 84, b"1234")), "pixels of type <f2"),
    "big-endian pixels": (changed(data=grid([1, 2], 65, b"1234")), "pixels of type >u2"),
    "no bytes in the array": (changed(data=grid([1, 2], 69, [1, 2])), "came where bytes were due"),
    "three dimensions": (changed(data=grid([1, 2, 3], 69, b"1234")), "tag 40 came"),
    "no pixels": (changed(data=grid([0, 5], 69, b"")), "not between 1 x 1"),
    "a negative side": (changed(data=grid([-1, 5], 69, b"")), "pixels is none"),
    "a side that is a text": (changed(data=grid(["1", 5], 69, b"")), "pixels is none"),
    "a huge declared size": (changed(data=grid([2**40, 2**40], 69, b"1234")), "not between 1 x 1"),
    "too few bytes": (changed(data=grid([10, 10], 69, b"1234")), "come with 4 bytes"),
    "too many bytes": (changed(data=grid([1, 1], 69, b"1234")), "come with 4 bytes"),
    "an unknown compression": (
        changed(data=grid([1, 2], 69, cbor2.CBORTag(56500, ["zip", 2, b"1"]))),
        "compression 'zip' is not known",
    ),
    "another item size": (
        changed(data=grid([1, 2], 69, cbor2.CBORTag(56500, ["bslz4", 4, b"1"]))),
        "4-byte items are shuffled",
    ),
    "compression of two parts": (changed(data=grid([1, 2], 69, cbor2.CBORTag(56500, ["lz4", b"1"]))), "tag 56500 came"),
    "a start without channels": (encode.start2(channels=[]), "its channels are"),
    "a start with a channel twice": (encode.start2(channels=["a", "a"]), "its channels are"),
    "a start of no size": (encode.start2(image_size_x=0), "not between 1 x 1"),
    "a start of unknown pixels": (encode.start2(image_dtype="complex64"), "'complex64' are not known"),
}


class TestHostileMessages:
    @pytest.mark.parametrize("name", HOSTILE)
    def test_each_gets_a_sentence(self, name: str) -> None:
        message, sentence = HOSTILE[name]
        with pytest.raises(WireError, match=sentence) as caught:
            _stream2.decode(message)
        assert len(str(caught.value)) < 400

    def test_the_sentence_names_image_and_series(self) -> None:
        with pytest.raises(WireError, match="stream2 image 0 of series 7, threshold_1: "):
            _stream2.decode(changed(data=grid([1, 1], 69, b"1234")))

    def test_each_truncation_gets_a_sentence(self) -> None:
        message = encode.image2({"threshold_1": frame((5, 6))})
        for length in range(len(message)):
            with pytest.raises(WireError):
                _stream2.decode(message[:length])

    def test_a_bomb_is_refused_before_it_takes_memory(self) -> None:
        (chunk,) = decode_image(changed(data=grid([10, 10], 69, BOMB))).chunks
        with pytest.raises(WireError, match="not 200"):
            _chunks.pixels(chunk)
        with pytest.raises(WireError, match="200 bytes of pixels"):
            _chunks.as_hdf5(chunk)

    @settings(max_examples=300, deadline=None)
    @given(st.binary(max_size=200))
    def test_noise(self, noise: bytes) -> None:
        with pytest.raises(WireError):
            _stream2.decode(noise)

    @settings(max_examples=300, deadline=None)
    @given(place=st.integers(0, 10_000), byte=st.integers(0, 255))
    def test_one_wrong_byte_gives_a_message_or_a_sentence(self, place: int, byte: int) -> None:
        message = bytearray(encode.image2({"threshold_1": frame((20, 20))}))
        message[place % len(message)] = byte
        try:
            decoded = _stream2.decode(message)
            if isinstance(decoded, Image):
                for chunk in decoded.chunks:
                    _chunks.pixels(chunk)
        except WireError:
            return  # with a sentence: that is all that is asked

    @settings(max_examples=200, deadline=None)
    @given(data=st.binary(max_size=300), compression=st.sampled_from(["bslz4", "lz4"]))
    def test_chunks_of_noise(self, data: bytes, compression: str) -> None:
        header = (800).to_bytes(8, "big") + (8192).to_bytes(4, "big")
        for noise in (data, header + data):
            content = cbor2.CBORTag(56500, [compression, 2, noise])
            (chunk,) = decode_image(changed(data=grid([20, 20], 69, content))).chunks
            try:
                assert _chunks.pixels(chunk).shape == (20, 20)
            except WireError:
                continue  # with a sentence: that is all that is asked
