"""A job's input and result as tables of text; only their beginning, since both may be large."""

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import orjson

from inference_portal.jobs.models import Job
from inference_portal.jobs.stored_input import stored_input
from workers.model_store import Release

MAX_ROWS = 50
MAX_COLUMNS = 100


@dataclass(frozen=True, slots=True)
class Table:
    """The first rows and columns, and how many were left out."""

    headers: list[str]
    rows: list[list[str]]
    more_rows: int = 0
    more_columns: int = 0

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The only row as names and values; empty when there are several rows."""
        return list(zip(self.headers, self.rows[0], strict=True)) if len(self.rows) == 1 else []


def input_table(job: Job) -> Table | None:
    """Return the job's input; None when retention has removed it. Columns that nobody knows any more have numbers."""
    kept = stored_input(job)
    if kept is None:
        return None
    columns = kept.matrix.shape[1]
    names = kept.names or tuple(f"column {i}" for i in range(columns))
    return Table(
        headers=list(names[:MAX_COLUMNS]),
        rows=[[cell_text(value) for value in kept.cells(row)[:MAX_COLUMNS]] for row in kept.matrix[:MAX_ROWS]],
        more_rows=max(0, job.rows - MAX_ROWS),
        more_columns=max(0, columns - MAX_COLUMNS),
    )


def cell_text(value: Any) -> str:
    """Return a number or a category for people."""
    return value if isinstance(value, str) else number_text(value)


def output_table(job: Job, release: Release | None) -> Table:
    """Return the result with one column a value; the labels come first, as they are what one looks for."""
    output = release.manifest.output if release is not None else None
    labels = output.labels if output is not None and output.top_k is None else ()
    tensors = orjson.loads(bytes(job.result or b"[]"))
    headers: list[str] = []
    columns: list[list[str]] = []
    for tensor in sorted(tensors, key=lambda tensor: tensor["datatype"] != "BYTES"):
        width = prod(tensor["shape"][1:])
        for i in range(min(width, MAX_COLUMNS)):
            headers.append(_output_name(tensor, width, i, labels))
            columns.append([_output_text(value) for value in tensor["data"][i::width][:MAX_ROWS]])
    return Table(
        headers=headers, rows=[list(row) for row in zip(*columns, strict=True)], more_rows=max(0, job.rows - MAX_ROWS)
    )


def number_text(value: Any) -> str:
    """Return the shortest text that is the same float32; "missing" for NaN."""
    single = np.float32(value)
    return "missing" if np.isnan(single) else str(single).removesuffix(".0")


def _output_name(tensor: dict[str, Any], width: int, i: int, labels: tuple[str, ...]) -> str:
    name: str = tensor["name"]
    if name == "probability" and width == 1 and len(labels) == 2:
        return f"{name} of {labels[1]}"
    if name == "probability" and width == len(labels):
        return f"{name} of {labels[i]}"
    return name if width == 1 else f"{name} {i}"


def _output_text(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
