"""What a job answers with: its status, its result, or the problem that ended it."""

from datetime import datetime
from typing import Any

import orjson
from django.http import HttpResponse, JsonResponse

from inference_portal.errors import JOB_PROBLEMS, Problem
from inference_portal.jobs.models import Job
from inference_portal.jobs.position import queue_position
from inference_portal.jobs.states import State
from workers.formats import json_instances, json_v2

# Seconds after which it's worth asking again.
POLL_AFTER = "1"

_OLDER_DIALECT = {State.QUEUED: "Queue", State.RETRYING: "Queue", State.RUNNING: "Inference"}


def accepted(job: Job) -> JsonResponse:
    """Return the 202 of a job that is under way."""
    response = JsonResponse(
        {"Id": str(job.id), "StatusPath": job.status_path, "ResultPath": job.result_path}, status=202
    )
    response["Location"] = job.result_path
    response["Retry-After"] = POLL_AFTER
    return response


def wait_expired(job: Job) -> Problem:
    """Return the 504 of a synchronous request whose job goes on."""
    return Problem(
        "wait-expired",
        f"Job {job.id} goes on; its result will be at {job.result_path}.",
        headers={"Location": job.result_path, "Retry-After": POLL_AFTER},
    )


def result(job: Job) -> HttpResponse:
    """Return a final job's result in the format of its request. Raises the problem that ended it."""
    if job.state != State.SUCCEEDED:
        raise job_problem(job)
    if job.purged_at is not None:
        raise Problem("result-purged", f"The result of job {job.id} was removed at {job.purged_at:%Y-%m-%d %H:%M} UTC.")
    outputs = bytes(job.result or b"[]")
    if wanted := job.reply.get("outputs"):
        by_name = {tensor["name"]: tensor for tensor in orjson.loads(outputs)}
        outputs = orjson.dumps([by_name[name] for name in wanted])
    if job.reply["format"] == json_v2.NAME:
        body = json_v2.encode(job.model, job.version, job.reply.get("id") or str(job.id), outputs)
    else:
        body = json_instances.encode(outputs)
    return HttpResponse(body, content_type="application/json")


def job_problem(job: Job) -> Problem:
    """Return the problem that a job which ended without a result answers with."""
    if job.state == State.CANCELLED:
        return Problem("cancelled", f"Job {job.id} was cancelled.")
    if job.state == State.EXPIRED:
        return Problem("expired", f"Job {job.id} expired: {job.error_message}")
    if job.state == State.DEAD_LETTERED:
        return Problem("dead-lettered", f"Given up after {job.attempt} attempts: {job.error_message}")
    return Problem(JOB_PROBLEMS.get(job.error_code, "model-error"), job.error_message)


def status(job: Job) -> dict[str, Any]:
    """Return the status document; `Status` speaks the older dialect, `State` ours. Times are ISO 8601, UTC."""
    state = State(job.state)
    return {
        "Id": str(job.id),
        "Status": _OLDER_DIALECT.get(state, "Completed"),
        "State": state,
        "Error": error(job),
        "Attempts": job.attempt,
        "QueuePosition": queue_position(job),
        "QueuedAt": job.queued_at,
        "StartedAt": job.started_at,
        "FinishedAt": job.finished_at,
        "QueueSeconds": _seconds(job.queued_at, job.started_at),
        "RunSeconds": _seconds(job.started_at, job.finished_at),
    }


def error(job: Job) -> dict[str, str] | None:
    """Return why a job failed or is being tried again; None when nothing is wrong."""
    if job.state == State.CANCELLED:
        return {"code": "cancelled", "message": "cancelled on request"}
    return {"code": job.error_code, "message": job.error_message} if job.error_code else None


def _seconds(start: datetime | None, end: datetime | None) -> float | None:
    """Return the time between two clocks, which may differ a little: never negative."""
    if start is None or end is None:
        return None
    return max(0.0, (end - start).total_seconds())
