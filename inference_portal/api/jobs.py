"""/api/jobs/: create, list, look at, cancel."""

from typing import Any
from uuid import UUID

import django_filters
from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import DataError
from django.http import HttpResponse
from django_filters.rest_framework import DjangoFilterBackend
from drf_spectacular.utils import extend_schema
from rest_framework import generics, pagination, serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from inference_portal.accounts.models import Role
from inference_portal.api import answers, job_options, prefer, schemas
from inference_portal.api.auth import caller_of, require_role
from inference_portal.api.infer import read_json_body, refuse_unbuilt_headers
from inference_portal.errors import Problem
from inference_portal.jobs.models import Attempt, Job, JobQuerySet
from inference_portal.jobs.services import job_accept, job_cancel, job_new
from inference_portal.jobs.states import State
from inference_portal.store import model_store
from workers.formats import Decoded, Fault, Invalid, escape, json_body, json_instances, json_v2
from workers.model_store import Release
from workers.schema import MAX_FAULTS

FIELDS = {"model", "version", "inputs", "rows", *job_options.HEADERS.values()}
UNBUILT_FIELDS = {"input_uri", "webhook", "sink", "idempotency_key", "labels"}


class AttemptSerializer(serializers.ModelSerializer[Attempt]):
    """One attempt: where, when and how it ended."""

    class Meta:
        model = Attempt
        fields = ("number", "worker", "host", "device", "started_at", "finished_at", "code", "message")


class JobSerializer(serializers.ModelSerializer[Job]):
    """A job without its payload."""

    team = serializers.CharField(source="team.name", read_only=True)
    priority = serializers.CharField(source="get_priority_display", read_only=True)
    error = serializers.SerializerMethodField()
    status_path = serializers.CharField(read_only=True)
    result_path = serializers.CharField(read_only=True)

    class Meta:
        model = Job
        fields = (
            "id", "team", "submitted_by", "model", "version", "state", "priority", "ordering_key", "attempt",
            "failures", "isolated", "rows", "accepted_at", "queued_at", "expires_at", "started_at", "finished_at",
            "purged_at", "worker", "host", "device", "error", "status_path", "result_path",
        )  # fmt: skip

    def get_error(self, job: Job) -> dict[str, str] | None:
        """Return why it failed or is tried again."""
        return answers.error(job)


class JobDetailSerializer(JobSerializer):
    """A job with its attempts."""

    attempts = AttemptSerializer(many=True, source="all_attempts")

    class Meta(JobSerializer.Meta):
        fields = (*JobSerializer.Meta.fields, "attempts")  # type: ignore[assignment]


class JobFilter(django_filters.FilterSet):
    """The list's filters."""

    state = django_filters.ChoiceFilter(choices=[(s.value, s.value) for s in State])
    created_after = django_filters.IsoDateTimeFilter("accepted_at", "gte")
    created_before = django_filters.IsoDateTimeFilter("accepted_at", "lt")

    class Meta:
        model = Job
        fields = ("state", "model", "version")


class JobPagination(pagination.CursorPagination):
    """Newest first; a cursor stays right while jobs come in."""

    ordering = "-accepted_at"
    page_size = 50
    page_size_query_param = "page_size"
    max_page_size = 500


