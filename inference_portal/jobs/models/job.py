"""The jobs: one row each, which is also the outbox."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from django.db import connection, models
from django.db.models import Q, Value
from django.db.models.functions import Now, StrIndex
from django.utils import timezone

from inference_portal.accounts.callers import Caller
from inference_portal.accounts.models import Team
from inference_portal.jobs import sql
from inference_portal.jobs.models.attempt import Attempt
from inference_portal.jobs.states import FINAL, State
from workers import topology

# Plain text: migrations and constraints keep these as they were written.
_STATES = [state.value for state in State]
_FINAL = sorted(state.value for state in FINAL)
_DUE = [State.QUEUED.value, State.RETRYING.value]
# What neither a status nor a result says.
_NOT_BRIEF = {"input", "input_sha256", "fingerprint", "idempotency_key", "labels", "libraries", "webhook", "sink"}
# In the place of a pool: no worker has to do with it.
RELAY = "relay"
_DEAD = State.DEAD_LETTERED.value


def labels_in(stored: str) -> list[str]:
    """Return labels, in the order in which they were sent, from how a job holds them."""
    return stored.split("\n")[1:-1]


class Priority(models.IntegerChoices):
    """Which of a team's jobs go first."""

    HIGH = 0, "high"
    NORMAL = 1, "normal"
    LOW = 2, "low"


class JobQuerySet(models.QuerySet["Job"]):
    """What the rest of the portal asks for."""

    def visible_to(self, caller: Caller) -> "JobQuerySet":
        """Keep what exists for this caller: every access to a job goes through here or `named`."""
        return self if caller.sees_all_teams else self.filter(team_id=caller.team_id)

    def named(self, job_id: UUID, caller: Caller, model: str | None = None) -> "Job | None":
        """Return one request without its input, if it exists for the caller: what every poll of every client asks for.

        With `model`, only if it is one of that model's.
        """
        where = "id = %s AND (team_id = %s OR %s) AND batch_id IS NULL"
        job = next(self._brief(where, [*sql.keys([job_id]), caller.team_id, caller.sees_all_teams]), None)
        return job if job is not None and model in (None, job.model) else None

    def ended(self, job_ids: Iterable[UUID]) -> "Iterator[Job]":
        """Return those of the jobs that are final, without their inputs: what the wait hub asks for."""
        keys = sql.keys(job_ids)
        where = f"id IN ({sql.places(keys)}) AND state IN ({sql.places(_FINAL)})"
        return self._brief(where, [*keys, *_FINAL])

    def brief(self, job_ids: Iterable[UUID]) -> "Iterator[Job]":
        """Return the jobs without their inputs: what those ask for who follow them."""
        keys = sql.keys(job_ids)
        return self._brief(f"id IN ({sql.places(keys)})", keys)

    def _brief(self, where: str, parameters: list[Any]) -> "Iterator[Job]":
        """`filter(…).defer(*_NOT_BRIEF)` without building that query each time: 260 against 630 µs of CPU."""
        columns = ", ".join(str(field.column) for field in Job._meta.concrete_fields if field.name not in _NOT_BRIEF)
        # `where` is one of the constants above; every value is a parameter.
        return iter(self.raw(f"SELECT {columns} FROM jobs_job WHERE {where}", parameters))  # noqa: S608

    def due(self) -> "JobQuerySet":
        """Keep what waits for the dispatcher now, by priority, and the first in the queue first."""
        now = timezone.now()
        waiting = self.filter(state__in=_DUE, lease_until=None).order_by("priority", "queued_at", "id")
        return waiting.filter(Q(not_before=None) | Q(not_before__lte=now), Q(expires_at=None) | Q(expires_at__gt=now))

    def ended_since(self, moment: datetime) -> "JobQuerySet":
        """Keep what has ended since then and is not purged: by the index `job_ended`."""
        return self.filter(finished_at__isnull=False, purged_at=None, finished_at__gte=moment)

    def dead_letters(self) -> "JobQuerySet":
        """Keep what was given up and waits for a person, the latest first."""
        return self.filter(state=_DEAD, discarded_at=None).order_by("-finished_at", "-id")

    def not_locked(self) -> "JobQuerySet":
        """Lock the rows for this transaction, but for those that somebody else changes now: no waiting, no deadlock."""
        # SQLite has one writer at a time anyway.
        return self.select_for_update(skip_locked=True) if connection.vendor == "postgresql" else self

    def labelled(self, label: str) -> "JobQuerySet":
        """Keep what carries this label."""
        return self.alias(at=StrIndex("labels", Value(f"\n{label}\n"))).filter(at__gt=0)

    def requests(self) -> "JobQuerySet":
        """Keep what clients have asked for, without the steps of batches."""
        return self.filter(batch_id=None)

    def without_payload(self) -> "JobQuerySet":
        """Leave the input and the result in the database."""
        return self.defer("input", "result")


