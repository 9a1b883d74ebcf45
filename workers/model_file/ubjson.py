"""Universal Binary JSON as XGBoost writes it, read in Python with every length checked against what is there.

XGBoost's own reader trusts the file and dies of a damaged one. https://ubjson.org/ has the format.
"""

import struct
from typing import Any

import numpy as np

# XGBoost's deepest model has 8 levels.
MAX_DEPTH = 32
# Marker -> (struct format, numpy type) of a number; all are big-endian.
_NUMBERS = {
    b"i": (">b", ">i1"),
    b"U": (">B", ">u1"),
    b"I": (">h", ">i2"),
    b"l": (">i", ">i4"),
    b"L": (">q", ">i8"),
    b"d": (">f", ">f4"),
    b"D": (">d", ">f8"),
}
_WHOLE = frozenset(b"iUIlL")
_CONSTANTS = {b"Z": None, b"T": True, b"F": False}


class UbjsonError(ValueError):
    """The bytes are no such document; says at which byte and what was expected."""


def loads(data: bytes) -> Any:
    """Return the document: dicts, lists, texts, numbers, and a NumPy array for each array of one type of number.

    Raises UbjsonError, for a key that an object has twice as well.
    """
    reader = _Reader(data)
    value = reader.value(0)
    if reader.at != len(data):
        raise UbjsonError(f"byte {reader.at}: the document ends here, {len(data) - reader.at:,} more bytes follow")
    return value


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0

    def value(self, depth: int) -> Any:
        return self._value(self._take(1, "a value"), depth)

    def _value(self, marker: bytes, depth: int) -> Any:
        if marker in _NUMBERS:
            return self._number(marker)
        if marker in _CONSTANTS:
            return _CONSTANTS[marker]
        if marker == b"S":
            return self._text()
        if marker in (b"{", b"["):
            if depth == MAX_DEPTH:
                raise UbjsonError(f"byte {self.at - 1}: nested deeper than {MAX_DEPTH} levels")
            return self._object(depth + 1) if marker == b"{" else self._array(depth + 1)
        raise UbjsonError(f"byte {self.at - 1}: {marker!r} begins no value")

    def _object(self, depth: int) -> dict[str, Any]:
        result: dict[str, Any] = {}
        while not self._follows(b"}"):
            start = self.at
            key = self._text()
            if key in result:
                raise UbjsonError(f"byte {start}: the key {key[:80]!r} is there twice")
            result[key] = self.value(depth)
        return result

    def _array(self, depth: int) -> Any:
        if self._follows(b"$"):
            kind = self._take(1, "the type of an array")
            if kind not in _NUMBERS:
                raise UbjsonError(f"byte {self.at - 1}: an array of type {kind!r} isn't read here")
            if not self._follows(b"#"):
                raise UbjsonError(f"byte {self.at}: expected the length of an array")
            dtype = np.dtype(_NUMBERS[kind][1])
            raw = self._take(self._length() * dtype.itemsize, "an array")
            return np.frombuffer(raw, dtype).astype(dtype.newbyteorder("="))
        if self._follows(b"#"):
            count = self._length()
            # Each takes a byte at the least.
            if count > len(self._data) - self.at:
                raise UbjsonError(f"byte {self.at}: truncated, an array of {count:,} values doesn't fit")
            return [self.value(depth) for _ in range(count)]
        result = []
        while not self._follows(b"]"):
            result.append(self.value(depth))
        return result

    def _text(self) -> str:
        raw = self._take(self._length(), "a text")
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            raise UbjsonError(f"byte {self.at - len(raw)}: a text isn't UTF-8") from error

    def _length(self) -> int:
        marker = self._take(1, "a length")
        if marker[0] not in _WHOLE:
            raise UbjsonError(f"byte {self.at - 1}: expected a length, got {marker!r}")
        length = int(self._number(marker))
        if length < 0:
            raise UbjsonError(f"byte {self.at}: a length of {length}")
        return length

    def _number(self, marker: bytes) -> Any:
        form = _NUMBERS[marker][0]
        return struct.unpack(form, self._take(struct.calcsize(form), "a number"))[0]

    def _follows(self, marker: bytes) -> bool:
        if self._data[self.at : self.at + 1] != marker:
            return False
        self.at += 1
        return True

    def _take(self, count: int, what: str) -> bytes:
        end = self.at + count
        if end > len(self._data):
            raise UbjsonError(f"byte {self.at}: truncated, expected {what} of {count:,} bytes")
        taken = self._data[self.at : end]
        self.at = end
        return taken
