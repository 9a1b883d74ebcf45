"""GET /api/jobs/{id}/receipt/: what made a result."""

from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from inference_portal.api.auth import caller_of
from inference_portal.api.request_id import OfOneJob
from inference_portal.api.schemas import jobs as schemas
from inference_portal.errors import Problem
from inference_portal.jobs.models import Job
from inference_portal.jobs.states import State


class ReceiptSerializer(serializers.ModelSerializer[Job]):
    """Everything that one needs to make the result again, and where and when it was made."""

    model_sha256 = serializers.CharField(source="sha256")
    libraries = serializers.SerializerMethodField()

    class Meta:
        model = Job
        fields = (
            "id", "model", "version", "model_sha256", "input_sha256", "rows", "libraries", "device", "worker", "host",
            "attempt", "accepted_at", "queued_at", "started_at", "finished_at",
        )  # fmt: skip

    def get_libraries(self, job: Job) -> dict[str, str]:
        """Return the version of each library."""
        return dict(part.split(" ", 1) for part in job.libraries.split(", ") if " " in part)


class ReceiptView(OfOneJob):
    """GET what made the result."""

    @extend_schema(**schemas.JOB_RECEIPT)
    def get(self, request: Request, job_id: UUID) -> Response:
        """Return the receipt of a job that succeeded; it outlives the result."""
        job = Job.objects.visible_to(caller_of(request)).without_payload().filter(id=job_id).first()
        if job is None:
            raise Problem("not-found", f"There is no job '{job_id}'.")
        if job.state != State.SUCCEEDED:
            raise Problem("conflict", f"The job is {job.state}: there is no result that a receipt could be about.")
        return Response(ReceiptSerializer(job).data)
