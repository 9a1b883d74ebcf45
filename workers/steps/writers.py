"""Tables as the bytes of a part or of the whole output, with their sha256 known at the end."""

import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, Literal, Protocol

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from workers.steps.csv_text import escaped, is_text
from workers.steps.work import Format

# Of a part for each format of the output: Arrow is written in a sixth of the time that Parquet takes, and the merge
# writes Parquet anyway.
PART_KINDS: dict[Format, Literal["arrow", "csv"]] = {"parquet": "arrow", "csv": "csv"}


class Digested(io.RawIOBase):
    """A file to write to that counts its bytes and their sha256; closing it leaves the file below open."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self._file = file
        self._sha256 = hashlib.sha256()
        self.size = 0

    def write(self, data: Any) -> int:
        """Write all of `data`."""
        self._sha256.update(data)
        self._file.write(data)
        size = memoryview(data).nbytes
        self.size += size
        return size

    def writable(self) -> bool:
        """Say yes."""
        return True

    def tell(self) -> int:
        """Return how many bytes were written."""
        return self.size

    def hexdigest(self) -> str:
        """Return the sha256 of what was written so far."""
        return self._sha256.hexdigest()


class Tables(Protocol):
    """Takes tables of one schema, one after the other."""

    def write(self, table: pa.Table) -> None:
        """Write a table's rows."""


@contextmanager
def tables(kind: Format | Literal["arrow"], file: Digested, schema: pa.Schema) -> Iterator[Tables]:
    """Write tables of a schema as Parquet, as a stream of Arrow, or as CSV without a header.

    The same tables give the same bytes.
    """
    if kind == "csv":
        yield _Csv(file)
        return
    if kind == "arrow":
        with pa.ipc.new_stream(file, schema, options=_ARROW_OPTIONS) as stream:
            yield stream
        return
    # A dictionary of numbers is mostly given up after a while, and until then takes twice the time.
    texts = [field.name for field in schema if is_text(field.type)]
    with pq.ParquetWriter(file, schema, use_dictionary=texts) as writer:
        yield _Parquet(writer)


_ARROW_OPTIONS = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)


class _Parquet:
    def __init__(self, writer: pq.ParquetWriter) -> None:
        self._writer = writer

    def write(self, table: pa.Table) -> None:
        self._writer.write_table(table, row_group_size=max(1, table.num_rows))


class _Csv:
    _OPTIONS = pyarrow.csv.WriteOptions(include_header=False)

    def __init__(self, file: Digested) -> None:
        self._file = file

    def write(self, table: pa.Table) -> None:
        # In memory first: it gives its bytes in small pieces.
        text = pa.BufferOutputStream()
        pyarrow.csv.write_csv(escaped(table), text, self._OPTIONS)
        self._file.write(text.getvalue())
