"""/api/jobs/: create one or many, list, look at."""

from typing import Any
from uuid import UUID

import django_filters
from django.http import HttpResponse
from django_filters.rest_framework import DjangoFilterBackend
from drf_spectacular.utils import extend_schema
from rest_framework import generics
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from inference_portal.api import answers, job_options, request_id, submission
from inference_portal.api.auth import caller_of
from inference_portal.api.body import read_json_body, read_object
from inference_portal.api.input_files import InputFiles
from inference_portal.api.job_fields import JobDetailSerializer, JobSerializer
from inference_portal.api.lists import NewestFirst, check_parameters
from inference_portal.api.request_id import Names, OfOneJob
from inference_portal.api.schemas import jobs as schemas
from inference_portal.api.submission import Submission
from inference_portal.errors import as_problem, problem_of_many
from inference_portal.jobs.models import Job, JobQuerySet
from inference_portal.jobs.states import State
from workers.formats import Fault, Invalid, json_body


class JobFilter(django_filters.FilterSet):
    """The list's filters."""

    state = django_filters.ChoiceFilter(choices=[(s.value, s.value) for s in State])
    label = django_filters.CharFilter(method="labelled", strip=False)
    batch = django_filters.UUIDFilter("batch_id")
    created_after = django_filters.IsoDateTimeFilter("accepted_at", "gte")
    created_before = django_filters.IsoDateTimeFilter("accepted_at", "lt")

    class Meta:
        model = Job
        fields = ("state", "model", "version")

    def labelled(self, jobs: JobQuerySet, name: str, label: str) -> JobQuerySet:
        """Keep what carries the label."""
        # A line feed would find the end of one label and the beginning of the next.
        return jobs.labelled(label) if label.isprintable() else jobs.none()


class JobListView(generics.ListAPIView[Job]):
    """GET lists the team's jobs, POST submits one."""

    queryset = Job.objects.none()
    serializer_class = JobSerializer
    pagination_class = NewestFirst
    newest_by = "accepted_at"
    filter_backends = [DjangoFilterBackend]
    filterset_class = JobFilter

    @extend_schema(**schemas.JOB_LIST)
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """List the team's jobs, newest first."""
        check_parameters(request.query_params, JobFilter.base_filters)
        return super().get(request, *args, **kwargs)

    def get_queryset(self) -> JobQuerySet:
        """Return the jobs that exist for the caller."""
        jobs = Job.objects.visible_to(caller_of(self.request)).without_payload().select_related("team")
        # The steps of a batch are for those who ask for them.
        return jobs if "batch" in self.request.query_params else jobs.requests()

    @extend_schema(**schemas.JOB_CREATE)
    def post(self, request: Request) -> HttpResponse:
        """Submit a job and return at once, as Prefer: respond-async does."""
        return _submit(request, request_id.names(request.headers))


class JobView(OfOneJob, generics.RetrieveAPIView[Job]):
    """GET one job with its attempts, PUT submits it under the client's own id."""

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

    @extend_schema(**schemas.JOB_PUT)
    def put(self, request: Request, job_id: UUID) -> HttpResponse:
        """Submit a job under this id; sent again, it is the same job."""
        return _submit(request, Names(job_id, request_id.names(request.headers).key))


class JobBulkView(APIView):
    """POST submits many jobs."""

    @extend_schema(**schemas.JOB_BULK)
    def post(self, request: Request) -> Response:
        """Submit up to MAX_BULK jobs, each for itself: what is wrong with one doesn't stop the others."""
        job_options.refuse_headers(request.headers)
        request_id.refuse_headers(request.headers)
        items = read_object(request, "jobs").get("jobs")
        if not isinstance(items, list) or not 1 <= len(items) <= submission.MAX_BULK:
            raise Invalid(Fault("/jobs", f"expected a list of 1 to {submission.MAX_BULK:,} jobs"))
        caller = caller_of(request)
        files = InputFiles(caller)
        read: list[Submission | Exception] = []
        for item in items:
            try:
                read.append(submission.read(item, caller, files))
            except submission.REFUSALS as refusal:
                read.append(refusal)
        stored = iter(submission.store([each for each in read if isinstance(each, Submission)], caller))
        done = [next(stored) if isinstance(each, Submission) else each for each in read]
        # A database that went away gives all that came together one error: it is looked at, and logged, once.
        answered = {id(each): _answer(request, each) for each in {id(each): each for each in done}.values()}
        return Response({"results": [answered[id(each)] for each in done]})


def _submit(request: Request, names: Names) -> HttpResponse:
    job_options.refuse_headers(request.headers)
    data = json_body.read_object(read_json_body(request))
    caller = caller_of(request)
    (stored,) = submission.store([submission.read(data, caller, InputFiles(caller), names)], caller)
    if isinstance(stored, BaseException):
        raise stored
    response = answers.accepted(stored)
    response["X-Inference-Id"] = str(stored.id)
    return response


def _answer(request: Request, done: Job | BaseException) -> dict[str, Any]:
    """Return one job's part of the answer to many."""
    if isinstance(done, Job):
        return {"status": 202, **answers.paths(done)}
    return problem_of_many(request, as_problem(done))
