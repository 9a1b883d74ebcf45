"""Status and result of a job: GET /status/{model}/{id} and /result/{model}/{id}, and the same under /api/jobs/{id}/."""

import re
from collections.abc import Callable
from contextlib import ExitStack, suppress
from uuid import UUID

from django.conf import settings
from django.http import HttpResponse, JsonResponse
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework.request import Request

from inference_portal.api import answers
from inference_portal.api.auth import caller_of
from inference_portal.api.negotiation import ByTheView
from inference_portal.api.request_id import OfOneJob, read_uuid
from inference_portal.api.schemas import inference as schemas
from inference_portal.errors import Problem
from inference_portal.jobs.models import Job
from inference_portal.jobs.waiting import NoPlace, hub


class StatusView(OfOneJob):
    """How far a job is."""

    @extend_schema(**schemas.STATUS)
    def get(self, request: Request, model: str | None = None, job_id: UUID | str | None = None) -> HttpResponse:
        """Return the status, with ?wait=N once the job is final or N seconds are over."""
        job = find_job(request, model, job_id, until=lambda job: job.is_final)
        response = JsonResponse(answers.status(job))
        response["X-Inference-Id"] = str(job.id)
        return response


class ResultView(OfOneJob):
    """What a job gave."""

    content_negotiation_class = ByTheView

    @extend_schema(**schemas.RESULT)
    def get(self, request: Request, model: str | None = None, job_id: UUID | str | None = None) -> HttpResponse:
        """Return the result, 202 while the job is open, or the problem that ended it."""
        job = find_job(request, model, job_id, until=answers.knows_result)
        try:
            response = answers.result(request, job) if answers.knows_result(job) else answers.accepted(job)
        except Problem as problem:
            problem.headers["X-Inference-Id"] = str(job.id)
            raise
        response["X-Inference-Id"] = str(job.id)
        return response


@extend_schema_view(get=extend_schema(**schemas.STATUS_BY_HEADER))
class StatusByHeaderView(StatusView):
    """How far the job is whose id is in X-Inference-Id."""


@extend_schema_view(get=extend_schema(**schemas.RESULT_BY_HEADER))
class ResultByHeaderView(ResultView):
    """What the job gave whose id is in X-Inference-Id."""


@extend_schema_view(get=extend_schema(**schemas.JOB_STATUS))
class JobStatusView(StatusView):
    """How far a job is."""


@extend_schema_view(get=extend_schema(**schemas.JOB_RESULT))
class JobResultView(ResultView):
    """What a job gave."""


def find_job(request: Request, model: str | None, path_id: UUID | str | None, until: Callable[[Job], bool]) -> Job:
    """Return the job that path or header name; if `until` isn't true of it yet, once it has ended or ?wait=N seconds
    are over. Raises Problem."""
    job_id = _job_id(request, path_id)
    seconds = _wait(request)
    caller = caller_of(request)
    with ExitStack() as stack:
        waiter = None
        if seconds > 0:
            # Without a free place it doesn't wait. Taken before the look, so that the end can't be missed.
            with suppress(NoPlace):
                waiter = stack.enter_context(hub.place(job_id))
        job = Job.objects.named(job_id, caller, model)
        if job is not None and not until(job) and waiter is not None:
            job = waiter.wait(seconds) or Job.objects.named(job_id, caller, model)
    if job is None:
        raise Problem("not-found", f"There is no job '{job_id}'" + (f" of the model '{model}'." if model else "."))
    return job


def _job_id(request: Request, path_id: UUID | str | None) -> UUID:
    text = request.headers.get("X-Inference-Id") if path_id is None else path_id
    if text is None:
        raise Problem("malformed", "The id is missing: append it to the path, or send X-Inference-Id.")
    wanted = read_uuid(str(text))
    if wanted is None:
        raise Problem("not-found", f"'{text}' is not the id of a job.")
    return wanted


def _wait(request: Request) -> float:
    text = request.query_params.get("wait", "0")
    if not re.fullmatch("[0-9]+", text):
        raise Problem("malformed", f"wait={text}: expected a whole number of seconds")
    return min(float(text), float(settings.MAX_WAIT_SECONDS))
