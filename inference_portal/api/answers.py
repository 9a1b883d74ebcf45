"""What a job answers with: its status, its result, or the problem that ended it."""

from datetime import datetime
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse

from inference_portal.api.accept import ANYTHING, preferred
from inference_portal.errors import JOB_PROBLEMS, Problem
from inference_portal.jobs import relay
from inference_portal.jobs.models import Job
from inference_portal.jobs.pace import ask_again
from inference_portal.jobs.position import queue_position
from inference_portal.jobs.states import State
from workers.formats import media
from workers.formats.answer import Answer

_OLDER_DIALECT = {State.QUEUED: "Queue", State.RETRYING: "Queue", State.RUNNING: "Inference"}


def paths(job: Job) -> dict[str, str]:
    """Return where to look for a job: the body of its 202."""
    return {"Id": str(job.id), "StatusPath": job.status_path, "ResultPath": job.result_path}


def accepted(job: Job) -> JsonResponse:
    """Return the 202 of a job that is under way."""
    response = JsonResponse(paths(job), status=202)
    response["Location"] = job.result_path
    response["Retry-After"] = str(ask_again(job))
    return response


def forgotten(job: Job) -> HttpResponse:
    """Return the 202 of fire and forget: nothing to fetch, but a status to ask for."""
    response = HttpResponse(status=202)
    # Django says text/html of an empty body, too.
    del response["Content-Type"]
    response["Retry-After"] = str(ask_again(job))
    return response


def wait_expired(job: Job) -> Problem:
    """Return the 504 of a synchronous request whose job goes on."""
    return Problem(
        "wait-expired",
        f"Job {job.id} goes on; its result will be at {job.result_path}.",
        headers={"Location": job.result_path, "Retry-After": str(ask_again(job))},
    )


def knows_result(job: Job) -> bool:
    """Tell whether `result` can say what it will say: of fire and forget, that there is none to fetch."""
    return job.is_final or not job.keeps_result


def result(request: HttpRequest | Any, job: Job) -> HttpResponse:
    """Return a job's result, in the accepted format. Raises the problem that ended the job, a 410, or a 406."""
    if job.is_final and job.state != State.SUCCEEDED:
        raise job_problem(job)
    if not job.keeps_result:
        raise Problem("result-not-kept", f"Job {job.id} was sent as fire and forget; its result is not kept.")
    if job.purged_at is not None:
        raise Problem("result-purged", f"The result of job {job.id} was removed at {job.purged_at:%Y-%m-%d %H:%M} UTC.")
    if job.is_relay:
        return relayed(relay.relayed(job))
    answer = Answer.of(
        job.reply, model=job.model, version=job.version, job_id=str(job.id), outputs=bytes(job.result or b"[]")
    )
    body, content_type, headers = media.encode(format_for(request, job), answer)
    return HttpResponse(body, content_type=content_type, headers=headers | {"Vary": "Accept"})


def relayed(answer: relay.Relayed) -> HttpResponse:
    """Return what a container has answered: its status, body and content type."""
    response = HttpResponse(answer.body, status=answer.status, content_type=answer.content_type or None)
    if not answer.content_type:
        del response["Content-Type"]
    # It comes from elsewhere: no page of it acts as one of ours.
    response["Content-Security-Policy"] = "sandbox"
    return response


def format_for(request: HttpRequest | Any, job: Job) -> str:
    """Return the media type of the job's result that the client likes best. Raises Problem (406) if it takes none.

    Of equals the type that answers the request by default goes first.
    """
    default, header = media.default_type(job.reply), request.headers.get("Accept", ANYTHING)
    # What nearly all clients send: nothing to read.
    if header == ANYTHING:
        return default
    accepted = preferred(header, dict.fromkeys((default, *media.ANSWERS)))
    if accepted is None:
        raise Problem("not-acceptable", f"The result can be had as {', '.join(media.ANSWERS)}.")
    return accepted


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
