"""The legacy stream of a Dectris detector: every form pixel-exact, and what no detector should send."""

import json
from importlib.resources import files
from typing import Any

import dectris.compression
import dectris_encoding as encode
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lima2_tango.cameras.dectris import _chunks, _legacy
from lima2_tango.cameras.dectris._messages import Codec, Image, SeriesEnd, SeriesStart
from lima2_tango.core.errors import WireError


def frame(shape: tuple[int, int] = (50, 61), dtype: str = "<u2", seed: int = 1) -> NDArray[np.generic]:
    return np.random.default_rng(seed).poisson(3, shape).astype(dtype)


def decode_image(parts: list[bytes]) -> Image:
    image = _legacy.decode(parts)
    assert isinstance(image, Image)
    return image


def decode_start(parts: list[bytes]) -> SeriesStart:
    start = _legacy.decode(parts)
    assert isinstance(start, SeriesStart)
    return start


class TestImages:
    @pytest.mark.parametrize("encoding", ["bslz4", "bare", "lz4", "none"])
    @pytest.mark.parametrize("dtype", ["|u1", "<u2", "<u4"])
    @pytest.mark.parametrize("shape", [(50, 61), (1, 1), (1, 7), (128, 64)])
    def test_every_form_is_pixel_exact(self, encoding: str, dtype: str, shape: tuple[int, int]) -> None:
        pixels = frame(shape, dtype)
        image = decode_image(encode.image1(pixels, number=3, encoding=encoding))
        (chunk,) = image.chunks
        assert (image.number, image.series, chunk.shape) == (3, 7, shape)
        assert (image.start_time, image.real_time) == pytest.approx((0.03, 0.00431746))
        assert np.array_equal(_chunks.pixels(chunk), pixels)

    def test_the_header_of_a_chunk_is_seen_or_missed(self) -> None:
        codecs = [decode_image(encode.image1(frame(), encoding=name)).chunks[0].codec for name in ("bslz4", "bare")]
        assert codecs == [Codec.BSLZ4, Codec.BSLZ4_BARE]

    def test_a_real_detectors_frame_is_pixel_exact(self) -> None:
        blob = (files("tickit_devices.eiger") / "data" / "frame_sample").read_bytes()
        about = {"htype": "dimage_d-1.0", "shape": [4148, 4362], "type": "uint16", "encoding": "bs16-lz4<"}
        parts = encode.image1(frame((1, 1)))
        image = decode_image([parts[0], encode.as_json({**about, "size": len(blob)}), blob, parts[3]])
        wanted = np.frombuffer(dectris.compression.decompress(blob, "bslz4", elem_size=2), "<u2")
        assert np.array_equal(_chunks.pixels(image.chunks[0]).ravel(), wanted)

    def test_the_chunk_is_a_view_of_its_part(self) -> None:
        parts = encode.image1(frame())
        assert decode_image(parts).chunks[0].data.obj is parts[2]

    @pytest.mark.parametrize(
        ("appendix", "seen"), [(b'{"a": 1}', {"a": 1}), (b"text", "text"), (b"\xff\xfe", b"\xff\xfe")]
    )
    def test_an_appendix_is_read_or_kept(self, appendix: bytes, seen: object) -> None:
        assert decode_image(encode.image1(frame(), appendix=appendix)).appendix == seen


class TestStarts:
    @pytest.mark.parametrize("appendix", [b"", b"hello"])
    @pytest.mark.parametrize("detail", ["none", "basic", "all"])
    def test_every_detail_with_and_without_appendix(self, detail: str, appendix: bytes) -> None:
        start = decode_start(encode.header(detail=detail, appendix=appendix))
        assert (start.series, start.nb_images) == (7, 0 if detail == "none" else 6)
        assert ("header_appendix" in start.fields) == bool(appendix)
        assert ("flatfield" in start.fields) == (detail == "all")

    def test_tables_have_rows_and_columns(self) -> None:
        fields: dict[str, Any] = dict(decode_start(encode.header(detail="all")).fields)
        assert fields["flatfield"].shape == fields["pixelmask"].shape == (5, 6)
        assert fields["countrate_table"].shape == (1000, 2)

    def test_the_configuration_tells_of_the_images(self) -> None:
        config = {"x_pixels_in_detector": 6, "y_pixels_in_detector": 5, "bit_depth_image": 32, "nimages": 4}
        start = decode_start(encode.header(config=config))
        assert (start.shape, start.dtype, start.nb_images) == ((5, 6), np.uint32, 4)


def test_the_end() -> None:
    assert _legacy.decode(encode.end1(8)) == SeriesEnd(8, "")


def changed(part: int, **fields: object) -> list[bytes]:
    parts = encode.image1(frame())
    parts[part] = encode.as_json(json.loads(parts[part]) | fields)
    return parts


def head(**fields: object) -> list[bytes]:
    return [encode.as_json({"htype": "dheader-1.0", "series": 7, "header_detail": "none"} | fields)]


