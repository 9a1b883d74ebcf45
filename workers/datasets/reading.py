"""Reading the rows of a range, from files that are still those that were planned."""

from collections.abc import Iterator, Sequence
from typing import Any

from workers.datasets import Block, DatasetError, Fingerprint, Input, arrow_file, csv_file, parquet_file, place
from workers.datasets.columns import Wanted
from workers.datasets.planning import format_of
from workers.schema import Schema


def read(
    data: Input,
    files: Sequence[Fingerprint],
    source: dict[str, Any],
    schema: Schema,
    keep: Sequence[str],
    batch_rows: int,
) -> Iterator[Block]:
    """See `workers.datasets.read`."""
    wanted = Wanted(schema, tuple(keep))
    planned = {uri: place.File(uri, size, version) for uri, size, version in files}
    for part in source["parts"]:
        _check_unchanged(planned, part["file"])
    for part in source["parts"]:
        yield from _blocks(part, planned[part["file"]], data, wanted, batch_rows)
        # It may have been written to while it was read.
        _check_unchanged(planned, part["file"])


def _check_unchanged(planned: dict[str, place.File], uri: str) -> None:
    if not place.exists(uri) or place.file(uri) != planned.get(uri):
        raise DatasetError(f"{uri} changed while the run was going on: it isn't the file that was planned")


def _blocks(part: dict[str, Any], file: place.File, data: Input, wanted: Wanted, batch_rows: int) -> Iterator[Block]:
    constants = part.get("constants", {})
    kind = format_of(data, file.uri)
    if kind == "csv":
        yield from csv_file.blocks(part, data, wanted, constants, batch_rows)
        return
    reader = parquet_file if kind == "parquet" else arrow_file
    for batch in reader.batches(part, file, wanted, batch_rows):
        yield wanted.block(batch.num_rows, dict(zip(batch.schema.names, batch.columns, strict=True)), constants)
