"""How large an Arrow stream is once it is read, found out before pyarrow reads any of it.

pyarrow doesn't tell whether a message's buffers are compressed, and to how much; that stands in the message's metadata
(a FlatBuffers table) and before each compressed buffer. And a thousand tables in it may share one long text: as soon as
pyarrow splits the stream into messages, it makes a copy for each. What isn't right here pyarrow refuses afterwards.
Source: Message.fbs and Schema.fbs of Apache Arrow.
"""

import struct
from collections.abc import Iterator

from workers.formats import MAX_UNPACKED, Malformed, TooLarge

MAX_MESSAGES = 20_000
# What a table in the metadata counts for beside its texts: pyarrow's object, and the time to walk it here.
TABLE_BYTES = 512
# Places of the fields in their tables.
_VERSION, _HEADER_TYPE, _HEADER, _BODY_LENGTH, _CUSTOM_METADATA = range(5)
_LENGTH, _BUFFERS, _COMPRESSION = 0, 2, 3
_DICTIONARY_DATA, _DICTIONARY_IS_DELTA = 1, 2
_FIELD_TYPE, _FIELD_TYPE_TABLE = 2, 3
# Kinds of messages and types.
_IS_SCHEMA, _IS_DICTIONARY, _IS_BATCH = 1, 2, 3
_IS_TIMESTAMP = 10
_V5 = 4
# The tables of which there may be many: where each has texts, and where lists of tables.
_MESSAGE, _SCHEMA, _FIELD, _KEY_VALUE, _TIMESTAMP = range(5)
_TEXTS = {_FIELD: (0,), _KEY_VALUE: (0, 1), _TIMESTAMP: (1,)}
_TABLES = {
    _MESSAGE: ((_CUSTOM_METADATA, _KEY_VALUE),),
    _SCHEMA: ((1, _FIELD), (2, _KEY_VALUE)),
    _FIELD: ((5, _FIELD), (6, _KEY_VALUE)),
}


def sizes(body: bytes) -> tuple[int, int]:
    """Return the rows of all batches, and the bytes that all buffers take uncompressed. Raises Malformed, TooLarge."""
    rows = unpacked = described = 0
    try:
        for number, (data, buffers) in enumerate(_messages(memoryview(body))):
            if number > MAX_MESSAGES:
                raise TooLarge(f"the Arrow stream has more than {MAX_MESSAGES:,} batches")
            described = _described(data, described)
            kind = _byte(data, _follow(data, 0), _HEADER_TYPE)
            if kind in (_IS_DICTIONARY, _IS_BATCH):
                length, size = _batch(data, buffers, kind)
                unpacked += size
                rows += length if kind == _IS_BATCH else 0
    except struct.error as error:
        raise Malformed("the Arrow stream has a message that ends too early") from error
    return rows, unpacked


def _messages(body: memoryview) -> Iterator[tuple[memoryview, memoryview]]:
    """Yield each message's metadata and its buffers."""
    at = 0
    while at < len(body):
        mark, size = struct.unpack_from("<Ii", body, at)
        if mark != 0xFFFFFFFF:
            raise Malformed("the body is not an Arrow stream, or one of before Arrow 0.15")
        if size == 0:
            return
        begin = at + 8
        data = body[begin : begin + max(size, 0)]
        length = _field(data, _follow(data, 0), _BODY_LENGTH)
        at = begin + size + max(0, struct.unpack_from("<q", data, length)[0] if length else 0)
        if size < 0 or at > len(body):
            raise Malformed("the Arrow stream ends too early")
        yield data, body[begin + size : at]


def _described(data: memoryview, so_far: int) -> int:
    """Return how much memory names and other metadata take, with those of this message. Raises TooLarge."""
    root = _follow(data, 0)
    tables = [(root, _MESSAGE)]
    if _byte(data, root, _HEADER_TYPE) == _IS_SCHEMA:
        tables.append((_follow(data, _field(data, root, _HEADER)), _SCHEMA))
    while tables:
        table, kind = tables.pop()
        for number in _TEXTS.get(kind, ()):
            if at := _field(data, table, number):
                so_far += struct.unpack_from("<I", data, _follow(data, at))[0]
        for number, of_kind in _TABLES.get(kind, ()):
            if at := _field(data, table, number):
                vector = _follow(data, at)
                (count,) = struct.unpack_from("<I", data, vector)
                so_far += count * TABLE_BYTES
                if so_far <= MAX_UNPACKED:
                    tables += [(_follow(data, vector + 4 + 4 * i), of_kind) for i in range(count)]
        if kind == _FIELD and _byte(data, table, _FIELD_TYPE) == _IS_TIMESTAMP:
            tables.append((_follow(data, _field(data, table, _FIELD_TYPE_TABLE)), _TIMESTAMP))
        if so_far > MAX_UNPACKED:
            raise TooLarge(f"the Arrow stream's names and metadata take more than {MAX_UNPACKED:,} bytes")
    return so_far


def _batch(data: memoryview, body: memoryview, kind: int) -> tuple[int, int]:
    """Return the length of one batch and the uncompressed size of its buffers."""
    root = _follow(data, 0)
    batch = _follow(data, _field(data, root, _HEADER))
    if kind == _IS_DICTIONARY:
        if _byte(data, batch, _DICTIONARY_IS_DELTA):
            raise Malformed("the Arrow stream has a dictionary that grows (a delta), which isn't read here")
        batch = _follow(data, _field(data, batch, _DICTIONARY_DATA))
    at = _field(data, batch, _LENGTH)
    length = struct.unpack_from("<q", data, at)[0] if at else 0
    if length < 0:
        raise Malformed("the Arrow stream has a batch of a negative length")
    version = _field(data, root, _VERSION)
    is_old = not version or struct.unpack_from("<h", data, version)[0] < _V5
    if is_old and _field(data, root, _CUSTOM_METADATA):
        raise Malformed("the Arrow stream may be compressed in the way of before Arrow 1.0, which isn't read")
    if not _field(data, batch, _COMPRESSION):
        return length, len(body)
    return length, _uncompressed(data, _field(data, batch, _BUFFERS), body)


def _uncompressed(data: memoryview, buffers: int, body: memoryview) -> int:
    """Return the sum of what stands before each compressed buffer; -1 there means that it isn't compressed."""
    if not buffers:
        return 0
    vector = _follow(data, buffers)
    (count,) = struct.unpack_from("<I", data, vector)
    total = 0
    for offset, size in struct.iter_unpack("<qq", data[vector + 4 : vector + 4 + 16 * count]):
        if size == 0:
            continue
        if offset < 0:
            raise Malformed("the Arrow stream has a buffer at a negative offset")
        (unpacked,) = struct.unpack_from("<q", body, offset)
        total += size if unpacked == -1 else unpacked
        if unpacked < -1:
            raise Malformed("the Arrow stream has a buffer of a negative size")
    return total


def _field(data: memoryview, table: int, number: int) -> int:
    """Return where a field of a table is, 0 for one that is left out."""
    vtable = table - struct.unpack_from("<i", data, table)[0]
    (size,) = struct.unpack_from("<H", data, vtable)
    at = 4 + 2 * number
    offset = struct.unpack_from("<H", data, vtable + at)[0] if at < size else 0
    return table + offset if offset else 0


def _byte(data: memoryview, table: int, number: int) -> int:
    """Return a field of one byte, 0 for one that is left out."""
    at = _field(data, table, number)
    return int(struct.unpack_from("<B", data, at)[0]) if at else 0


def _follow(data: memoryview, at: int) -> int:
    """Return where the offset at `at` leads."""
    return at + int(struct.unpack_from("<I", data, at)[0])
