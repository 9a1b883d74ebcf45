"""/api/dead-letters/: what was given up and waits for an operator, who replays or discards it."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import orjson
from django.http import HttpResponse
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from inference_portal.accounts.models import Role
from inference_portal.api import answers
from inference_portal.api.auth import caller_of
from inference_portal.api.body import read_object, version_of
from inference_portal.api.job_fields import AttemptSerializer
from inference_portal.api.lists import FilteredListView
from inference_portal.api.request_id import OfOneJob
from inference_portal.api.schemas import dead_letters as schemas
from inference_portal.catalog.traffic import refuse_retired
from inference_portal.errors import Problem, as_problem, problem_of_many
from inference_portal.jobs import dead_letters
from inference_portal.jobs.dead_letters import UnknownDeadLetter
from inference_portal.jobs.models import AuditEntry, Job, JobQuerySet
from inference_portal.jobs.rerun import NotWaiting, Read
from inference_portal.jobs.states import Event, sources
from inference_portal.jobs.stored_input import stored_input
from inference_portal.limits import request_limits
from workers.formats import Fault, Invalid, json_instances, json_v2


class DeadLetterSerializer(serializers.ModelSerializer[Job]):
    """A dead letter as the list shows it."""

    team = serializers.CharField(source="team.name", read_only=True)
    reason = serializers.SerializerMethodField()

    class Meta:
        model = Job
        fields = (
            "id", "team", "submitted_by", "model", "version", "rows", "attempt", "isolated", "reason", "worker",
            "accepted_at", "finished_at", "discarded_at",
        )  # fmt: skip

    def get_reason(self, job: Job) -> dict[str, str]:
        """Return why it was given up."""
        return {"code": job.error_code, "message": job.error_message}


class TracedAttemptSerializer(AttemptSerializer):
    """One attempt with what only operators see."""

    class Meta(AttemptSerializer.Meta):
        fields = (*AttemptSerializer.Meta.fields, "traceback")  # type: ignore[assignment]


class AuditSerializer(serializers.ModelSerializer[AuditEntry]):
    """Who did what to it."""

    class Meta:
        model = AuditEntry
        fields = ("at", "who", "action", "reason", "changes")


class OperatorView(APIView):
    """A view for operators that knows why a dead letter may be refused."""

    required_role = Role.OPERATOR

    def handle_exception(self, error: Exception) -> Response:
        """Answer with the problem."""
        return super().handle_exception(_translated(error))


class DeadLetterListView(FilteredListView[Job]):
    """GET lists what waits."""

    required_role = Role.OPERATOR
    queryset = Job.objects.none()
    serializer_class = DeadLetterSerializer
    newest_by = "finished_at"
    filters = {"model": "model", "version": "version", "team": "team__name", "code": "error_code"}

    @extend_schema(**schemas.DEAD_LETTER_LIST)
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """List the dead letters that wait for a person."""
        return super().get(request, *args, **kwargs)

    def get_queryset(self) -> JobQuerySet:
        """Return what waits."""
        waiting = Job.objects.visible_to(caller_of(self.request)).dead_letters()
        return waiting.without_payload().select_related("team")


class DeadLetterView(OfOneJob, OperatorView):
    """GET one with all that is known about it."""

    @extend_schema(**schemas.DEAD_LETTER_DETAIL)
    def get(self, request: Request, job_id: UUID) -> HttpResponse:
        """Return a dead letter, discarded or not, with attempts, input and what people did to it."""
        dead = Job.objects.visible_to(caller_of(request)).filter(id=job_id, state__in=sources(Event.REPLAY))
        job = dead.defer("result").select_related("team").prefetch_related("failed_attempts").first()
        if job is None:
            raise Problem("not-found", f"There is no dead letter '{job_id}'.")
        kept = stored_input(job)
        body = DeadLetterSerializer(job).data | {
            "attempts": TracedAttemptSerializer(job.all_attempts, many=True).data,
            "input": None if kept is None else {"rows": kept.rows},
            "audit": AuditSerializer(AuditEntry.objects.filter(job_id=job.id), many=True).data,
        }
        return HttpResponse(orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY), content_type="application/json")


class ReplayView(OfOneJob, OperatorView):
    """POST tries one again."""

    @extend_schema(**schemas.REPLAY)
    def post(self, request: Request, job_id: UUID) -> HttpResponse:
        """Put it back into the queue, perhaps with another version or input."""
        data = read_object(request, "version", "inputs", "rows")
        version = _version_for(job_id, data)
        job = dead_letters.replay(job_id=job_id, caller=caller_of(request), version=version, read=_reader(data))
        response = answers.accepted(job)
        response["X-Inference-Id"] = str(job.id)
        return response


class DiscardView(OfOneJob, OperatorView):
    """POST lets one go."""

    @extend_schema(**schemas.DISCARD)
    def post(self, request: Request, job_id: UUID) -> Response:
        """Take it off the list."""
        data = read_object(request, "reason")
        job = dead_letters.discard(job_id=job_id, caller=caller_of(request), reason=reason_of(data))
        return Response(DeadLetterSerializer(job).data)


class BulkReplayView(OperatorView):
    """POST tries many again."""

    @extend_schema(**schemas.BULK_REPLAY)
    def post(self, request: Request) -> Response:
        """Put them back into the queue; one that can't be doesn't stop the others."""
        data = read_object(request, "ids", "version")
        caller = caller_of(request)
        version_of(data)

        def act(text: Any) -> dict[str, Any]:
            job_id = _uuid(text)
            job = dead_letters.replay(job_id=job_id, caller=caller, version=_version_for(job_id, data))
            return {"status": 202, **answers.paths(job)}

        return _in_bulk(request, data, act)


class BulkDiscardView(OperatorView):
    """POST lets many go."""

    @extend_schema(**schemas.BULK_DISCARD)
    def post(self, request: Request) -> Response:
        """Take them off the list; one that can't be doesn't stop the others."""
        data = read_object(request, "ids", "reason")
        caller, reason = caller_of(request), reason_of(data)

        def act(job_id: Any) -> dict[str, Any]:
            job = dead_letters.discard(job_id=_uuid(job_id), caller=caller, reason=reason)
            return {"status": 200, **DeadLetterSerializer(job).data}

        return _in_bulk(request, data, act)


def reason_of(data: dict[str, Any]) -> str:
    """Return the body's reason. Raises Invalid."""
    reason = data.get("reason", "")
    if not isinstance(reason, str):
        raise Invalid(Fault("/reason", "expected text"))
    return dead_letters.checked_reason(reason)


