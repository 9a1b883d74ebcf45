"""Arrow IPC: a range is some of a file's record batches, or a part of one. A stream is made a file first."""

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from workers.datasets import DatasetError, place
from workers.datasets.columns import Wanted
from workers.datasets.parquet_file import Description
from workers.datasets.troubles import understanding

_MAGIC = b"ARROW1"
_END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"
# A record batch is read as a whole: 256 MiB of float32.
MAX_BATCH_VALUES = 2**26
STREAM_BATCH_ROWS = 65_536


def is_stream(uri: str) -> bool:
    """Tell whether it is a stream, without the marks of a file. Raises DatasetError for a stream without its end."""
    with understanding(uri, "Arrow data"), place.open_input(uri) as source:
        if source.read(len(_MAGIC)) == _MAGIC:
            return False
        size = source.size()
        if size < len(_END_OF_STREAM) or source.read_at(len(_END_OF_STREAM), size - len(_END_OF_STREAM)) != (
            _END_OF_STREAM
        ):
            raise DatasetError(f"{uri} is no whole Arrow file or stream: it has neither the marks of one nor an end")
        return True


def describe(uri: str, names: Sequence[str]) -> Description:
    """Return a file's columns and the rows of its batches; `names` are what will be read of it."""
    with understanding(uri, "a whole Arrow file"), place.open_input(uri) as source:
        schema = pa.ipc.open_file(source).schema
        needed = [name for name in schema.names if name in names]
        # One column is enough to count by, and a small one if there is one.
        narrow = [name for name in needed if not pa.types.is_nested(schema.field(schema.get_field_index(name)).type)]
        file = _open(source, schema, (narrow or needed or schema.names)[:1])
        groups = [file.get_batch(i).num_rows for i in range(file.num_record_batches)]
    most = MAX_BATCH_VALUES // max(len(needed), 1)
    if max(groups, default=0) > most:
        raise DatasetError(f"{uri} has a record batch of {max(groups):,} rows; write at most {most:,} in each")
    return Description(schema, groups)


def batches(part: dict[str, Any], file: place.File, wanted: Wanted, batch_rows: int) -> Iterator[pa.RecordBatch]:
    """Yield the needed columns of a part's rows. Raises DatasetError, Unreachable."""
    skip, left = part["skip"], part["rows"]
    with understanding(file.uri, "an Arrow file"), place.open_input(file.uri) as source:
        schema = pa.ipc.open_file(source).schema
        reader = _open(source, schema, wanted.named(schema.names) or schema.names[:1])
        for number in range(*part["groups"]):
            batch = reader.get_batch(number)
            batch.validate(full=True)
            batch = batch.slice(skip, left)
            skip, left = 0, left - batch.num_rows
            for start in range(0, batch.num_rows, batch_rows):
                yield batch.slice(start, batch_rows)


def write_file(stream_uri: str, names: Sequence[str], file_uri: str) -> None:
    """Write a stream's columns of these names as a file. Raises DatasetError for one that can't be read."""
    with understanding(stream_uri, "an Arrow stream"), place.open_input(stream_uri) as source:
        stream = pa.ipc.open_stream(source)
        fields = [field for field in stream.schema if field.name in names] or list(stream.schema)[:1]
        # In a stream dictionaries may be replaced, in a file they can't be.
        plain = pa.schema([pa.field(field.name, _without_dictionary(field.type)) for field in fields])
        with place.writing(file_uri, replace=True) as sink, pa.ipc.new_file(sink, plain) as file:
            for batch in stream:
                arrays = [batch.column(batch.schema.get_field_index(field.name)) for field in fields]
                for array in arrays:
                    array.validate(full=True)
                arrays = [array.cast(field.type) for array, field in zip(arrays, plain, strict=True)]
                file.write_table(pa.Table.from_arrays(arrays, schema=plain), STREAM_BATCH_ROWS)
        if source.tell() != source.size():
            raise DatasetError(f"{stream_uri} goes on after the end of the Arrow stream")


def columns(uri: str) -> pa.Schema:
    """Return a file's columns. Raises DatasetError, Unreachable."""
    with understanding(uri, "a whole Arrow file"), place.open_input(uri) as source:
        return pa.ipc.open_file(source).schema


def stream_columns(uri: str) -> pa.Schema:
    """Return a stream's columns. Raises DatasetError, Unreachable."""
    with understanding(uri, "an Arrow stream"), place.open_input(uri) as source:
        return pa.ipc.open_stream(source).schema


def _open(source: pa.NativeFile, schema: pa.Schema, names: Sequence[str]) -> pa.RecordBatchFileReader:
    fields = [i for i, name in enumerate(schema.names) if name in names]
    return pa.ipc.open_file(source, options=pa.ipc.IpcReadOptions(included_fields=fields, use_threads=False))


def _without_dictionary(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind
