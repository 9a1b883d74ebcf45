"""The sizes of a Parquet file's pages, checked before any of them is unpacked.

The footer may lie about them, and pyarrow allocates what a page's own header says. So both are read here. Source:
parquet.thrift of Apache Parquet.
"""

import struct
from collections.abc import Iterator
from typing import Any

from workers.formats import MAX_UNPACKED, Limits, Malformed, TooLarge
from workers.formats.thrift import Reader

# Pages and column chunks: each costs time.
MAX_PARTS = 50_000
# Values in the footer and in all headers of pages.
MAX_DESCRIBED = 1_000_000
# What a name counts for beside its characters, in each path of which it is a part.
NAME_BYTES = 32
# The numbers of the fields that are looked at, in FileMetaData, RowGroup, ColumnChunk, ColumnMetaData …
_FILE_SCHEMA, _FILE_ROWS, _FILE_GROUPS, _FILE_KEYS = 2, 3, 4, 5
_ELEMENT_NAME, _ELEMENT_CHILDREN = 4, 5
_KEY = 1
_ARROW_SCHEMA = b"ARROW:schema"
_GROUP_COLUMNS, _GROUP_ROWS = 1, 3
_COLUMN_META = 3
_META_VALUES, _META_PACKED, _META_DATA_AT, _META_DICTIONARY_AT = 5, 7, 9, 11
# … and in PageHeader; the headers by the kind of page, where each has the number of values first.
_PAGE_TYPE, _PAGE_UNPACKED, _PAGE_PACKED = 1, 2, 3
_DATA, _DICTIONARY, _DATA_V2 = 0, 2, 3
_HEADER_OF = {_DATA: 5, _DICTIONARY: 7, _DATA_V2: 8}
_VALUES = 1
_ENCODING_OF = {_DATA: 2, _DICTIONARY: 2, _DATA_V2: 4}
# Each text repeats a part of the one before: a page of some bytes can stand for gigabytes.
_DELTA_BYTE_ARRAY = 7


