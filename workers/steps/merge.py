"""The step `merge`: the parts, in their order, as one output that appears whole, and one file of all that failed."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

from workers.datasets import DatasetError
from workers.datasets.place import exists, files, forget_dead, writing
from workers.failpoints import failpoint
from workers.model_store import Release
from workers.steps import note, places
from workers.steps.chunk import BLOCK_ROWS
from workers.steps.csv_text import lines
from workers.steps.whole import Merge, Part, blocks_of, write_whole
from workers.steps.writers import Digested

HEADER = ("row", "column", "reason")


def run(work: dict[str, Any], release: Release) -> dict[str, Any]:
    """Return `uri`, `rows`, `failed`, `bytes`, `sha256`, and the same of the `errors`, null if no row failed.

    Done twice, or after a kill at any moment, it gives the same. Raises DatasetError, Unreachable.
    """
    asked = Merge.read(work)
    this = note.digest(work)
    # A merge that was killed may have left as much as the output itself, in a folder that is somebody's own.
    for place in (asked.output, asked.errors):
        forget_dead(place)
    done = note.merged(asked.folder, this, asked.output)
    if done is None:
        try:
            done = _merged(asked, this, release)
        except DatasetError:
            # Somebody took the place while this ran: it may have been this very merge, in another worker.
            done = note.merged(asked.folder, this, asked.output)
            if done is None:
                raise
    failpoint("worker.after_merged", asked.output.encode())
    return done


def _merged(asked: Merge, this: str, release: Release) -> dict[str, Any]:
    parts = sorted(asked.parts, key=lambda part: part.number)
    rows = _check_order(parts)
    replace = note.may_replace(asked.folder, asked.output)
    with writing(asked.output, replace=replace) as file:
        output = Digested(file)
        write_whole(asked, parts, release, output)
        note.check_newest(asked.folder, asked.attempt)
        errors = _merge_errors(asked, parts)
        result = {
            "uri": asked.output,
            "rows": rows,
            "failed": errors["rows"] if errors else 0,
            "bytes": output.size,
            "sha256": output.hexdigest(),
            "errors": errors,
        }
        note.write(asked.folder, this, asked.attempt, result)
        failpoint("worker.before_merged", asked.output.encode())
    return result


def _check_order(parts: list[Part]) -> int:
    """Return how many rows there are. Raises DatasetError for parts that don't follow one another."""
    rows = 0
    for part in parts:
        if part.first != rows:
            raise DatasetError(f"part {part.number} begins with row {part.first:,}, and row {rows:,} is the next one")
        rows += part.rows
    return rows


def _merge_errors(asked: Merge, parts: list[Part]) -> dict[str, Any] | None:
    """Write one line for each row that failed. Returns `uri`, `rows`, `bytes` and `sha256`; None for no such row."""
    there = set()
    if any(part.state == "done" for part in parts):
        # Asked for all at once: there may be a hundred thousand parts, and on S3 each question is a request.
        there = {file.uri.rpartition("/")[2] for file in files(places.work_folder(asked.folder, asked.run))}
    rows = 0
    with ExitStack() as stack:
        errors: Digested | None = None
        for part in parts:
            place = places.errors_part(asked.folder, asked.run, part.number)
            if part.state == "done" and place.rpartition("/")[2] not in there:
                continue
            if errors is None:
                errors = Digested(stack.enter_context(writing(asked.errors, replace=True)))
                errors.write(lines([HEADER]))
            for block in blocks_of(place) if part.state == "done" else _error_lines(part):
                # One line each, whatever is in it (`lines`).
                rows += block.count(b"\n")
                errors.write(block)
    if errors is None:
        if exists(asked.errors):
            # Of an earlier run of the batch; nothing of it is true any more.
            with writing(asked.errors, replace=True) as file:
                file.write(lines([HEADER]))
        return None
    return {"uri": asked.errors, "rows": rows, "bytes": errors.size, "sha256": errors.hexdigest()}


def _error_lines(part: Part) -> Iterator[bytes]:
    for first in range(part.first, part.first + part.rows, BLOCK_ROWS):
        end = min(first + BLOCK_ROWS, part.first + part.rows)
        yield lines((row, "", part.reason) for row in range(first, end))
