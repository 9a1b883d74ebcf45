"""A job's input as it is stored: its matrix, and whose columns these are."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from inference_portal.jobs.models import Job
from inference_portal.store import model_store
from workers.formats import Matrix
from workers.model_store import Release, UnknownModel
from workers.schema import Schema


@dataclass(frozen=True, slots=True)
class StoredInput:
    """The matrix (rows x columns, NaN is missing) and its signature; None when nobody knows it any more."""

    matrix: Matrix
    schema: Schema | None

    @property
    def names(self) -> tuple[str, ...] | None:
        """Return the columns' names, None while they are unknown."""
        return None if self.schema is None else self.schema.names

    @property
    def rows(self) -> list[Any]:
        """Return the rows as `rows` of a request takes them: by column name, or as lists while the names are unknown.

        Categories are text. Numbers are NumPy's float32, which orjson writes as the shortest text that is the same
        float32, and NaN as null.
        """
        if self.schema is None:
            return list(self.matrix)
        return [dict(zip(self.schema.names, self.cells(row), strict=True)) for row in self.matrix]

    def cells(self, row: Any) -> list[Any]:
        """Return one row of the matrix with the categories as text, as far as they are known."""
        return list(row) if self.schema is None else self.schema.cells(row)


def stored_input(job: Job) -> StoredInput | None:
    """Return the job's input; None when it is gone (retention; fire and forget), and for a step, which has no rows."""
    if not job.input or job.step:
        return None
    matrix = np.frombuffer(bytes(job.input), dtype="<f4").reshape(job.rows, -1)
    release = job_release(job)
    schema = None if release is None else release.schema
    # A manifest can be changed without its model file.
    return StoredInput(matrix, schema if schema is not None and schema.could_be_of(matrix) else None)


def job_release(job: Job) -> Release | None:
    """Return the release that the job was accepted for; None when the store no longer has this very file."""
    try:
        release = model_store().get(job.model, job.version)
    except UnknownModel:
        return None
    return release if release.manifest.sha256 == job.sha256 else None
