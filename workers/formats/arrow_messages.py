"""How large an Arrow stream is once it is read, found out without reading it.

pyarrow doesn't tell whether a message's buffers are compressed, and to how much; that stands in the message's metadata
(a FlatBuffers table that pyarrow has verified) and before each compressed buffer. Source: Message.fbs of Apache Arrow.
"""

import struct
from typing import Any

import pyarrow as pa

from workers.formats import Malformed, TooLarge

MAX_MESSAGES = 20_000
# Places of the fields in their tables.
_VERSION, _HEADER, _CUSTOM_METADATA = 0, 2, 4
_LENGTH, _BUFFERS, _COMPRESSION = 0, 2, 3
_DICTIONARY_DATA = 1
_V5 = 4


def sizes(body: bytes) -> tuple[int, int]:
    """Return the rows of all batches, and the bytes that all buffers take uncompressed. Raises Malformed, TooLarge.

    And what pyarrow raises for a stream that it can't split into messages.
    """
    rows = unpacked = 0
    for number, message in enumerate(pa.ipc.MessageReader.open_stream(pa.BufferReader(body))):
        if number > MAX_MESSAGES:
            raise TooLarge(f"the Arrow stream has more than {MAX_MESSAGES:,} batches")
        if message.type in ("record batch", "dictionary"):
            try:
                length, size = _batch(message)
            except struct.error as error:
                raise Malformed("the Arrow stream has a message that ends too early") from error
            unpacked += size
            rows += length if message.type == "record batch" else 0
    return rows, unpacked


def _batch(message: Any) -> tuple[int, int]:
    """Return the length of one batch and the uncompressed size of its buffers."""
    data = memoryview(message.metadata)
    root = _follow(data, 0)
    batch = _follow(data, _field(data, root, _HEADER))
    if message.type == "dictionary":
        batch = _follow(data, _field(data, batch, _DICTIONARY_DATA))
    at = _field(data, batch, _LENGTH)
    length = struct.unpack_from("<q", data, at)[0] if at else 0
    if length < 0:
        raise Malformed("the Arrow stream has a batch of a negative length")
    version = _field(data, root, _VERSION)
    is_old = not version or struct.unpack_from("<h", data, version)[0] < _V5
    if is_old and _field(data, root, _CUSTOM_METADATA):
        raise Malformed("the Arrow stream may be compressed in the way of before Arrow 1.0, which isn't read")
    body = memoryview(message.body)
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


def _follow(data: memoryview, at: int) -> int:
    """Return where the offset at `at` leads."""
    return at + int(struct.unpack_from("<I", data, at)[0])
