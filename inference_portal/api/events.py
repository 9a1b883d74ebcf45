"""GET /api/jobs/{id}/events/: server-sent events, the state now and then each change, until the end."""

from uuid import UUID

from django.http import HttpResponseBase
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request

from inference_portal.api import answers
from inference_portal.api.auth import caller_of
from inference_portal.api.event_stream import Event, follow
from inference_portal.api.negotiation import ByTheView
from inference_portal.api.request_id import OfOneJob
from inference_portal.api.schemas import jobs as schemas
from inference_portal.errors import Problem
from inference_portal.jobs.models import Job
from inference_portal.jobs.streams import streams


class JobEventsView(OfOneJob):
    """GET a stream of a job's states."""

    content_negotiation_class = ByTheView

    @extend_schema(**schemas.JOB_EVENTS)
    def get(self, request: Request, job_id: UUID) -> HttpResponseBase:
        """Stream them."""
        job = Job.objects.named(job_id, caller_of(request))
        if job is None:
            raise Problem("not-found", f"There is no job '{job_id}'.")
        response = follow(request, streams, job, _event, answers.status)
        if response.status_code == 200:
            response["X-Inference-Id"] = str(job.id)
        return response


def _event(job: Job) -> Event:
    return Event(f"{job.attempt}-{job.state}", job.is_final)
