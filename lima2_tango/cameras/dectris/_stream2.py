"""Stream V2: one ZeroMQ message is one CBOR map (start, image or end).

Format: https://github.com/dectris/documentation, stream_v2 and cbor (tag 56500); typed arrays: RFC 8746.
"""

from collections.abc import Callable, Mapping
from datetime import datetime

import numpy as np

from lima2_tango.core.errors import WireError

from ._cbor import SELF_DESCRIBED, Tag, read
from ._messages import (
    MOST_CHANNELS,
    Buffer,
    Chunk,
    Codec,
    Image,
    Message,
    SeriesEnd,
    SeriesStart,
    check_shape,
    is_count,
    pixel_type,
    shown,
)

COMPRESSED, MULTI_DIM, DATE = 56500, 40, 0
"""Tags: a compressed byte string, an array of several dimensions, a date."""
TYPED = {64: "<u1", 65: ">u2", 66: ">u4", 67: ">u8", 68: "<u1", 69: "<u2", 70: "<u4", 71: "<u8"} | {
    72: "<i1", 73: ">i2", 74: ">i4", 75: ">i8", 77: "<i2", 78: "<i4", 79: "<i8",
    80: ">f2", 81: ">f4", 82: ">f8", 84: "<f2", 85: "<f4", 86: "<f8",
}  # fmt: skip
"""Tags of typed arrays (RFC 8746): the type of their items."""
PIXELS = {"<u1", "<u2", "<u4", "<i1", "<i2", "<i4", "<f4", "<f8"}
"""Types that a frame can have."""
_CODECS = {"bslz4": Codec.BSLZ4, "lz4": Codec.LZ4}

Fields = Mapping[object, object]


def decode(message: Buffer) -> Message:
    """What the detector says; images hold views of `message`. Raises WireError, which names what and which image."""
    try:
        content = read(message)
        if isinstance(content, Tag) and content.number == SELF_DESCRIBED:
            content = content.value
        if not isinstance(content, dict):
            raise WireError(f"a map was due, {shown(content)} came")
    except WireError as error:
        raise WireError(f"a stream2 message of {len(memoryview(message).cast('B'))} bytes: {error}") from error
    kind = content.get("type")
    if not isinstance(kind, str) or kind not in _DECODERS:
        raise WireError(f"a stream2 message of type {shown(kind)}: start, image or end was due")
    return _DECODERS[kind](content)


def _start(fields: Fields) -> SeriesStart:
    where = _where(fields, "start")
    series, unique_id = _series(fields, where)
    channels = fields.get("channels", [])
    if not isinstance(channels, list) or not all(isinstance(name, str) for name in channels):
        raise WireError(f"{where}: channels is {shown(channels)}, not a list of texts")
    if not 1 <= len(set(channels)) == len(channels) <= MOST_CHANNELS:
        raise WireError(f"{where}: its channels are {shown(channels)}; 1 to {MOST_CHANNELS} different ones were due")
    shape = check_shape(fields.get("image_size_y"), fields.get("image_size_x"), where)
    dtype = None if "image_dtype" not in fields else pixel_type(fields["image_dtype"], where)
    plain = {str(key): _plain(value) for key, value in fields.items()}
    return SeriesStart(
        series, unique_id, tuple(channels), _count(fields, "number_of_images", where), shape, dtype, plain
    )


def _image(fields: Fields) -> Image:
    where = _where(fields, "image")
    series, unique_id = _series(fields, where)
    number = _count(fields, "image_id", where)
    data = fields.get("data")
    if not isinstance(data, dict) or not 1 <= len(data) <= MOST_CHANNELS:
        raise WireError(f"{where}: its data is {shown(data)}, not a map of 1 to {MOST_CHANNELS} channels")
    chunks = tuple(_chunk(name, packed, where) for name, packed in data.items())
    begin, real = (_rational(fields.get(name), name, where) for name in ("start_time", "real_time"))
    return Image(series, unique_id, number, chunks, begin, real, _plain(fields.get("user_data")))


def _end(fields: Fields) -> SeriesEnd:
    return SeriesEnd(*_series(fields, _where(fields, "end")))


_DECODERS: Mapping[str, Callable[[Fields], Message]] = {"start": _start, "image": _image, "end": _end}