IMAGE = encode.image1(frame())
HOSTILE = {
    "nothing": ([], "0 parts"),
    "many parts": ([b"{}"] * 17, "17 parts"),
    "no JSON": ([b"\x00"], "no JSON"),
    "no text": ([b"\xff"], "no JSON"),
    "a list": ([b"[]"], "object was due"),
    "huge JSON": ([b" " * (2 << 20)], "of at most"),
    "deep JSON": ([b"[" * 100_000], "no JSON"),
    "no type": ([b"{}"], "of type None"),
    "another type": ([b'{"htype": "dimago-1.0"}'], "of type 'dimago-1.0'"),
    "a type that is a number": ([b'{"htype": 1}'], "of type 1"),
    "no series": (head(series=None), "series is None"),
    "a series that is a text": (head(series="7"), "series is '7'"),
    "an unknown detail": (head(header_detail="some"), "header_detail is 'some'"),
    "a detail that is a list": (head(header_detail=[]), r"header_detail is \[\]"),
    "a header cut short": (encode.header(detail="all")[:-3], "5 parts came, 8 or"),
    "a header without configuration": (encode.header()[:1], "1 parts came, 2 or"),
    "a header of too many parts": ([*encode.header(), b"1", b"2"], "4 parts came"),
    "a table of other size": (encode.header(detail="all")[:3] + [b"1"] + encode.header(detail="all")[4:], "1 bytes"),
    "tables in another order": (encode.header(detail="all")[:2] + encode.header(detail="all")[:1:-1], "no JSON|known"),
    "an image cut short": (IMAGE[:3], "3 parts came, 4 or"),
    "an image of one part": (IMAGE[:1], "1 parts came, 4 or"),
    "an image of many parts": (IMAGE + IMAGE, "8 parts came, 4 or"),
    "parts in another order": ([IMAGE[0], IMAGE[3], IMAGE[2], IMAGE[1]], "'dconfig-1.0' came where dimage_d-"),
    "a number that is negative": (changed(0, frame=-1), "frame is -1"),
    "a number that is true": (changed(0, frame=True), "frame is True"),
    "a shape of one side": (changed(1, shape=[61]), "its shape is"),
    "a shape of three sides": (changed(1, shape=[61, 50, 2]), "its shape is"),
    "a shape of texts": (changed(1, shape=["a", "b"]), "pixels is none"),
    "no pixels": (changed(1, shape=[0, 50]), "not between 1 x 1"),
    "a huge declared shape": (changed(1, shape=[10**6, 10**6]), "not between 1 x 1"),
    "a fraction": (changed(1, shape=[61.5, 50]), "pixels is none"),
    "unknown pixels": (changed(1, type="float16"), "'float16' are not known"),
    "another size": (changed(1, size=5), "5 bytes are announced"),
    "a huge size": (changed(1, size=2**40), "bytes are announced"),
    "an unknown encoding": (changed(1, encoding="zip<"), "encoding 'zip<' is not known"),
    "no encoding": (changed(1, encoding=None), "encoding None is not known"),
    "bits without compression": (changed(1, encoding="bs16<"), "is not known"),
    "other bits": (changed(1, encoding="bs32-lz4<"), "32-bit items are shuffled"),
    "big-endian": (changed(1, encoding="bs16-lz4>"), "big-endian"),
    "too few pixels": (changed(1, encoding="<"), "come with"),
    "times that are texts": (changed(3, start_time="now"), "start_time is 'now'"),
    "an end with more": ([*encode.end1(), b"x"], "2 parts came, 1 was due"),
}


class TestHostileMessages:
    @pytest.mark.parametrize("name", HOSTILE)
    def test_each_gets_a_sentence(self, name: str) -> None:
        parts, sentence = HOSTILE[name]
        with pytest.raises(WireError, match=sentence) as caught:
            _legacy.decode(parts)
        assert len(str(caught.value)) < 400

    def test_the_sentence_names_image_and_series(self) -> None:
        with pytest.raises(WireError, match="legacy image 0 of series 7: "):
            _legacy.decode(IMAGE[:3])

    @pytest.mark.parametrize("encoding", ["bslz4", "bare", "lz4"])
    def test_damaged_pixels_get_a_sentence(self, encoding: str) -> None:
        parts = encode.image1(frame(), encoding=encoding)
        parts[2] = parts[2][: len(parts[2]) // 2]
        parts[1] = encode.as_json(json.loads(parts[1]) | {"size": len(parts[2])})
        with pytest.raises(WireError, match="threshold_1: "):
            _chunks.pixels(decode_image(parts).chunks[0])

    @settings(max_examples=200, deadline=None)
    @given(st.lists(st.binary(max_size=60), max_size=6))
    def test_noise(self, parts: list[bytes]) -> None:
        with pytest.raises(WireError):
            _legacy.decode(parts)

    @settings(max_examples=300, deadline=None)
    @given(part=st.integers(0, 3), place=st.integers(0, 10_000), byte=st.integers(0, 255))
    def test_one_wrong_byte_gives_a_message_or_a_sentence(self, part: int, place: int, byte: int) -> None:
        parts = [bytearray(one) for one in encode.image1(frame((20, 20)))]
        parts[part][place % len(parts[part])] = byte
        try:
            decoded = _legacy.decode(parts)
            if isinstance(decoded, Image):
                _chunks.pixels(decoded.chunks[0])
        except WireError:
            return  # with a sentence: that is all that is asked

    @settings(max_examples=200, deadline=None)
    @given(data=st.binary(max_size=300), encoding=st.sampled_from(["bs16-lz4<", "lz4<"]))
    def test_chunks_of_noise(self, data: bytes, encoding: str) -> None:
        about = {"htype": "dimage_d-1.0", "shape": [20, 20], "type": "uint16", "encoding": encoding}
        parts = [IMAGE[0], encode.as_json({**about, "size": len(data)}), data, IMAGE[3]]
        try:
            assert _chunks.pixels(decode_image(parts).chunks[0]).shape == (20, 20)
        except WireError:
            return  # with a sentence: that is all that is asked
