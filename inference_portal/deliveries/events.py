"""What is told of a job's end or of a batch, as CloudEvents 1.0.

An event's id is made from what it tells of, so it is the same for each destination, each try and each process.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from inference_portal.batches.models import BatchEvent
from inference_portal.batches.models.event import Kind
from inference_portal.jobs.models.job import labels_in
from inference_portal.jobs.states import FINAL

SOURCE = "/inference"
JOB_TYPES = tuple(f"inference.job.{state.value}" for state in sorted(FINAL))
BATCH_TYPES = tuple(f"inference.batch.{kind.replace('-', '_')}" for kind in Kind.values)
TEST_TYPE = "inference.webhook.test"
TYPES = (*JOB_TYPES, *BATCH_TYPES)


class EndedJob(NamedTuple):
    """Of a job that has ended what its event is made of, and where that is to go beside the team's endpoints."""

    id: UUID
    accepted_at: datetime
    finished_at: datetime
    keeps_result: bool
    team_id: int
    team: str
    model: str
    version: str
    state: str
    attempt: int
    labels: str
    rows: int
    error_code: str
    error_message: str
    webhook: str
    sink: str


def is_wanted(kind: str, wanted: Iterable[str]) -> bool:
    """Tell whether a type is among those that are wanted: types, or their beginnings with a * behind."""
    return any(kind.startswith(each[:-1]) if each.endswith("*") else kind == each for each in wanted)


def of_job(job: EndedJob) -> dict[str, Any]:
    """Return the event of a job's end. A job that is rerun ends again, with another attempt."""
    data = {
        "job": str(job.id),
        "model": job.model,
        "version": job.version,
        "state": job.state,
        "attempt": job.attempt,
        "rows": job.rows,
        "labels": labels_in(job.labels),
        "error": {"code": job.error_code, "message": job.error_message} if job.error_code else None,
        "accepted_at": _text(job.accepted_at),
        "finished_at": _text(job.finished_at),
        "status_path": f"/status/{job.model}/{job.id}",
        "result_path": f"/result/{job.model}/{job.id}" if job.keeps_result else None,
    }
    return _event(
        f"job-{job.id}-{job.attempt}", f"inference.job.{job.state}", str(job.id), job.finished_at, job.team, data
    )


def of_batch(told: BatchEvent) -> dict[str, Any]:
    """Return the event of something that happened to a batch."""
    batch = told.batch
    data = {
        "batch": str(batch.id),
        "model": batch.model,
        "version": batch.version,
        "state": batch.state,
        "attempt": batch.attempt,
        "text": told.text,
        "rows_total": batch.rows_total,
        "rows_done": batch.rows_done,
        "rows_failed": batch.rows_failed,
        "deadline": _text(batch.deadline),
        "error": {"code": batch.error_code, "message": batch.error_message} if batch.error_code else None,
        "path": f"/api/batches/{batch.id}/",
    }
    kind = f"inference.batch.{told.kind.replace('-', '_')}"
    return _event(f"batch-{batch.id}-{told.pk}", kind, str(batch.id), told.at, batch.team.name, data)


def of_test(test_id: UUID, endpoint_id: UUID, team: str, at: datetime) -> dict[str, Any]:
    """Return the event that only shows whether an endpoint hears us."""
    return _event(f"test-{test_id}", TEST_TYPE, str(endpoint_id), at, team, {"endpoint": str(endpoint_id)})


def _event(event_id: str, kind: str, subject: str, at: datetime, team: str, data: dict[str, Any]) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": event_id,
        "source": SOURCE,
        "type": kind,
        "subject": subject,
        "time": _text(at),
        "datacontenttype": "application/json",
        "team": team,
        "data": data,
    }


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat().replace("+00:00", "Z")
