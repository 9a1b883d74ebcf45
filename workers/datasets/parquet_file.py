"""Parquet files: a range is some row groups, or a part of one."""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from workers.datasets import DatasetError, place
from workers.datasets.columns import Wanted
from workers.datasets.troubles import understanding

# What is read of a column at once, so that a row group of any size takes the same memory.
BUFFER_BYTES = 1024 * 1024


class Description(NamedTuple):
    """A file's columns, and the rows of each of its row groups (or record batches)."""

    columns: pa.Schema
    groups: list[int]


def describe(uri: str) -> Description:
    """Return what the file's footer says. Raises DatasetError for none, as after a writer that died; Unreachable."""
    with understanding(uri, "a whole Parquet file"), place.open_input(uri) as source:
        footer = pq.ParquetFile(source)
        metadata = footer.metadata
        groups = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
        if min(groups, default=0) < 0 or sum(groups) != metadata.num_rows:
            raise DatasetError(f"{uri}: the row groups don't have as many rows as the file's footer says")
        return Description(footer.schema_arrow, groups)


def batches(part: dict[str, Any], file: place.File, wanted: Wanted, batch_rows: int) -> Iterator[pa.RecordBatch]:
    """Yield the needed columns of a part's rows. Raises DatasetError, Unreachable."""
    uri, skip, left = file.uri, part["skip"], part["rows"]
    with understanding(uri, "a Parquet file"), place.open_input(uri) as source:
        footer = _footer(file)
        there = footer.schema.to_arrow_schema().names
        names = wanted.named(there)
        # Of texts that repeat each is then looked up once.
        texts = wanted.categories(names)
        reader = pq.ParquetFile(
            source, metadata=footer, read_dictionary=texts, pre_buffer=False, buffer_size=BUFFER_BYTES
        )
        # The number of rows comes with a column.
        columns = names or there[:1]
        groups = range(*part["groups"])
        for batch in reader.iter_batches(batch_rows, row_groups=groups, columns=columns, use_threads=False):
            if skip >= batch.num_rows:
                skip -= batch.num_rows
                continue
            batch = batch.slice(skip, left)
            # Parquet doesn't say that its texts are UTF-8.
            batch.validate(full=True)
            skip, left = 0, left - batch.num_rows
            yield batch
            if not left:
                return
    raise DatasetError(f"{uri}: the row groups have fewer rows than the file's footer says")


@lru_cache(maxsize=1)
def _footer(file: place.File) -> pq.FileMetaData:
    """Return the footer of a file as it was planned: a worker's next chunk is mostly of the same file, and of one with
    many row groups it takes as long to read as the chunk."""
    with place.open_input(file.uri) as source:
        return pq.ParquetFile(source).metadata
