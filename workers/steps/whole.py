"""The whole output of a run, written from its parts; never more than a row group of it is in memory."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Annotated, Any, Literal

import pyarrow as pa
from pydantic import Field

from workers.datasets import DatasetError, Input, read
from workers.datasets.place import open_input
from workers.model_store import Release
from workers.steps import columns, places
from workers.steps.chunk import BLOCK_ROWS, block_rows
from workers.steps.csv_text import lines
from workers.steps.work import Count, Folder, Format, RunName, Work
from workers.steps.writers import PART_KINDS, Digested, tables

# A row group of the output, so that small chunks don't make very many; of fewer rows where they are large.
GROUP_ROWS = 131_072
GROUP_BYTES = 2**25
_BLOCK = 2**20


class Part(Work):
    """A chunk that is final: its predictions are in its part, or none of its rows has any.

    Rows that a run has taken over from an earlier one are of another `input`, with `files` of its own.
    """

    number: Count
    first: Count
    rows: Annotated[int, Field(ge=1)]
    source: dict[str, Any]
    state: Literal["done", "failed"]
    reason: str = ""
    input: Input | None = None
    files: list[Any] = []


class Merge(Work):
    """All chunks of a run, and where the output and the errors go."""

    input: Input
    files: list[Any]
    keep: tuple[str, ...] = ()
    folder: Folder
    format: Format
    output: str
    run: RunName
    # Of the batch, so that a merge that comes late replaces nothing that a later attempt has written.
    attempt: Count = 0
    parts: Annotated[list[Part], Field(min_length=1)]
    errors: str


def write_whole(asked: Merge, parts: list[Part], release: Release, output: Digested) -> None:
    """Write all parts; a failed one as its rows with null predictions. The same parts give the same bytes."""
    if asked.format == "csv":
        _write_csv(asked, parts, release, output)
    else:
        _write_parquet(asked, parts, release, output)


def blocks_of(uri: str) -> Iterator[bytes]:
    """Yield a file's bytes."""
    with open_input(uri) as file:
        while block := file.read(_BLOCK):
            yield block


def _write_csv(asked: Merge, parts: list[Part], release: Release, output: Digested) -> None:
    output.write(lines([[*asked.keep, *(field.name for field in columns.outputs(release.manifest))]]))
    for part in parts:
        if part.state == "done":
            for block in blocks_of(_place(asked, part)):
                output.write(block)
            continue
        for table in _unpredicted(asked, part, release):
            with tables("csv", output, table.schema) as writer:
                writer.write(table)


def _write_parquet(asked: Merge, parts: list[Part], release: Release, output: Digested) -> None:
    schema = _schema(asked, parts, release)
    with tables("parquet", output, schema) as writer:
        group: list[pa.Table] = []
        for part in parts:
            for table in _unpredicted(asked, part, release) if part.state == "failed" else _predicted(asked, part):
                group.append(table.cast(schema))
                if sum(t.num_rows for t in group) >= GROUP_ROWS or sum(t.nbytes for t in group) >= GROUP_BYTES:
                    writer.write(pa.concat_tables(group))
                    group = []
        if group:
            writer.write(pa.concat_tables(group))


def _schema(asked: Merge, parts: list[Part], release: Release) -> pa.Schema:
    """Return the schema of the first part, or what it would have been if none was written."""
    done = next((part for part in parts if part.state == "done"), None)
    if done is None:
        found: pa.Schema = next(_unpredicted(asked, parts[0], release)).schema
    else:
        with open_input(_place(asked, done)) as file:
            found = pa.ipc.open_stream(file).schema
    return pa.schema([(field.name, field.type) for field in found])


def _predicted(asked: Merge, part: Part) -> Iterator[pa.Table]:
    """Yield what a chunk wrote. Raises DatasetError if that isn't all of it."""
    place, rows = _place(asked, part), 0
    with open_input(place) as file:
        for batch in pa.ipc.open_stream(file):
            rows += batch.num_rows
            yield pa.table(batch)
    if rows != part.rows:
        raise DatasetError(f"{place} has {rows:,} rows instead of {part.rows:,}")


def _unpredicted(asked: Merge, part: Part, release: Release) -> Iterator[pa.Table]:
    """Yield the kept columns of a failed chunk's rows, which are read once more, with null for each output.

    What can't be read is null as well: it may be why the chunk failed.
    """
    manifest, left = release.manifest, part.rows
    data, files = (asked.input, asked.files) if part.input is None else (part.input, part.files)
    if asked.keep:
        with suppress(DatasetError):
            for block in read(data, files, part.source, release.schema, asked.keep, batch_rows=block_rows(manifest)):
                kept = block.kept.slice(0, left)
                left -= kept.num_rows
                yield columns.joined(kept, manifest, columns.nulls(manifest, kept.num_rows))
    while left:
        rows = min(left, BLOCK_ROWS)
        left -= rows
        kept = pa.table({name: pa.nulls(rows) for name in asked.keep})
        yield columns.joined(kept, manifest, columns.nulls(manifest, rows))


def _place(asked: Merge, part: Part) -> str:
    return places.part(asked.folder, asked.run, part.number, PART_KINDS[asked.format])