def _where(fields: Fields, kind: str) -> str:
    """Which message this is, for the sentences about it."""
    number = f" {shown(fields.get('image_id'))}" if kind == "image" else ""
    return f"stream2 {kind}{number} of series {shown(fields.get('series_id'))}"


def _series(fields: Fields, where: str) -> tuple[int, str]:
    unique_id = fields.get("series_unique_id", "")
    if not isinstance(unique_id, str):
        raise WireError(f"{where}: series_unique_id is {shown(unique_id)}, not a text")
    return _count(fields, "series_id", where), unique_id


def _count(fields: Fields, key: str, where: str) -> int:
    value = fields.get(key)
    if not is_count(value):
        raise WireError(f"{where}: {key} is {shown(value)}, not a whole number")
    assert isinstance(value, int)
    return value


def _rational(value: object, key: str, where: str) -> float:
    """Seconds of a pair of whole numbers; 0 where the message does not say."""
    if value is None:
        return 0.0
    if isinstance(value, list) and len(value) == 2 and all(is_count(part) for part in value) and value[1]:
        return float(value[0] / value[1])
    raise WireError(f"{where}: {key} is {shown(value)}, not a ratio of two whole numbers")


def _chunk(name: object, packed: object, where: str) -> Chunk:
    if not isinstance(name, str):
        raise WireError(f"{where}: a channel is called {shown(name)}")
    where = f"{where}, {name}"
    match packed:
        case Tag(number=40, value=[[rows, columns], Tag(number=typed, value=content)]) if typed in TYPED:
            dtype, shape = np.dtype(TYPED[typed]), check_shape(rows, columns, where)
        case _:
            raise WireError(f"{where}: {_named(packed)} came where an array of two dimensions was due (tag 40)")
    if TYPED[typed] not in PIXELS:
        raise WireError(f"{where}: pixels of type {TYPED[typed]} are not known; have: {', '.join(sorted(PIXELS))}")
    codec, data = _unwrapped(content, dtype, where)
    chunk = Chunk(name, data, codec, shape, dtype)
    if codec is Codec.NONE and len(data) != chunk.nbytes:
        raise WireError(f"{where}: {rows} x {columns} pixels of {dtype} come with {len(data)} bytes")
    return chunk


def _unwrapped(content: object, dtype: np.dtype, where: str) -> tuple[Codec, memoryview]:
    """How the bytes of an array are packed, and they."""
    match content:
        case memoryview():
            return Codec.NONE, content
        case Tag(number=56500, value=[str(algorithm), int(size), memoryview() as data]):
            if algorithm not in _CODECS:
                known = ", ".join(_CODECS)
                raise WireError(f"{where}: compression {shown(algorithm)} is not known; set it to one of {known}")
            if algorithm == "bslz4" and size != dtype.itemsize:
                raise WireError(f"{where}: bits of {size}-byte items are shuffled, the pixels have {dtype.itemsize}")
            return _CODECS[algorithm], data
    raise WireError(f"{where}: {_named(content)} came where bytes were due, as they are or compressed (tag 56500)")


def _named(value: object) -> str:
    return f"tag {value.number}" if isinstance(value, Tag) else shown(value)


def _plain(value: object) -> object:
    """A field of a start message as arrays and plain values; what is not understood stays as it is.

    Arrays that are compressed stay as their `Chunk`: who wants them unpacks them.
    """
    match value:
        case dict():
            return {str(key): _plain(inner) for key, inner in value.items()}
        case list():
            return [_plain(inner) for inner in value]
        case Tag(number=0, value=str(text)):
            return _date(text)
        case Tag(number=number, value=memoryview() as raw) if number in TYPED:
            dtype = np.dtype(TYPED[number])
            return value if len(raw) % dtype.itemsize else np.frombuffer(raw, dtype)
        case Tag(number=40, value=[[int(), int()], Tag()]):
            return _grid(value)
        case memoryview():
            return bytes(value)
        case _:
            return value


def _grid(tag: Tag) -> object:
    """A flat field or a mask: pixels where they are not compressed, else a chunk."""
    try:
        chunk = _chunk("array", tag, "start")
    except WireError:
        return tag
    return np.frombuffer(chunk.data, chunk.dtype).reshape(chunk.shape) if chunk.codec is Codec.NONE else chunk


def _date(text: str) -> object:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return text
