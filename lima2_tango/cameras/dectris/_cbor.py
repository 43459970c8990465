"""CBOR (RFC 8949), as much as the detector uses: read without copying byte strings, and within bounds.

Measured on one 10 MB message, the usual library copies its bytes on the way; this reader gives views of them, and
refuses what a message of the detector cannot be: depth, numbers of items, sizes beyond the message, keys twice.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from lima2_tango.core.errors import WireError

from ._messages import Buffer, shown

DEEPEST = 16
"""Items inside items, at most."""
MOST_ITEMS = 10_000
"""Items of one message, at most."""
LONGEST_TEXT = 1 << 20
"""Bytes of a text, at most."""
SELF_DESCRIBED = 55799
"""The tag that only says: this is CBOR."""

SIMPLE = 7 << 5
"""From here on an initial byte is of the major type of simple values."""

_SIZED = {24: struct.Struct(">B"), 25: struct.Struct(">H"), 26: struct.Struct(">I"), 27: struct.Struct(">Q")}
_FLOATS = {25: struct.Struct(">e"), 26: struct.Struct(">f"), 27: struct.Struct(">d")}
_SIMPLE: dict[int, object] = {20: False, 21: True, 22: None, 23: None}
_BREAK = object()


@dataclass(frozen=True, slots=True)
class Tag:
    """A tagged item; what the tag means is the caller's to know."""

    number: int
    value: object


def read(message: Buffer) -> object:
    """The one item of a message: byte strings are views of it, maps dicts, arrays lists, tags `Tag`.

    Raises WireError for what is no CBOR, goes beyond its bounds, or is followed by more bytes.
    """
    reader = _Reader(memoryview(message).cast("B"))
    value = reader.item(0)
    if reader.position != len(reader.data):
        raise WireError(f"{len(reader.data) - reader.position} bytes follow the message's one CBOR item")
    return value


class _Reader:
    __slots__ = ("data", "left", "position", "size")

    def __init__(self, data: memoryview) -> None:
        self.data = data
        self.size = len(data)
        self.position = 0
        self.left = MOST_ITEMS

    def item(self, depth: int) -> object:
        value = self._item(depth)
        if value is _BREAK:
            raise self._stray()
        return value

    def _stray(self) -> WireError:
        return WireError(f"a CBOR break without a beginning at byte {self.position - 1}")

    def _item(self, depth: int) -> object:
        """This runs some forty times for an image: calls are spared, and the most frequent comes first."""
        self.left -= 1
        position = self.position
        if depth > DEEPEST or self.left < 0 or position >= self.size:
            raise self._beyond(depth)
        initial = self.data[position]
        info = initial & 31
        if initial >= SIMPLE or info > 27:
            self.position = position + 1
            return self._special(initial >> 5, info, depth)
        if info < 24:
            self.position = position + 1
            number = info
        else:
            form = _SIZED[info]
            self.position = position = position + 1 + form.size
            if position > self.size:
                raise self._short(form.size, position - form.size)
            number = form.unpack_from(self.data, position - form.size)[0]
        kind = initial >> 5
        if kind == 3:
            return self._text(number)
        if kind == 0:
            return number
        return self._others[kind](self, number, depth)

    def _beyond(self, depth: int) -> WireError:
        if depth <= DEEPEST and self.left >= 0:
            return WireError(f"cut short: an item is due at byte {self.position}, where the message ends")
        limit = f"{DEEPEST} levels" if depth > DEEPEST else f"{MOST_ITEMS} items"
        return WireError(f"CBOR of more than {limit} at byte {self.position}: no message of a detector has that")

    def _short(self, count: int, start: int) -> WireError:
        return WireError(f"cut short: {count} bytes are due at byte {start} of a message of {self.size}")

    def _special(self, kind: int, info: int, depth: int) -> object:
        """What is no number, or has none."""
        if kind == 7:
            return self._simple(info)
        if info == 31:
            return self._endless(kind, depth)
        raise WireError(f"CBOR's reserved code {info} at byte {self.position - 1}")

    def _take(self, count: int) -> memoryview:
        start = self.position
        if count > self.size - start:
            raise self._short(count, start)
        self.position = start + count
        return self.data[start : start + count]

    def _simple(self, info: int) -> object:
        if info in _FLOATS:
            form = _FLOATS[info]
            return form.unpack(self._take(form.size))[0]
        if info == 31:
            return _BREAK
        if info in _SIMPLE:
            return _SIMPLE[info]
        raise WireError(f"CBOR's simple value {info} at byte {self.position - 1} is not known")

    def _text(self, count: int) -> str:
        if count > LONGEST_TEXT:
            raise WireError(f"a text of {count} bytes at byte {self.position}: {LONGEST_TEXT} is the most")
        start, end = self.position, self.position + count
        if end > self.size:
            raise self._short(count, start)
        self.position = end
        try:
            return str(self.data[start:end], "utf-8")
        except UnicodeDecodeError as error:
            raise WireError(f"the text at byte {start} is no UTF-8") from error

    def _negative(self, number: int, depth: int) -> int:
        return -1 - number

    def _bytes(self, count: int, depth: int) -> memoryview:
        return self._take(count)

    def _tag(self, number: int, depth: int) -> Tag:
        return Tag(number, self.item(depth + 1))

    def _array(self, count: int, depth: int) -> list[object]:
        self._check_count(count)
        return [self.item(depth + 1) for _ in range(count)]

    def _map(self, count: int, depth: int) -> dict[object, object]:
        self._check_count(2 * count)
        found: dict[object, object] = {}
        for _ in range(count):
            key = self._item(depth + 1)
            if key is _BREAK:
                raise self._stray()
            self._pair(found, key, depth)
        return found

    def _pair(self, found: dict[object, object], key: object, depth: int) -> None:
        if not isinstance(key, str | int):
            raise WireError(f"a map's key is {shown(key)} at byte {self.position}, not a text")
        if key in found:
            raise WireError(f"the key {shown(key)} comes twice, at byte {self.position}")
        found[key] = self.item(depth + 1)

    _others: ClassVar[dict[int, Callable[["_Reader", int, int], object]]] = {
        1: _negative,
        2: _bytes,
        4: _array,
        5: _map,
        6: _tag,
    }
    """By CBOR's major type."""

    def _check_count(self, count: int) -> None:
        """Before anything is read: each item has a byte at least."""
        if count > len(self.data) - self.position:
            raise WireError(f"cut short: {count} items are due at byte {self.position} of {len(self.data)}")

    def _endless(self, kind: int, depth: int) -> object:
        """Arrays, maps and texts of no declared length; a byte string in pieces would have to be copied."""
        if kind == 4:
            found: list[object] = []
            while (value := self._item(depth + 1)) is not _BREAK:
                found.append(value)
            return found
        if kind == 5:
            pairs: dict[object, object] = {}
            while (key := self._item(depth + 1)) is not _BREAK:
                self._pair(pairs, key, depth)
            return pairs
        if kind == 3:
            pieces: list[str] = []
            while (piece := self._item(depth + 1)) is not _BREAK:
                if not isinstance(piece, str) or sum(map(len, pieces)) > LONGEST_TEXT:
                    raise WireError(f"a text in pieces at byte {self.position} is none")
                pieces.append(piece)
            return "".join(pieces)
        raise WireError(f"an item without a length at byte {self.position - 1}, where the detector declares one")
