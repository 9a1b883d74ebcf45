"""The step `chunk`: predict a range of the rows, and write its part and what failed in it."""

from contextlib import ExitStack
from typing import Annotated, Any, BinaryIO

from pydantic import Field

from workers.datasets import DatasetError, Input, read
from workers.datasets.place import writing
from workers.failpoints import failpoint
from workers.manifest import Manifest
from workers.served import Served
from workers.steps import columns, places
from workers.steps.csv_text import lines
from workers.steps.predict import Predicted, predict
from workers.steps.work import Count, Folder, Format, RunName, Work
from workers.steps.writers import PART_KINDS, Digested, Tables, tables
from workers.template.layout import layouts

# Rows of one predict call: more gain nothing. Fewer if they are wide, so that a block's matrices stay at 16 MiB.
BLOCK_ROWS = 65_536
BLOCK_VALUES = 2**22


class Chunk(Work):
    """Which rows, where from, and where to: `first` and `rows` count in the whole data set."""

    input: Input
    files: list[Any]
    source: dict[str, Any]
    number: Count
    first: Count
    rows: Annotated[int, Field(ge=1)]
    keep: tuple[str, ...] = ()
    folder: Folder
    format: Format
    run: RunName


def run(work: dict[str, Any], served: Served) -> dict[str, Any]:
    """Return `rows`, how many of them `failed`, and the part's `sha256`. Raises DatasetError, Unreachable.

    Parts appear whole, under the same name each time, with the same bytes.
    """
    asked = Chunk.read(work)
    manifest, schema = served.release.manifest, served.release.schema
    kind = PART_KINDS[asked.format]
    place = places.part(asked.folder, asked.run, asked.number, kind)
    rows = failed = 0
    with ExitStack() as whole:
        part = Digested(whole.enter_context(writing(place, replace=True)))
        errors: BinaryIO | None = None
        with ExitStack() as written:
            writer: Tables | None = None
            for block in read(
                asked.input, asked.files, asked.source, schema, asked.keep, batch_rows=block_rows(manifest)
            ):
                found = predict(served, block)
                added = columns.predicted(manifest, found.outputs, found.good, len(block.values))
                table = columns.joined(block.kept, manifest, added)
                if writer is None:
                    writer = written.enter_context(tables(kind, part, table.schema))
                writer.write(table)
                if found.failed:
                    if errors is None:
                        place_of_errors = places.errors_part(asked.folder, asked.run, asked.number)
                        errors = whole.enter_context(writing(place_of_errors, replace=True))
                    errors.write(_error_lines(found, asked.first + rows))
                rows += len(block.values)
                failed += len(found.failed)
        if rows != asked.rows:
            raise DatasetError(f"the rows from {asked.first:,} on: {rows:,} were read, and there were {asked.rows:,}")
        failpoint("worker.before_part", place.encode())
    failpoint("worker.after_part", place.encode())
    return {"rows": rows, "failed": failed, "sha256": part.hexdigest()}


def block_rows(manifest: Manifest) -> int:
    """Return how many rows are read and predicted at once."""
    widest = max(len(layout.names) for layout in layouts(manifest.columns, manifest.preprocessing))
    return max(1, min(BLOCK_ROWS, BLOCK_VALUES // max(widest, manifest.output.width)))


def _error_lines(found: Predicted, first: int) -> bytes:
    return lines((first + row, column, reason) for row, (column, reason) in sorted(found.failed.items()))