def _in_bulk(request: Request, data: dict[str, Any], act: Callable[[Any], dict[str, Any]]) -> Response:
    """Return one answer for each of the body's ids, in their order. Raises Invalid for the list itself."""
    ids = data.get("ids")
    if not isinstance(ids, list) or not 1 <= len(ids) <= dead_letters.MAX_BULK:
        raise Invalid(Fault("/ids", f"expected a list of 1 to {dead_letters.MAX_BULK:,} ids"))
    results = [
        problem_of_many(request, as_problem(_translated(done))) if isinstance(done, Exception) else done
        for _, done in dead_letters.each(ids, act)
    ]
    return Response({"results": results})


def _reader(data: dict[str, Any]) -> Read | None:
    """Return what reads the body's input for a release; None when it has none."""
    if "inputs" in data and "rows" in data:
        raise Invalid(Fault("/rows", "expected either 'inputs' (V2 tensors) or 'rows', not both"))
    limits = request_limits()
    if "inputs" in data:
        return lambda release: json_v2.decode(release, data, limits).matrix
    if "rows" in data:
        return lambda release: json_instances.decode(release, data["rows"], limits, key="rows").matrix
    return None


def _version_for(job_id: UUID, data: dict[str, Any]) -> str | None:
    """Return the body's version. Raises Invalid for what is none, and for one that is retired of the job's model."""
    version = version_of(data)
    if version is not None:
        for model in Job.objects.filter(id=job_id).values_list("model", flat=True):
            refuse_retired(model, version)
    return version


def _uuid(text: Any) -> UUID:
    try:
        return UUID(text)
    except (ValueError, TypeError, AttributeError):
        raise UnknownDeadLetter(f"{str(text)[:100]!r} is not the id of a job.") from None


def _translated(error: Exception) -> Exception:
    match error:
        case UnknownDeadLetter():
            return Problem("not-found", str(error))
        case NotWaiting():
            return Problem("conflict", str(error))
    return error
