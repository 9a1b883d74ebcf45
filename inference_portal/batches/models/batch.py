"""The batches: one row each."""

from typing import Any
from uuid import UUID, uuid4

from django.db import connection, models
from django.db.models import Q
from django.db.models.fields.json import KT
from django.db.models.functions import Cast
from django.utils import timezone

from inference_portal.accounts.callers import Caller
from inference_portal.accounts.models import Team
from inference_portal.batches.policies import RetryPolicy
from inference_portal.batches.states import FINAL, State

# Plain text: migrations and constraints keep these as they were written.
_STATES = [state.value for state in State]
_FINAL = sorted(state.value for state in FINAL)
_POLICIES = [policy.value for policy in RetryPolicy]
CHUNK_ROWS = 250_000
MAX_ATTEMPTS = 3


class BatchQuerySet(models.QuerySet["Batch"]):
    """What the rest of the portal asks for."""

    def visible_to(self, caller: Caller) -> "BatchQuerySet":
        """Keep what exists for this caller: every access to a batch goes through here."""
        return self if caller.sees_all_teams else self.filter(team_id=caller.team_id)

    def open(self) -> "BatchQuerySet":
        """Keep what has not ended: by the index `batch_open`."""
        return self.filter(finished_at=None)

    def annotate_beginning(self) -> "BatchQuerySet":
        """Add `begun` and `before` of the plan (see `batches.estimate.Progress`) without reading all of it."""
        return self.annotate(begun=KT("plan__begun"), before=Cast(KT("plan__before"), models.BigIntegerField()))

    def locked(self, batch_id: UUID, *, waits: bool) -> "Batch | None":
        """Lock the row for this transaction and return it; None if there is none, or (unless one waits) it is locked.

        SQLite has one writer at a time anyway. Not against those who only refer to it: they add events.
        """
        found = self.filter(id=batch_id)
        if connection.vendor == "postgresql":
            found = found.select_for_update(skip_locked=not waits, no_key=True)
        return found.first()


class Batch(models.Model):
    """One run of one release over one data set. Its steps are jobs.

    State is only ever changed by `batches.services`, `batches.advance` and `batches.ending`, along `batches.states`,
    each with the row locked.
    """

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    team = models.ForeignKey(Team, on_delete=models.PROTECT, related_name="batches")
    submitted_by = models.CharField(max_length=200)
    model = models.CharField(max_length=64)
    version = models.CharField(max_length=9)
    sha256 = models.CharField("model sha256", max_length=64)
    # {"uri", "format", …} as `workers.datasets` reads it, and {"uri" or None, "format"}.
    input = models.JSONField()
    output = models.JSONField()
    keep_columns = models.JSONField(default=list)
    chunk_rows = models.PositiveIntegerField(default=CHUNK_ROWS)
    retry_policy = models.CharField(
        max_length=8, choices=[(p, p) for p in _POLICIES], default=RetryPolicy.PARTIAL.value
    )
    # Of each chunk, or with the policy `all` of the whole run: counted from the last rerun by hand.
    max_attempts = models.PositiveSmallIntegerField(default=MAX_ATTEMPTS)
    # The share of the rows that may fail, from 0 to 1; None: all but one.
    error_threshold = models.FloatField(null=True)
    deadline = models.DateTimeField(null=True)
    state = models.CharField(max_length=16, choices=[(s, s) for s in _STATES], default=State.QUEUED.value)
    # The number of the current or last attempt, from 1, and how many there were before the last rerun by hand.
    attempt = models.PositiveSmallIntegerField(default=1)
    attempts_before = models.PositiveSmallIntegerField(default=0)
    rows_total = models.PositiveBigIntegerField(null=True)
    # Of chunks that are through, whether or not they failed; and those of them without a prediction.
    rows_done = models.PositiveBigIntegerField(default=0)
    rows_failed = models.PositiveBigIntegerField(default=0)
    chunks_total = models.PositiveIntegerField(default=0)
    chunks_done = models.PositiveIntegerField(default=0)
    # By the last estimate it will not be through at its deadline.
    at_risk = models.BooleanField(default=False)
    eta = models.DateTimeField(null=True)
    # Rows a second, by the estimate.
    pace = models.FloatField(null=True)
    # What it waits for, for people.
    note = models.TextField(default="", blank=True)
    # What the plan found (see `batches.advance`); once rows are done also since when in this attempt ("begun"), and how
    # many were before.
    plan = models.JSONField(null=True)
    created_at = models.DateTimeField(default=timezone.now)
    # When its first plan had come.
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    error_code = models.CharField(max_length=32, default="", blank=True)
    error_message = models.TextField(default="", blank=True)
    # What made the output: see `batches.receipt`.
    receipt = models.JSONField(null=True)
    # The schedule that made it, and for which instant.
    schedule_id = models.UUIDField(null=True)
    due_at = models.DateTimeField(null=True)
    # Of a rehearsal: only so many rows, the first ones.
    sample_rows = models.PositiveIntegerField(null=True)
    # What had failed in the schedule's run before.
    carried = models.JSONField(null=True)
    # Since when its parts, and its whole folder, are given up: steps remove them.
    cleaned_at = models.DateTimeField(null=True)
    purged_at = models.DateTimeField(null=True)

    objects = BatchQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "batches"
        constraints = [
            models.CheckConstraint(name="batch_state_is_known", condition=Q(state__in=_STATES)),
            models.CheckConstraint(name="batch_policy_is_known", condition=Q(retry_policy__in=_POLICIES)),
            models.CheckConstraint(
                name="batch_finished_if_and_only_if_final",
                condition=Q(state__in=_FINAL, finished_at__isnull=False)
                | (~Q(state__in=_FINAL) & Q(finished_at__isnull=True)),
            ),
            models.CheckConstraint(
                name="batch_threshold_is_a_share",
                condition=Q(error_threshold=None) | Q(error_threshold__gte=0, error_threshold__lte=1),
            ),
            # However many beats run: one run for each instant.
            models.UniqueConstraint(fields=["schedule_id", "due_at"], name="batch_once_per_due_instant"),
        ]
        indexes = [
            models.Index(fields=["team", "-created_at"], name="batch_by_team"),
            models.Index(fields=["-created_at"], name="batch_by_time"),
            models.Index(fields=["team", "state"], name="batch_open", condition=Q(finished_at=None)),
            models.Index(
                fields=["finished_at"], name="batch_ended", condition=Q(finished_at__isnull=False, purged_at=None)
            ),
            models.Index(fields=["purged_at"], name="batch_purged", condition=Q(purged_at__isnull=False)),
        ]

    def __str__(self) -> str:
        return f"{self.model} {self.id}"

    @property
    def folder(self) -> str:
        """Where its output lies unless it has a place of its own, and its parts do meanwhile."""
        return f"store://batches/{self.id}"

    @property
    def is_final(self) -> bool:
        """Tell whether the run has ended."""
        return self.state in FINAL

    @property
    def policy(self) -> RetryPolicy:
        """Its retry policy."""
        return RetryPolicy(self.retry_policy)

    @property
    def run_tries(self) -> int:
        """How often it was tried since it was submitted or rerun by hand."""
        return self.attempt - self.attempts_before

    @property
    def planned(self) -> dict[str, Any]:
        """What the plan found; only once there is one."""
        if self.plan is None:
            raise ValueError(f"batch {self.id} has no plan")
        plan: dict[str, Any] = self.plan
        return plan
