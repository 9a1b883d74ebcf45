"""Arrow's IPC stream: one or more record batches, columns matched by name."""

from typing import Any

import pyarrow as pa

from workers.formats import MAX_UNPACKED, Decoded, Limits, Malformed, TooLarge, check_size
from workers.formats.arrow_columns import find_columns, reading, to_matrix, to_table
from workers.formats.arrow_messages import sizes
from workers.model_store import Release

NAME = "arrow"


def decode(release: Release, body: bytes, limits: Limits) -> Decoded:
    """Decode a stream. Raises Malformed, Invalid, TooLarge."""
    schema = release.schema
    with reading("an Arrow stream"):
        rows, unpacked = sizes(body)
        source = pa.BufferReader(body)
        options = pa.ipc.IpcReadOptions(use_threads=False, ensure_alignment=pa.ipc.Alignment.DataTypeSpecific)
        stream = pa.ipc.open_stream(source, options=options)
        order = find_columns(schema, stream.schema, limits)
        # Before the first batch is read, which is when compressed buffers unpack.
        check_size(schema, rows, limits, "")
        _check_unpacked(unpacked)
        batches, size = [], 0
        for batch in stream:
            # Columns and batches can share one large buffer or dictionary; each of them is looked at with it.
            size += sum(column.get_total_buffer_size() for column in batch.columns)
            _check_unpacked(size)
            if batch.num_rows:
                batches.append(batch)
        if source.tell() != len(body):
            raise Malformed("the body goes on after the end of the Arrow stream")
        table = pa.Table.from_batches(batches, stream.schema)
        table.validate(full=True)
        return Decoded(to_matrix(schema, table, order), NAME)


def encode(tensors: list[dict[str, Any]]) -> bytes:
    """Return a stream with a column an output."""
    table = to_table(tensors)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    body: bytes = sink.getvalue().to_pybytes()
    return body


def _check_unpacked(size: int) -> None:
    if size > MAX_UNPACKED:
        raise TooLarge(f"the Arrow stream unpacks to more than {MAX_UNPACKED:,} bytes")
