"""The step `plan`: look at the data set and at the output's place before any row is predicted, and cut it in ranges."""

from contextlib import suppress
from dataclasses import asdict, replace
from io import BytesIO
from typing import Annotated, Any

import pyarrow as pa
from pydantic import Field

from workers.datasets import DatasetError, Input, Plan, plan, read
from workers.datasets.place import check_uri, writing
from workers.model_store import Release
from workers.schema import Schema
from workers.steps import columns, note, places
from workers.steps.work import Folder, Format, Work
from workers.steps.writers import Digested, tables

# So many rows are read and written on trial.
TRIAL_ROWS = 1_000


class Output(Work):
    """Where the predictions go, in the batch's own folder unless it says otherwise, and in which format."""

    uri: str | None = None
    format: Format = "parquet"


class Planned(Work):
    """The data set, and what is to be made of it."""

    input: Input
    output: Output = Output()
    keep: tuple[str, ...] = ()
    chunk_rows: Annotated[int, Field(ge=1)]
    # Of a rehearsal: so many rows, the first ones.
    sample: Annotated[int, Field(ge=1)] | None = None
    folder: Folder


class _OnTrial(Exception):
    """Ends the writing of a file that isn't wanted."""


def run(work: dict[str, Any], release: Release) -> dict[str, Any]:
    """Return `rows`, `columns`, `files`, `ranges` (number, first, rows, source) and the `output`'s place.

    Raises DatasetError for everything that can be known now: places, columns, types, names; and Unreachable.
    """
    asked = Planned.read(work)
    columns.check_names(asked.keep, release.manifest)
    output = asked.output.uri or f"{asked.folder}/output.{asked.output.format}"
    _check_output(output, asked.folder)
    found = plan(asked.input, release.schema, asked.keep, asked.sample or asked.chunk_rows, places.spool(asked.folder))
    if asked.sample is not None:
        found = _sample(found, asked.sample)
    _check_kept(asked, found, release.schema)
    return {
        "rows": found.rows,
        "columns": found.columns,
        "files": found.files,
        "ranges": [asdict(each) for each in found.ranges],
        "output": output,
    }


def _sample(found: Plan, rows: int) -> Plan:
    """Return a plan of the first rows alone. The first range has no more, unless row groups are larger than that."""
    first, parts, left = found.ranges[0], [], rows
    for part in first.source["parts"]:
        # Of CSV a range ends where it was asked to.
        taken = min(part.get("rows", left), left)
        if taken > 0:
            parts.append(part | ({"rows": taken} if "rows" in part else {}))
            left -= taken if "rows" in part else 0
    some = replace(first, rows=min(first.rows, rows), source={"parts": parts})
    return replace(found, rows=some.rows, ranges=[some])


def _check_output(uri: str, folder: str) -> None:
    """Raise DatasetError for a place where nothing can be written, or that is taken; by another than this batch."""
    check_uri(uri)
    if uri.startswith("store://") and not uri.startswith(f"{folder}/output."):
        raise DatasetError(f"{uri}: in the system's own storage a batch writes {folder}/output.… only")
    ours = note.may_replace(folder, uri)
    with suppress(_OnTrial), writing(uri, replace=ours) as file:
        file.write(b"on trial")
        raise _OnTrial


def _check_kept(asked: Planned, found: Plan, schema: Schema) -> None:
    """Raise DatasetError for kept columns that the output's format can't hold, found out by writing the first rows."""
    if not asked.keep:
        return
    source = found.ranges[0].source
    table = columns.kept(next(read(asked.input, found.files, source, schema, asked.keep, batch_rows=TRIAL_ROWS)).kept)
    for name in asked.keep:
        _check_writable(name, table.select([name]), asked.output.format)


def _check_writable(name: str, table: pa.Table, kind: Format) -> None:
    try:
        with tables(kind, Digested(BytesIO()), table.schema) as writer:
            writer.write(table)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
        raise DatasetError(
            f"keep_columns: '{name}' is of the type {table.schema.field(name).type}, "
            f"which can't be written as {kind}: {str(error).partition(chr(10))[0]}"
        ) from error
