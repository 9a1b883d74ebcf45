"""A schedule, and what became of each of its runs."""

from uuid import uuid4
from zoneinfo import ZoneInfo

from django.db import connection, models
from django.db.models import Q
from django.utils.timezone import now

from inference_portal.accounts.callers import Caller
from inference_portal.accounts.models import Role, Team
from inference_portal.batches.schedules.due import MAX_CRON, MAX_SECONDS, Cron, Every, Once, Rule
from inference_portal.batches.schedules.policy import CatchUp, Overlap

MAX_NAME = 100
_CATCH_UP = [each.value for each in CatchUp]
_OVERLAP = [each.value for each in Overlap]


class ScheduleQuerySet(models.QuerySet["Schedule"]):
    """What the rest of the portal asks for."""

    def visible_to(self, caller: Caller) -> "ScheduleQuerySet":
        """Keep what exists for this caller."""
        return self if caller.sees_all_teams else self.filter(team_id=caller.team_id)

    def not_locked(self) -> "ScheduleQuerySet":
        """Lock the rows for this transaction, but for those that somebody else has: that one does what there is."""
        # SQLite has one writer at a time anyway.
        return self.select_for_update(skip_locked=True, no_key=True) if _has_row_locks() else self

    def locked(self) -> "ScheduleQuerySet":
        """Lock the rows for this transaction, once whoever has them is through."""
        return self.select_for_update(no_key=True) if _has_row_locks() else self


class Schedule(models.Model):
    """When which batch is to run. Changed by `schedules.services` and `schedules.tick` alone."""

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    team = models.ForeignKey(Team, on_delete=models.PROTECT, related_name="schedules")
    submitted_by = models.CharField(max_length=200)
    name = models.CharField(max_length=MAX_NAME)
    # One of the three.
    cron = models.CharField(max_length=MAX_CRON, default="", blank=True)
    every_seconds = models.PositiveIntegerField(null=True, blank=True)
    at = models.DateTimeField(null=True, blank=True)
    timezone = models.CharField(max_length=64, default="UTC")
    # What POST /api/batches/ takes, with templates in its addresses, and `deadline_seconds` in place of `deadline`.
    batch = models.JSONField()
    catch_up = models.CharField(max_length=8, choices=[(c, c) for c in _CATCH_UP], default=CatchUp.LATEST.value)
    overlap = models.CharField(max_length=8, choices=[(o, o) for o in _OVERLAP], default=Overlap.SKIP.value)
    # {"before_seconds": 86400, "rows": 1000}
    rehearsal = models.JSONField(null=True, blank=True)
    enabled = models.BooleanField(default=True)
    created_at = models.DateTimeField(default=now)
    # When the last run was due that was made.
    last_due_at = models.DateTimeField(null=True)
    # No instant up to here counts: when it was made, got another time or was turned on.
    counts_from = models.DateTimeField(default=now)
    # Every instant up to here has been decided on.
    handled_until = models.DateTimeField(default=now)
    # So that a tick finds what it has to do by an index. None when nothing comes.
    next_due_at = models.DateTimeField(null=True)
    next_rehearsal_at = models.DateTimeField(null=True)

    objects = ScheduleQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["team", "name"], name="schedule_name_once_in_a_team"),
            models.CheckConstraint(
                name="schedule_has_one_rule",
                condition=(~Q(cron="") & Q(every_seconds=None, at=None))
                | Q(cron="", every_seconds__isnull=False, at=None)
                | Q(cron="", every_seconds=None, at__isnull=False),
            ),
            models.CheckConstraint(
                name="schedule_interval_is_possible",
                condition=Q(every_seconds=None) | Q(every_seconds__gte=1, every_seconds__lte=MAX_SECONDS),
            ),
            models.CheckConstraint(
                name="schedule_policies_are_known", condition=Q(catch_up__in=_CATCH_UP, overlap__in=_OVERLAP)
            ),
        ]
        indexes = [
            models.Index(fields=["next_due_at"], name="schedule_due", condition=Q(enabled=True)),
            models.Index(fields=["team", "-created_at"], name="schedule_by_team"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def zone(self) -> ZoneInfo:
        """Its time zone."""
        return ZoneInfo(self.timezone)

    @property
    def rule(self) -> Rule:
        """When it is due."""
        if self.cron:
            return Cron(self.cron, self.zone)
        if self.every_seconds is not None:
            return Every(self.every_seconds, self.created_at.replace(microsecond=0))
        # The constraint above says that it has one.
        assert self.at is not None  # noqa: S101
        return Once(self.at)

    @property
    def caller(self) -> Caller:
        """Who its batches are submitted by."""
        return Caller(self.team_id, Role.SUBMITTER, f"schedule {self.name}")


class Kind(models.TextChoices):
    """Why there is a run."""

    PLANNED = "planned", "planned"
    MANUAL = "manual", "by hand"
    REHEARSAL = "rehearsal", "rehearsal"


class Outcome(models.TextChoices):
    """What became of it so far. Waiting: for the run before it, or for room; made: there is a batch."""

    WAITING = "waiting", "waits"
    MADE = "made", "made"
    SKIPPED = "skipped", "skipped"
    REFUSED = "refused", "refused"


class ScheduleRun(models.Model):
    """One instant of a schedule and what became of it; whoever stores it first has seen it first."""

    schedule = models.ForeignKey(Schedule, on_delete=models.CASCADE, related_name="runs")
    # Of a rehearsal: of the run that it rehearses; of one by hand: when somebody asked for it.
    due_at = models.DateTimeField()
    kind = models.CharField(max_length=16, choices=Kind, default=Kind.PLANNED)
    outcome = models.CharField(max_length=16, choices=Outcome)
    batch_id = models.UUIDField(null=True)
    why = models.TextField(default="", blank=True)
    # Of a rehearsal: what has changed since the last run.
    warnings = models.JSONField(default=list)
    decided_at = models.DateTimeField(default=now)
    made_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["schedule", "due_at", "kind"], name="schedule_run_once"),
            models.CheckConstraint(
                name="schedule_run_made_if_and_only_if_batch",
                condition=Q(outcome=Outcome.MADE.value, batch_id__isnull=False, made_at__isnull=False)
                | (~Q(outcome=Outcome.MADE.value) & Q(batch_id=None, made_at=None)),
            ),
        ]
        indexes = [
            models.Index(fields=["schedule", "-due_at", "-id"], name="schedule_run_newest"),
            models.Index(fields=["schedule", "due_at"], name="schedule_run_waits", condition=Q(outcome="waiting")),
        ]

    def __str__(self) -> str:
        return f"{self.schedule_id} {self.due_at:%Y-%m-%d %H:%M} {self.outcome}"


def _has_row_locks() -> bool:
    return connection.vendor == "postgresql"
