"""Thrift's compact protocol, in which Parquet describes itself: structs as dicts by the numbers of their fields.

pyarrow's own objects for a Parquet footer end the process on some broken files (an exception that C++ throws where
Cython expects none), and it has none for the headers of pages. Source: thrift-compact-protocol.md of Apache Thrift.
"""

from typing import Any

from workers.formats import Malformed, TooLarge

MAX_DEPTH = 10
_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = range(1, 13)


class Reader:
    """Reads structs of one file, at most `most` values in all of them. Of a binary value only the place is read.

    `at` is where the last struct ended.
    """

    def __init__(self, data: bytes, most: int) -> None:
        self._data, self._left = data, most
        self.at = self._end = 0

    def read(self, at: int, end: int) -> dict[int, Any]:
        """Read the struct at `at`, which ends before `end`.

        Raises TooLarge, Malformed (also for a field given twice: readers differ in which counts).
        """
        self.at, self._end = at, end
        return self._struct(0)

    def _struct(self, depth: int) -> dict[int, Any]:
        if depth > MAX_DEPTH:
            raise Malformed("the Parquet file describes itself in a way that is nested too deeply")
        fields: dict[int, Any] = {}
        number = 0
        while (head := self._byte()) != 0:
            number = number + (head >> 4) if head >> 4 else self._zigzag()
            if number in fields:
                raise Malformed("the Parquet file describes something twice")
            self._count()
            kind = head & 0x0F
            fields[number] = kind == _TRUE if kind in (_TRUE, _FALSE) else self._value(kind, depth)
        return fields

    def _count(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise TooLarge("the Parquet file describes itself at too great a length")

    def _value(self, kind: int, depth: int) -> Any:
        if kind == _BINARY:
            size = self._varint()
            self._skip(size)
            return range(self.at - size, self.at)
        if kind in (_I32, _I64, _I16):
            value = self._zigzag()
            if kind != _I64 and not -(2**31) <= value < 2**31:
                raise Malformed("the Parquet file has a number beyond its type")
            return value
        if kind == _STRUCT:
            return self._struct(depth + 1)
        if kind in (_LIST, _SET):
            return self._list(depth + 1)
        if kind in (_BYTE, _TRUE, _FALSE):
            return self._byte()
        if kind == _DOUBLE:
            return self._skip(8)
        raise Malformed("the Parquet file describes itself in a way that can't be read")

    def _list(self, depth: int) -> list[Any]:
        if depth > MAX_DEPTH:
            raise Malformed("the Parquet file describes itself in a way that is nested too deeply")
        head = self._byte()
        size = head >> 4
        if size == 15:
            size = self._varint()
        items = []
        for _ in range(size):
            self._count()
            items.append(self._value(head & 0x0F, depth))
        return items

    def _byte(self) -> int:
        at = self.at
        if at >= self._end:
            raise Malformed("the Parquet file describes itself in a way that ends too early")
        self.at = at + 1
        return self._data[at]

    def _varint(self) -> int:
        byte = self._byte()
        if byte < 0x80:
            return byte
        value, shift = byte & 0x7F, 7
        while True:
            byte = self._byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7
            if shift > 63:
                raise Malformed("the Parquet file has a number that is too long")

    def _zigzag(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)

    def _skip(self, size: int) -> None:
        if self.at + size > self._end:
            raise Malformed("the Parquet file describes itself in a way that ends too early")
        self.at += size
