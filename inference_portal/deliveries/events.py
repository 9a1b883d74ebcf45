"""What is told of a job's end or of a batch, as CloudEvents 1.0.

An event's id is made from what it tells of, so it is the same for each destination, each try and each process.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

from inference_portal.batches.models import BatchEvent
from inference_portal.batches.models.event import Kind
from inference_portal.jobs.models import Job
from inference_portal.jobs.states import FINAL

SOURCE = "/inference"
JOB_TYPES = tuple(f"inference.job.{state.value}" for state in sorted(FINAL))
BATCH_TYPES = tuple(f"inference.batch.{kind.replace('-', '_')}" for kind in Kind.values)
TEST_TYPE = "inference.webhook.test"
TYPES = (*JOB_TYPES, *BATCH_TYPES)
# Of a job, what its event is made of.
JOB_FIELDS = (
    "id", "team_id", "team__name", "model", "version", "state", "attempt", "labels", "rows", "error_code",
    "error_message", "accepted_at", "finished_at", "keeps_result", "webhook", "sink",
)  # fmt: skip


def is_wanted(kind: str, wanted: Iterable[str]) -> bool:
    """Tell whether a type is among those that are wanted: types, or their beginnings with a * behind."""
    return any(kind.startswith(each[:-1]) if each.endswith("*") else kind == each for each in wanted)


def of_job(job: dict[str, Any]) -> dict[str, Any]:
    """Return the event of a job's end, from JOB_FIELDS. A job that is rerun ends again, with another attempt."""
    job_id, state = str(job["id"]), job["state"]
    error = {"code": job["error_code"], "message": job["error_message"]} if job["error_code"] else None
    data = {
        "job": job_id,
        "model": job["model"],
        "version": job["version"],
        "state": state,
        "attempt": job["attempt"],
        "rows": job["rows"],
        "labels": Job(labels=job["labels"]).label_list,
        "error": error,
        "accepted_at": _text(job["accepted_at"]),
        "finished_at": _text(job["finished_at"]),
        "status_path": f"/status/{job['model']}/{job_id}",
        "result_path": f"/result/{job['model']}/{job_id}" if job["keeps_result"] else None,
    }
    return _event(
        f"job-{job_id}-{job['attempt']}", f"inference.job.{state}", job_id, job["finished_at"], job["team__name"], data
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