class Job(models.Model):
    """One inference request. The row is also the outbox: a due row is a message still to be sent.

    `lease_until` is set from the dispatcher's claim until the attempt is over. State is only ever changed by
    `jobs.services`, `jobs.claims`, `jobs.record`, `jobs.sweep` and `jobs.rerun`, along `jobs.states`.
    """

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    # (`job_by_team` begins with it.)
    team = models.ForeignKey(Team, on_delete=models.PROTECT, related_name="jobs", db_index=False)
    submitted_by = models.CharField(max_length=200)
    model = models.CharField(max_length=64)
    version = models.CharField(max_length=9)
    sha256 = models.CharField("model sha256", max_length=64)
    pool = models.CharField(max_length=16)
    # A suspect: tried alone, through the pool's isolation lane.
    isolated = models.BooleanField(default=False, db_default=False)
    priority = models.PositiveSmallIntegerField(
        choices=Priority, default=Priority.NORMAL, db_default=Priority.NORMAL.value
    )
    # Jobs of one team, model and key run one after the other, in the order of `queued_at`.
    ordering_key = models.CharField(max_length=255, default="", db_default="", blank=True)
    # Not to be started after this.
    expires_at = models.DateTimeField(null=True)
    state = models.CharField(max_length=16, choices=[(s, s) for s in _STATES], default=State.QUEUED.value)
    # The number of the current or next attempt, from 1.
    attempt = models.PositiveSmallIntegerField(default=1)
    # Of the attempts before, those that the model's policy counts.
    failures = models.PositiveSmallIntegerField(default=0, db_default=0)
    rows = models.PositiveIntegerField()
    # The matrix in signature order: little-endian float32, C order.
    input = models.BinaryField()
    input_sha256 = models.CharField(max_length=64, default="", db_default="")
    # How to answer: the wire format, the client's own V2 id, the outputs that it asked for.
    reply = models.JSONField(default=dict)
    # Fire and forget: once it has succeeded its input isn't kept, its result only for those in `jobs.endings`.
    keeps_result = models.BooleanField(default=True, db_default=True)
    # What a repeat of the request is known by (see `jobs.repeats`).
    idempotency_key = models.CharField(max_length=255, default="", db_default="", blank=True)
    fingerprint = models.CharField(max_length=64, default="", db_default="")
    # Each between two line feeds, so that one is found with its ends.
    labels = models.TextField(default="", db_default="", blank=True)
    # Where to tell of its end, beside the endpoints that the team has registered; `deliveries` reads it.
    webhook = models.CharField(max_length=2048, default="", db_default="", blank=True)
    # The sink that its result goes to, by name.
    sink = models.CharField(max_length=64, default="", db_default="", blank=True)
    # A JSON list of V2 tensors, as the worker sent it.
    result = models.BinaryField(null=True)
    accepted_at = models.DateTimeField(default=timezone.now)
    # Its place in the queue: its acceptance, or its replay, by the database's clock (see `jobs.intake`).
    queued_at = models.DateTimeField(default=timezone.now, db_default=Now())
    # Of a retry only. A new job is due at once, whatever the clocks of portal and dispatcher say.
    not_before = models.DateTimeField(null=True)
    bundle = models.UUIDField(null=True)
    # A batch's step is a job, too: what the step does ("plan", "chunk" …), and `input` says how, as JSON.
    step = models.CharField(max_length=8, default="", db_default="", blank=True)
    batch_id = models.UUIDField(null=True)
    # How long one try may take; without it as the model's manifest says.
    timeout_seconds = models.FloatField(null=True)
    lease_until = models.DateTimeField(null=True)
    # Set once the broker has confirmed the message; a claim that ends before that costs no attempt.
    sent_at = models.DateTimeField(null=True)
    # By the recorder's clock: when the result had come, and earlier by as long as the worker says that it ran.
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    worker = models.CharField(max_length=255, default="")
    host = models.CharField(max_length=255, default="", db_default="")
    device = models.CharField(max_length=32, default="")
    # The libraries that made the result, with their versions.
    libraries = models.CharField(max_length=255, default="", db_default="")
    error_code = models.CharField(max_length=32, default="")
    error_message = models.TextField(default="")
    # A dead letter that an operator has dealt with.
    discarded_at = models.DateTimeField(null=True)
    # When retention removed its input and its result.
    purged_at = models.DateTimeField(null=True)

    objects = JobQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(name="job_state_is_known", condition=Q(state__in=_STATES)),
            models.CheckConstraint(
                name="job_finished_if_and_only_if_final",
                condition=Q(state__in=_FINAL, finished_at__isnull=False)
                | (~Q(state__in=_FINAL) & Q(finished_at__isnull=True)),
            ),
            models.CheckConstraint(
                name="job_result_only_if_succeeded",
                condition=Q(state=State.SUCCEEDED.value) | Q(result__isnull=True),
            ),
            models.CheckConstraint(
                name="job_running_has_lease", condition=~Q(state=State.RUNNING.value) | Q(lease_until__isnull=False)
            ),
            models.CheckConstraint(name="job_final_has_no_lease", condition=Q(finished_at=None) | Q(lease_until=None)),
            models.CheckConstraint(
                name="job_step_has_batch",
                condition=Q(step="", batch_id=None) | (~Q(step="") & Q(batch_id__isnull=False)),
            ),
            # Two dispatchers can't send two jobs of one key at once, whatever each of them has seen.
            models.UniqueConstraint(
                fields=["team", "model", "ordering_key"],
                name="job_one_of_a_key_under_way",
                condition=~Q(ordering_key="") & Q(lease_until__isnull=False),
            ),
            # Of requests that arrive together with one key only one becomes a job.
            models.UniqueConstraint(
                fields=["team", "idempotency_key"],
                name="job_one_of_an_idempotency_key",
                condition=~Q(idempotency_key=""),
            ),
        ]
        indexes = [
            models.Index(fields=["team", "-accepted_at"], name="job_by_team"),
            models.Index(fields=["-accepted_at"], name="job_by_time"),
            models.Index(
                fields=["pool", "isolated", "team", "priority", "queued_at"],
                name="job_due",
                condition=Q(state__in=_DUE, lease_until=None),
            ),
            models.Index(fields=["lease_until"], name="job_leased", condition=Q(lease_until__isnull=False)),
            models.Index(fields=["team"], name="job_open", condition=Q(finished_at=None)),
            models.Index(
                fields=["team", "model", "ordering_key", "queued_at"],
                name="job_ordered",
                condition=~Q(ordering_key="") & Q(finished_at=None),
            ),
            models.Index(
                fields=["expires_at"], name="job_expiring", condition=Q(expires_at__isnull=False, finished_at=None)
            ),
            models.Index(
                fields=["finished_at"], name="job_ended", condition=Q(finished_at__isnull=False, purged_at=None)
            ),
            models.Index(
                fields=["model", "-finished_at"],
                name="job_pace",
                condition=Q(state=State.SUCCEEDED.value, purged_at=None),
            ),
            models.Index(fields=["batch_id", "step"], name="job_of_batch", condition=Q(batch_id__isnull=False)),
            models.Index(
                fields=["batch_id"], name="job_open_step", condition=Q(batch_id__isnull=False, finished_at=None)
            ),
            models.Index(fields=["purged_at"], name="job_purged", condition=Q(purged_at__isnull=False)),
            models.Index(fields=["-finished_at"], name="job_dead", condition=Q(state=_DEAD, discarded_at=None)),
        ]

    def __str__(self) -> str:
        return f"{self.model} {self.id}"

    @property
    def status_path(self) -> str:
        """The path of its status."""
        return f"/status/{self.model}/{self.id}"

    @property
    def result_path(self) -> str:
        """The path of its result."""
        return f"/result/{self.model}/{self.id}"

    @property
    def label_list(self) -> list[str]:
        """Its labels, in the order in which they were sent."""
        return labels_in(self.labels)

    @property
    def lane(self) -> str:
        """The lane that its messages take: its pool's, or the isolation lane beside it."""
        return topology.lane(self.pool, self.isolated)

    @property
    def is_relay(self) -> bool:
        """Tell whether it was handed to the model's container at once (see `jobs.relay`)."""
        return self.pool == RELAY

    @property
    def is_final(self) -> bool:
        """Tell whether the job has ended."""
        return self.state in FINAL

    @property
    def all_attempts(self) -> list[Attempt]:
        """Return the attempts that failed, and the one that runs or succeeded, which is not stored but on the job."""
        attempts = list(self.failed_attempts.all())
        if self.started_at is not None and all(a.number != self.attempt for a in attempts):
            ended = {"finished_at": self.finished_at, "code": "" if self.finished_at is None else self.state}
            attempts.append(
                Attempt(
                    job=self,
                    number=self.attempt,
                    worker=self.worker,
                    host=self.host,
                    device=self.device,
                    started_at=self.started_at,
                    **ended,
                )
            )
        return attempts
