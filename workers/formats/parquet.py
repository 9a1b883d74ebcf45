"""Parquet: one file with a column a model's column, matched by name; row groups are one after the other."""

from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from workers.formats import Decoded, Limits, Malformed, check_size
from workers.formats.arrow_columns import find_columns, reading, to_matrix, to_table
from workers.formats.parquet_pages import Description
from workers.model_store import Release

NAME = "parquet"
# Columns, row groups, pairs of metadata: what the footer lists.
MAX_LISTED = 100_000


def decode(release: Release, body: bytes, limits: Limits) -> Decoded:
    """Decode a file. Raises Malformed, Invalid, TooLarge."""
    schema = release.schema
    with reading("a Parquet file"):
        described = Description(body)
        described.check_names(limits)
        source = pa.BufferReader(described.without_arrow_schema())
        footer = pq.ParquetFile(source, thrift_container_size_limit=MAX_LISTED)
        order = find_columns(schema, footer.schema_arrow, limits)
        check_size(schema, footer.metadata.num_rows, limits, "")
        with_dictionary = described.check_pages()
        # Read as dictionaries: a long text that is repeated is then unpacked once.
        texts = [schema.names[column] for column in schema.categories if order[column] in with_dictionary]
        file = pq.ParquetFile(
            source,
            metadata=footer.metadata,
            read_dictionary=texts,
            pre_buffer=False,
            page_checksum_verification=True,
        )
        table = file.read(use_threads=False)
        if table.num_rows != footer.metadata.num_rows:
            raise Malformed("the Parquet file doesn't have as many rows as its footer says")
        table.validate(full=True)
        return Decoded(to_matrix(schema, table, order), NAME)


def encode(tensors: list[dict[str, Any]]) -> bytes:
    """Return a file with a column an output."""
    sink = pa.BufferOutputStream()
    pq.write_table(to_table(tensors), sink)
    body: bytes = sink.getvalue().to_pybytes()
    return body