class JobListView(generics.ListAPIView[Job]):
    """GET lists the team's jobs, POST submits one."""

    queryset = Job.objects.none()
    serializer_class = JobSerializer
    pagination_class = JobPagination
    filter_backends = [DjangoFilterBackend]
    filterset_class = JobFilter

    @extend_schema(**schemas.JOB_LIST)
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """List the team's jobs, newest first."""
        known = {*JobFilter.base_filters, "cursor", "page_size"}
        if unknown := sorted(request.query_params.keys() - known):
            raise Problem("invalid-input", f"There is no filter '{unknown[0]}'; there are {', '.join(sorted(known))}.")
        try:
            return super().get(request, *args, **kwargs)
        except (ValueError, OverflowError, ValidationError, DataError) as error:
            # A cursor that we didn't make, a time that no database holds.
            raise Problem("malformed", f"A filter or the cursor can't be read: {error}") from error

    def get_queryset(self) -> JobQuerySet:
        """Return the jobs that exist for the caller."""
        return Job.objects.visible_to(caller_of(self.request)).without_payload().select_related("team")

    @extend_schema(**schemas.JOB_CREATE)
    def post(self, request: Request) -> HttpResponse:
        """Submit a job and return at once, as Prefer: respond-async does."""
        prefer.parse(request.headers.get("Prefer"), settings.MAX_WAIT_SECONDS)
        refuse_unbuilt_headers(request)
        job_options.refuse_headers(request.headers)
        data = json_body.read_object(read_json_body(request))
        if unbuilt := sorted(UNBUILT_FIELDS & data.keys()):
            faults = tuple(Fault(f"/{name}", "not available yet, leave it out") for name in unbuilt)
            raise Problem("not-available", f"Not available yet: {', '.join(unbuilt)}.", faults=faults)
        if unknown := sorted(data.keys() - FIELDS):
            raise Invalid(*(Fault(f"/{escape(name)}", "there is no such field") for name in unknown[:MAX_FAULTS]))
        options = job_options.from_fields(data)
        release = _release(data)
        job = job_new(caller=caller_of(request), release=release, decoded=_decode(release, data), **options)
        job_accept(job=job)
        response = answers.accepted(job)
        response["X-Inference-Id"] = str(job.id)
        return response


class JobView(generics.RetrieveAPIView[Job]):
    """GET one job with its attempts."""

    queryset = Job.objects.none()
    serializer_class = JobDetailSerializer
    lookup_url_kwarg = "job_id"

    @extend_schema(**schemas.JOB_DETAIL)
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Return the job, without its payload."""
        return super().get(request, *args, **kwargs)

    def get_queryset(self) -> JobQuerySet:
        """Return the jobs that exist for the caller."""
        jobs = Job.objects.visible_to(caller_of(self.request)).without_payload()
        return jobs.select_related("team").prefetch_related("failed_attempts")


class JobCancelView(APIView):
    """POST cancels a job that is still open."""

    # Whether the job exists for the caller comes first: another team's is 404 for everybody.
    required_role = Role.VIEWER

    @extend_schema(**schemas.JOB_CANCEL)
    def post(self, request: Request, job_id: UUID) -> HttpResponse:
        """Cancel; what a worker still computes for it is thrown away."""
        job = Job.objects.visible_to(caller_of(request)).without_payload().filter(id=job_id).first()
        if job is None:
            raise Problem("not-found", f"There is no job '{job_id}'.")
        require_role(caller_of(request), Role.SUBMITTER)
        if not job_cancel(job_id=job.id):
            job.refresh_from_db(fields=["state"])
            raise Problem("conflict", f"The job is {job.state}, it can't be cancelled any more.")
        job.refresh_from_db(fields=["state", "finished_at"])
        return Response(JobSerializer(job).data, status=202)


def _release(data: dict[str, Any]) -> Release:
    model, version = data.get("model"), data.get("version")
    if not isinstance(model, str):
        raise Invalid(Fault("/model", "expected the name of a model"))
    if version is not None and not isinstance(version, str):
        raise Invalid(Fault("/version", 'expected text, such as "1"'))
    return model_store().get(model, version)


def _decode(release: Release, data: dict[str, Any]) -> Decoded:
    if ("inputs" in data) == ("rows" in data):
        raise Invalid(Fault("", "expected either 'inputs' (V2 tensors) or 'rows'"))
    if "inputs" in data:
        return json_v2.decode(release, data, settings.MAX_REQUEST_ROWS)
    return json_instances.decode(release, data["rows"], settings.MAX_REQUEST_ROWS, key="rows")
