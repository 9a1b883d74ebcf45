"""/api/schedules/: batches that run by themselves: make, look at, change, remove; their runs."""

from typing import Any
from uuid import UUID

from django.db.models import OuterRef, QuerySet, Subquery
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from inference_portal.accounts.models import Role
from inference_portal.api.auth import caller_of, require_role
from inference_portal.api.body import read_json_body, read_object
from inference_portal.api.lists import FilteredListView
from inference_portal.api.schemas import schedules as schemas
from inference_portal.batches.models import Batch
from inference_portal.batches.schedules import asked, services
from inference_portal.batches.schedules.due import upcoming
from inference_portal.batches.schedules.models import Kind, Outcome, Schedule, ScheduleQuerySet, ScheduleRun
from inference_portal.batches.schedules.services import Busy
from inference_portal.errors import Problem
from workers.formats import Fault, Invalid, escape, json_body, shown
from workers.schema import MAX_FAULTS

# So many of the next instants are told.
COMING = 5


class ScheduleSerializer(serializers.ModelSerializer[Schedule]):
    """A schedule, and when it is due next."""

    team = serializers.CharField(source="team.name", read_only=True)
    cron = serializers.SerializerMethodField()

    class Meta:
        model = Schedule
        fields = (
            "id", "team", "submitted_by", "name", "cron", "every_seconds", "at", "timezone", "batch", "catch_up",
            "overlap", "rehearsal", "enabled", "created_at", "last_due_at", "next_due_at", "next_rehearsal_at",
        )  # fmt: skip

    def get_cron(self, schedule: Schedule) -> str | None:
        """Return the cron line, None for none."""
        return schedule.cron or None


class ScheduleRunSerializer(serializers.ModelSerializer[ScheduleRun]):
    """A run, and what became of it and of its batch."""

    batch = serializers.UUIDField(source="batch_id", read_only=True)
    state = serializers.SerializerMethodField()

    class Meta:
        model = ScheduleRun
        fields = ("due_at", "kind", "outcome", "why", "warnings", "batch", "state", "decided_at", "made_at")

    def get_state(self, run: ScheduleRun) -> str | None:
        """Return its batch's state, as the list has looked it up."""
        state: str | None = getattr(run, "state", None)
        return state


class OfOneSchedule(APIView):
    """A view of the schedule that its path names. Whether it exists for the caller comes before what the role may."""

    required_role = Role.VIEWER

    def schedule(self, request: Request, schedule_id: UUID, *, to_change: bool = False) -> Schedule:
        """Return it. Raises Problem; PermissionDenied where it shall be changed by one who may only read."""
        caller = caller_of(request)
        schedule = Schedule.objects.visible_to(caller).select_related("team").filter(id=schedule_id).first()
        if schedule is None:
            raise Problem("not-found", f"There is no schedule '{schedule_id}'.")
        if to_change:
            require_role(caller, Role.SUBMITTER)
        return schedule


class ScheduleListView(FilteredListView[Schedule]):
    """GET lists the team's schedules, POST makes one."""

    queryset = Schedule.objects.none()
    serializer_class = ScheduleSerializer
    newest_by = "created_at"
    filters = {"name": "name"}

    @extend_schema(**schemas.SCHEDULE_LIST)
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """List the team's schedules, newest first."""
        return super().get(request, *args, **kwargs)

    def get_queryset(self) -> ScheduleQuerySet:
        """Return the schedules that exist for the caller."""
        return Schedule.objects.visible_to(caller_of(self.request)).select_related("team")

    @extend_schema(**schemas.SCHEDULE_CREATE)
    def post(self, request: Request) -> Response:
        """Make one; the first instant after now is its first."""
        data = json_body.read_object(read_json_body(request))
        schedule = services.schedule_new(data=data, caller=caller_of(request))
        return Response(_document(schedule), status=201, headers={"Location": f"/api/schedules/{schedule.id}/"})