class Description:
    """What a Parquet file says of itself: its footer, which is read once, and the headers of its pages."""

    def __init__(self, body: bytes) -> None:
        """Read the footer. Raises Malformed, TooLarge."""
        self._body = body
        self._reader = Reader(body, MAX_DESCRIBED)
        end = len(body) - 8
        if end < 0:
            raise Malformed("the Parquet file has no footer")
        (size,) = struct.unpack_from("<I", body, end)
        if size > end:
            raise Malformed("the Parquet file's footer is longer than the file")
        self._footer = self._reader.read(end - size, end)

    def check_names(self, limits: Limits) -> None:
        """Raise TooLarge for too many columns, and for paths of more than MAX_UNPACKED bytes.

        The path of each column repeats the names of the groups that it is in.
        """
        # The first one is the table.
        elements = _structs(self._footer, _FILE_SCHEMA)[1:]
        limits.check_columns(len(elements))
        groups = [element for element in elements if element.get(_ELEMENT_CHILDREN)]
        path = sum(NAME_BYTES + len(_place(group, _ELEMENT_NAME)) for group in groups)
        if path * len(elements) > MAX_UNPACKED:
            raise TooLarge(f"the names in the Parquet file's schema take more than {MAX_UNPACKED:,} bytes")

    def without_arrow_schema(self) -> bytes:
        """Return the file with the Arrow schema that its writer may have kept in it under a key that nobody reads.

        It is a FlatBuffer in which a thousand fields can share one long name; Parquet's own schema says what is needed.
        """
        body = self._body
        pairs = _structs(self._footer, _FILE_KEYS) if _FILE_KEYS in self._footer else []
        for key in (_place(pair, _KEY) for pair in pairs):
            if body[key.start : key.stop] == _ARROW_SCHEMA:
                body = body[: key.start] + _ARROW_SCHEMA.lower() + body[key.stop :]
        return body

    def check_pages(self) -> set[int]:
        """Return the columns that have a dictionary, so that few bytes can stand for many long texts.

        Raises Malformed for pages that contradict the footer, TooLarge for too many of them or too much in them.
        """
        with_dictionary = set()
        parts = unpacked = rows = 0
        for group in _structs(self._footer, _FILE_GROUPS):
            rows += _number(group, _GROUP_ROWS)
            for column, chunk in enumerate(_structs(group, _GROUP_COLUMNS)):
                meta = chunk.get(_COLUMN_META)
                if not isinstance(meta, dict) or _number(meta, _META_VALUES) != _number(group, _GROUP_ROWS):
                    raise Malformed("the Parquet file has a column with another number of values than rows")
                for kind, size in self._pages(meta):
                    parts += 1
                    unpacked += size
                    if kind == _DICTIONARY:
                        with_dictionary.add(column)
                    _check_most(parts, unpacked)
                parts += 1
                _check_most(parts, unpacked)
        if rows != _number(self._footer, _FILE_ROWS):
            raise Malformed("the Parquet file's row groups don't have as many rows as its footer says")
        return with_dictionary

    def _pages(self, meta: dict[int, Any]) -> Iterator[tuple[int, int]]:
        """Yield kind and unpacked size of each page of a column chunk, up to the one with its last value."""
        start = _number(meta, _META_DATA_AT)
        if _META_DICTIONARY_AT in meta and 0 < _number(meta, _META_DICTIONARY_AT) < start:
            start = _number(meta, _META_DICTIONARY_AT)
        end = start + _number(meta, _META_PACKED)
        if end > len(self._body):
            raise Malformed("the Parquet file has a column outside of the file")
        left = _number(meta, _META_VALUES)
        at = start
        while left > 0:
            if at >= end:
                raise Malformed("the Parquet file has a column with fewer values than its footer says")
            header = self._reader.read(at, end)
            kind, unpacked = _number(header, _PAGE_TYPE), _number(header, _PAGE_UNPACKED)
            at = self._reader.at + _number(header, _PAGE_PACKED)
            if at > end:
                raise Malformed("the Parquet file has a page outside of its column")
            if kind in _HEADER_OF:
                left -= _values(kind, header, unpacked)
            if left < 0:
                raise Malformed("the Parquet file has a column with more values than its footer says")
            yield kind, unpacked


def _check_most(parts: int, unpacked: int) -> None:
    if unpacked > MAX_UNPACKED:
        raise TooLarge(f"the Parquet file unpacks to more than {MAX_UNPACKED:,} bytes")
    if parts > MAX_PARTS:
        raise TooLarge(f"the Parquet file has more than {MAX_PARTS:,} pages and columns in its row groups")


def _structs(of: dict[int, Any], field: int) -> list[dict[int, Any]]:
    items = of.get(field)
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise Malformed("the Parquet file's footer lacks something")
    return items


def _place(of: dict[int, Any], field: int) -> range:
    place = of.get(field)
    if not isinstance(place, range):
        raise Malformed("the Parquet file's footer lacks a name")
    return place


def _number(of: dict[int, Any], field: int) -> int:
    number = of.get(field)
    if type(number) is not int or number < 0:
        raise Malformed("the Parquet file has a number that is missing or negative")
    return number


def _values(kind: int, header: dict[int, Any], unpacked: int) -> int:
    """Return how many of the column's values are in a page. Raises Malformed."""
    described = header.get(_HEADER_OF[kind])
    if not isinstance(described, dict):
        raise Malformed("the Parquet file has a page that isn't described")
    values = _number(described, _VALUES)
    if described.get(_ENCODING_OF[kind]) == _DELTA_BYTE_ARRAY:
        raise Malformed(
            "the Parquet file has texts encoded as DELTA_BYTE_ARRAY, which isn't read here; write them PLAIN"
        )
    if kind != _DICTIONARY:
        return values
    if values > unpacked:
        raise Malformed("the Parquet file has a dictionary with more values than bytes")
    return 0
