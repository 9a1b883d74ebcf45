"""What the team does to one of its jobs: cancel it, run it again."""

from uuid import UUID

from django.http import HttpResponse
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from inference_portal.accounts.models import Role
from inference_portal.api import answers
from inference_portal.api.auth import caller_of, require_role
from inference_portal.api.body import read_object, version_of
from inference_portal.api.job_fields import JobSerializer
from inference_portal.api.request_id import OfOneJob
from inference_portal.api.schemas import jobs as schemas
from inference_portal.catalog.traffic import refuse_retired
from inference_portal.errors import Problem
from inference_portal.jobs.models import Job
from inference_portal.jobs.rerun import NotWaiting, rerun
from inference_portal.jobs.services import job_cancel


class JobActionView(OfOneJob):
    """A view that changes one job. Whether it exists for the caller comes first: another team's is 404."""

    required_role = Role.VIEWER

    def job(self, request: Request, job_id: UUID, *without: str) -> Job:
        """Return the job without these columns. Raises Problem, PermissionDenied."""
        job = Job.objects.visible_to(caller_of(request)).defer(*without).filter(id=job_id).first()
        if job is None:
            raise Problem("not-found", f"There is no job '{job_id}'.")
        require_role(caller_of(request), Role.SUBMITTER)
        if job.step:
            raise Problem("conflict", f"The job is a step of batch {job.batch_id}; act on the batch.")
        return job


class JobCancelView(JobActionView):
    """POST cancels a job that is still open."""

    @extend_schema(**schemas.JOB_CANCEL)
    def post(self, request: Request, job_id: UUID) -> HttpResponse:
        """Cancel; what a worker still computes for it is thrown away."""
        job = self.job(request, job_id, "input", "result")
        if not job_cancel(job_id=job.id):
            job.refresh_from_db(fields=["state"])
            raise Problem("conflict", f"The job is {job.state}, it can't be cancelled any more.")
        job.refresh_from_db(fields=["state", "finished_at"])
        return Response(JobSerializer(job).data, status=202)


class JobRerunView(JobActionView):
    """POST runs a job again that ended without a result."""

    @extend_schema(**schemas.JOB_RERUN)
    def post(self, request: Request, job_id: UUID) -> HttpResponse:
        """Put it back into the queue, as its next attempt."""
        job = self.job(request, job_id, "result")
        version = version_of(read_object(request, "version"))
        refuse_retired(job.model, version)
        try:
            job = rerun(job=job, caller=caller_of(request), version=version)
        except NotWaiting as refusal:
            raise Problem("conflict", str(refusal)) from refusal
        response = answers.accepted(job)
        response["X-Inference-Id"] = str(job.id)
        return response
