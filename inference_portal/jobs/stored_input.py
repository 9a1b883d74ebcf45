"""A job's input as it is stored: its matrix, and whose columns these are."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from inference_portal.jobs.models import Job
from inference_portal.store import model_store
from workers.formats import Matrix
from workers.model_store import Release, UnknownModel


@dataclass(frozen=True, slots=True)
class StoredInput:
    """The matrix (rows x columns, NaN is missing) and its columns' names; None when nobody knows them any more."""

    matrix: Matrix
    names: tuple[str, ...] | None

    @property
    def rows(self) -> list[Any]:
        """Return the rows as `rows` of a request takes them: by column name, or as lists while the names are unknown.

        The values are NumPy's float32, which orjson writes as the shortest text that is the same float32, and NaN as
        null.
        """
        if self.names is None:
            return list(self.matrix)
        return [dict(zip(self.names, row, strict=True)) for row in self.matrix]


def stored_input(job: Job) -> StoredInput | None:
    """Return the job's input; None when retention has removed it."""
    if job.purged_at is not None:
        return None
    matrix = np.frombuffer(bytes(job.input), dtype="<f4").reshape(job.rows, -1)
    release = job_release(job)
    names = None if release is None else release.schema.names
    return StoredInput(matrix, names if names is not None and len(names) == matrix.shape[1] else None)


def job_release(job: Job) -> Release | None:
    """Return the release that the job was accepted for; None when the store no longer has this very file."""
    try:
        release = model_store().get(job.model, job.version)
    except UnknownModel:
        return None
    return release if release.manifest.artifact.sha256 == job.sha256 else None