class ScheduleView(OfOneSchedule):
    """GET one schedule, PUT and PATCH change it, DELETE removes it."""

    @extend_schema(**schemas.SCHEDULE_DETAIL)
    def get(self, request: Request, schedule_id: UUID) -> Response:
        """Return the schedule with its next instants."""
        return Response(_document(self.schedule(request, schedule_id)))

    @extend_schema(**schemas.SCHEDULE_PUT)
    def put(self, request: Request, schedule_id: UUID) -> Response:
        """Put another one in its place; its runs stay."""
        return self._change(request, schedule_id, replaces=True)

    @extend_schema(**schemas.SCHEDULE_PATCH)
    def patch(self, request: Request, schedule_id: UUID) -> Response:
        """Change what the body names."""
        return self._change(request, schedule_id, replaces=False)

    @extend_schema(**schemas.SCHEDULE_DELETE)
    def delete(self, request: Request, schedule_id: UUID) -> Response:
        """Remove it and the list of its runs; their batches stay."""
        self.schedule(request, schedule_id, to_change=True)
        services.schedule_delete(schedule_id=schedule_id, caller=caller_of(request))
        return Response(status=204)

    def _change(self, request: Request, schedule_id: UUID, *, replaces: bool) -> Response:
        self.schedule(request, schedule_id, to_change=True)
        data = json_body.read_object(read_json_body(request))
        if not data:
            raise Invalid(Fault("", f"expected some of {', '.join(asked.FIELDS)}"))
        services.schedule_change(schedule_id=schedule_id, data=data, caller=caller_of(request), replaces=replaces)
        return Response(_document(self.schedule(request, schedule_id)))


class ScheduleRunListView(OfOneSchedule, FilteredListView[ScheduleRun]):
    """GET lists a schedule's runs."""

    queryset = ScheduleRun.objects.none()
    serializer_class = ScheduleRunSerializer
    newest_by = "due_at"
    filters = {"outcome": "outcome", "kind": "kind"}
    choices = {"outcome": Outcome.values, "kind": Kind.values}

    @extend_schema(**schemas.RUN_LIST)
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """List the runs, those that are due last first; the skipped and the refused ones, too."""
        return super().get(request, *args, **kwargs)

    def get_queryset(self) -> QuerySet[ScheduleRun]:
        """Return them with the states of their batches."""
        return with_states(self.schedule(self.request, self.kwargs["schedule_id"]).runs.all())


class ScheduleRunNowView(OfOneSchedule):
    """POST makes a run by hand."""

    @extend_schema(**schemas.RUN_NOW)
    def post(self, request: Request, schedule_id: UUID) -> Response:
        """Make a run at once, or where runs queue after the one that is under way."""
        self.schedule(request, schedule_id, to_change=True)
        if unknown := sorted(read_object(request)):
            raise Invalid(
                *(Fault(f"/{escape(shown(name))}", "there is no such field") for name in unknown[:MAX_FAULTS])
            )
        try:
            run = services.schedule_run_now(schedule_id=schedule_id, caller=caller_of(request))
        except Busy as busy:
            raise Problem("conflict", str(busy)) from busy
        return Response(
            ScheduleRunSerializer(with_states(ScheduleRun.objects.filter(id=run.id)).get()).data, status=202
        )


def with_states(runs: QuerySet[ScheduleRun]) -> QuerySet[ScheduleRun]:
    """Look up the states of the runs' batches with them; of one that is long gone there is none."""
    return runs.annotate(state=Subquery(Batch.objects.filter(id=OuterRef("batch_id")).values("state")[:1]))


def _document(schedule: Schedule) -> dict[str, Any]:
    """Return all of a schedule, with its next instants."""
    coming = upcoming(schedule.rule, schedule.handled_until, COMING) if schedule.enabled else []
    return ScheduleSerializer(schedule).data | {"upcoming": coming}
