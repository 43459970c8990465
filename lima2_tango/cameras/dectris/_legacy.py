"""The legacy stream: one ZeroMQ message of several parts, of which the first says what the others are.

Format: DECTRIS SIMPLON API reference (stream interface), versions 1.6 to 1.8::

    dheader-1.0      header_detail none: alone; basic: + configuration; all: + configuration, flat field, pixel mask,
                     count rate table, of which each is a description and its bytes
    dimage-1.0       + dimage_d-1.0, the pixels, dconfig-1.0
    dseries_end-1.0  alone

Each but the last may have one part more: the appendix that a user asked for.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from lima2_tango.core.errors import WireError

from ._messages import (
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

CHANNEL = "threshold_1"
"""The one channel of this format."""
LONGEST_JSON = 1 << 20
"""Bytes of a part of JSON, at most."""
MOST_PARTS = 16
ENCODING = re.compile(r"(?:bs(?P<bits>8|16|32)-(?P<behind>lz4)|(?P<alone>lz4))?(?P<order>[<>])")
_NANOSECOND = 1e-9
_PARTS = {"none": 1, "basic": 2, "all": 8}
"""Of the first message, without the appendix."""

Parts = Sequence[memoryview]
Fields = Mapping[str, object]


def decode(parts: Sequence[Buffer]) -> Message:
    """What the detector says; an image holds a view of its part. Raises WireError, which names what and which image."""
    if not 1 <= len(parts) <= MOST_PARTS:
        raise WireError(f"a legacy message of {len(parts)} parts: 1 to {MOST_PARTS} were due")
    views = [memoryview(part).cast("B") for part in parts]
    head = _json(views[0], "the first part of a legacy message")
    kind = head.get("htype")
    for begin, decoder in _DECODERS.items():
        if isinstance(kind, str) and kind.startswith(begin):
            return decoder(head, views)
    raise WireError(f"a legacy message of type {shown(kind)}: {', '.join(_DECODERS)}* was due")


def _start(head: Fields, parts: Parts) -> SeriesStart:
    where = f"legacy header of series {shown(head.get('series'))}"
    series, detail = _count(head, "series", where), head.get("header_detail")
    if not isinstance(detail, str) or detail not in _PARTS:
        raise WireError(f"{where}: header_detail is {shown(detail)}, not one of {', '.join(_PARTS)}")
    due = _PARTS[detail]
    if len(parts) not in {due, due + 1}:
        raise WireError(f"{where}: {len(parts)} parts came, {due} or (with an appendix) {due + 1} were due")
    fields: dict[str, object] = dict(_json(parts[1], f"{where}, configuration")) if due > 1 else {}
    for place in range(2, due, 2):
        fields |= _table(parts[place], parts[place + 1], where)
    if len(parts) > due:
        fields["header_appendix"] = _appendix(parts[due])
    shape, dtype = _configured(fields, where)
    return SeriesStart(series, "", (CHANNEL,), _nb_images(fields), shape, dtype, fields)


def _image(head: Fields, parts: Parts) -> Image:
    where = f"legacy image {shown(head.get('frame'))} of series {shown(head.get('series'))}"
    series, number = _count(head, "series", where), _count(head, "frame", where)
    if len(parts) not in {4, 5}:
        raise WireError(f"{where}: {len(parts)} parts came, 4 or (with an appendix) 5 were due")
    chunk = _chunk(_described(parts[1], "dimage_d-", where), parts[2], where)
    times = _described(parts[3], "dconfig-", where)
    begin, real = (_count(times, key, where) * _NANOSECOND for key in ("start_time", "real_time"))
    appendix = _appendix(parts[4]) if len(parts) == 5 else None
    return Image(series, "", number, (chunk,), begin, real, appendix)


def _end(head: Fields, parts: Parts) -> SeriesEnd:
    where = f"legacy end of series {shown(head.get('series'))}"
    if len(parts) != 1:
        raise WireError(f"{where}: {len(parts)} parts came, 1 was due")
    return SeriesEnd(_count(head, "series", where), "")


_DECODERS: Mapping[str, Callable[[Fields, Parts], Message]] = {
    "dheader-": _start,
    "dimage-": _image,
    "dseries_end-": _end,
}


def _json(part: memoryview, where: str) -> Fields:
    if len(part) > LONGEST_JSON:
        raise WireError(f"{where}: {len(part)} bytes, where JSON of at most {LONGEST_JSON} was due")
    try:
        content = json.loads(str(part, "utf-8"))
    except (ValueError, RecursionError) as error:
        raise WireError(f"{where}: {len(part)} bytes that are no JSON ({type(error).__name__})") from error
    if not isinstance(content, dict):
        raise WireError(f"{where}: {shown(content)} came where an object was due")
    return content


def _described(part: memoryview, begin: str, where: str) -> Fields:
    content = _json(part, where)
    kind = content.get("htype")
    if not isinstance(kind, str) or not kind.startswith(begin):
        raise WireError(f"{where}: a part of type {shown(kind)} came where {begin}* was due")
    return content


def _count(fields: Fields, key: str, where: str) -> int:
    value = fields.get(key)
    if not is_count(value):
        raise WireError(f"{where}: {key} is {shown(value)}, not a whole number")
    assert isinstance(value, int)
    return value


def _shape(fields: Fields, where: str) -> tuple[int, int]:
    """The format tells columns before rows."""
    shape = fields.get("shape")
    if not isinstance(shape, list) or not (len(shape) == 2 or (len(shape) == 3 and shape[2] == 1)):
        raise WireError(f"{where}: its shape is {shown(shape)}, not [columns, rows]")
    return check_shape(shape[1], shape[0], where)


def _chunk(about: Fields, data: memoryview, where: str) -> Chunk:
    shape, dtype = _shape(about, where), pixel_type(about.get("type"), where)
    size = _count(about, "size", where)
    if size != len(data):
        raise WireError(f"{where}: {size} bytes are announced, {len(data)} came")
    codec = _codec(about.get("encoding"), data, shape[0] * shape[1] * dtype.itemsize, dtype, where)
    chunk = Chunk(CHANNEL, data, codec, shape, dtype)
    if codec is Codec.NONE and len(data) != chunk.nbytes:
        raise WireError(f"{where}: {shape[0]} x {shape[1]} pixels of {dtype} come with {len(data)} bytes")
    return chunk


def _codec(encoding: object, data: memoryview, nbytes: int, dtype: np.dtype, where: str) -> Codec:
    match = ENCODING.fullmatch(encoding) if isinstance(encoding, str) else None
    if match is None:
        raise WireError(f"{where}: encoding {shown(encoding)} is not known; have: <, lz4<, bs8-lz4<, bs16-, bs32-")
    if match["order"] == ">" and dtype.itemsize > 1:
        raise WireError(f"{where}: its pixels are big-endian ({encoding}), no Dectris detector's are")
    if match["alone"]:
        return Codec.LZ4_BLOCK
    if not match["behind"]:
        return Codec.NONE
    if int(match["bits"]) != 8 * dtype.itemsize:
        raise WireError(
            f"{where}: bits of {match['bits']}-bit items are shuffled, the pixels have {8 * dtype.itemsize}"
        )
    # Without a header the first four bytes are the length of a block, which is not 0; no image has 2**32 bytes.
    headed = int.from_bytes(data[:8], "big") == nbytes if nbytes < 2**32 else True
    return Codec.BSLZ4 if headed or int.from_bytes(data[:4], "big") == 0 else Codec.BSLZ4_BARE


def _table(about: memoryview, data: memoryview, where: str) -> Fields:
    """Flat field, pixel mask or count rate table: [row, column], by its name."""
    content = _json(about, where)
    kind, dtype = content.get("htype"), content.get("type")
    if not isinstance(kind, str) or dtype not in {"float32", "uint32", "uint16"}:
        raise WireError(f"{where}: a table {shown(kind)} of {shown(dtype)} is not known")
    rows, columns = _shape(content, f"{where}, {kind}")
    if len(data) != rows * columns * np.dtype(str(dtype)).itemsize:
        raise WireError(f"{where}, {kind}: {rows} x {columns} of {dtype} come with {len(data)} bytes")
    return {kind.rpartition("-")[0].removeprefix("d"): np.frombuffer(data, str(dtype)).reshape(rows, columns)}


def _appendix(part: memoryview) -> object:
    """JSON where it is such, else the text, else the bytes."""
    try:
        text = str(part[:LONGEST_JSON], "utf-8")
    except UnicodeDecodeError:
        return bytes(part)
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _configured(fields: Fields, where: str) -> tuple[tuple[int, int] | None, np.dtype | None]:
    """Shape and type of the images, where the configuration says."""
    rows, columns, bits = (
        fields.get(key) for key in ("y_pixels_in_detector", "x_pixels_in_detector", "bit_depth_image")
    )
    shape = None if rows is None or columns is None else check_shape(rows, columns, where)
    return shape, None if bits is None else pixel_type(f"uint{bits}", where)


def _nb_images(fields: Fields) -> int:
    images, triggers = fields.get("nimages"), fields.get("ntrigger", 1)
    if not (is_count(images) and is_count(triggers)):
        return 0
    assert isinstance(images, int)
    assert isinstance(triggers, int)
    return images * triggers
