"""GET /status/{model}/{id} and /result/{model}/{id}, and both with the id in X-Inference-Id."""

from uuid import UUID

from django.conf import settings
from django.http import HttpResponse, JsonResponse
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.views import APIView

from inference_portal.api import answers, schemas
from inference_portal.api.auth import caller_of
from inference_portal.errors import Problem
from inference_portal.jobs.models import Job
from inference_portal.jobs.waiting import NoPlace, hub


class StatusView(APIView):
    """How far a job is."""

    @extend_schema(**schemas.STATUS)
    def get(self, request: Request, model: str, job_id: str | None = None) -> HttpResponse:
        """Return the status, with ?wait=N once the job is final or N seconds are over."""
        job = find_job(request, model, job_id)
        job = waited(request, job)
        response = JsonResponse(answers.status(job))
        response["X-Inference-Id"] = str(job.id)
        return response


class ResultView(APIView):
    """What a job gave."""

    @extend_schema(**schemas.RESULT)
    def get(self, request: Request, model: str, job_id: str | None = None) -> HttpResponse:
        """Return the result, 202 while the job is open, or the problem that ended it."""
        job = waited(request, find_job(request, model, job_id))
        response = answers.result(job) if job.is_final else answers.accepted(job)
        response["X-Inference-Id"] = str(job.id)
        return response


class StatusByHeaderView(StatusView):
    """How far the job is whose id is in X-Inference-Id."""

    @extend_schema(operation_id="status_by_header", **schemas.STATUS)
    def get(self, request: Request, model: str) -> HttpResponse:  # type: ignore[override]
        """Return the status; see StatusView."""
        return super().get(request, model)


class ResultByHeaderView(ResultView):
    """What the job gave whose id is in X-Inference-Id."""

    @extend_schema(operation_id="result_by_header", **schemas.RESULT)
    def get(self, request: Request, model: str) -> HttpResponse:  # type: ignore[override]
        """Return the result; see ResultView."""
        return super().get(request, model)


def find_job(request: Request, model: str, job_id: str | None) -> Job:
    """Return the job that path or header name, if it exists for the caller. Raises Problem."""
    header = request.headers.get("X-Inference-Id")
    if job_id is None and header is None:
        raise Problem("malformed", "The id is missing: append it to the path, or send X-Inference-Id.")
    if job_id is not None and header is not None and _uuid(header) != _uuid(job_id):
        raise Problem("malformed", f"X-Inference-Id '{header}' contradicts the path, which names '{job_id}'.")
    wanted = _uuid(job_id or header or "")
    job = (
        Job.objects.visible_to(caller_of(request)).defer("input").filter(id=wanted, model=model).first()
        if wanted
        else None
    )
    if job is None:
        raise Problem("not-found", f"There is no job '{job_id or header}' of the model '{model}'.")
    return job


def waited(request: Request, job: Job) -> Job:
    """Return the job, after at most ?wait=N seconds if it is open. Without a free place it doesn't wait."""
    wait = request.query_params.get("wait")
    if wait is None:
        return job
    if not (wait.isascii() and wait.isdigit() and len(wait) < 10):
        raise Problem("malformed", f"wait={wait}: expected a whole number of seconds")
    if job.is_final or wait == "0":
        return job
    try:
        with hub.place(job.id) as waiter:
            # Once more, now that its end can't be missed.
            job.refresh_from_db(fields=["state"])
            if not job.is_final:
                final = waiter.wait(min(float(wait), settings.MAX_WAIT_SECONDS))
                if final is not None:
                    return final
    except NoPlace:
        pass
    return Job.objects.defer("input").get(id=job.id)


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
