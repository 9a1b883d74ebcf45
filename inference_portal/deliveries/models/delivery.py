"""The ledger: one row for each event and destination, made in the transaction that made the event."""

from uuid import UUID, uuid4

from django.db import connection, models
from django.db.models import Q
from django.utils import timezone

from inference_portal.accounts.callers import Caller
from inference_portal.accounts.models import Team
from inference_portal.deliveries.models.endpoint import MAX_URL, Endpoint
from inference_portal.deliveries.states import OPEN, WAITING, State
from inference_portal.jobs.models import Job

# Plain text: migrations and constraints keep these as they were written.
_STATES = [state.value for state in State]
_WAITING = sorted(state.value for state in WAITING)
_OPEN = sorted(state.value for state in OPEN)
_DELIVERING = State.DELIVERING.value
# Before the name of a sink, in a destination.
SINK = "sink:"


class DeliveryQuerySet(models.QuerySet["Delivery"]):
    """What the rest of the portal asks for."""

    def visible_to(self, caller: Caller) -> "DeliveryQuerySet":
        """Keep what exists for this caller: every access to a delivery goes through here."""
        return self if caller.sees_all_teams else self.filter(team_id=caller.team_id)

    def not_locked(self) -> "DeliveryQuerySet":
        """Lock the rows for this transaction, but for those that another courier has just taken."""
        # SQLite has one writer at a time anyway.
        return self.select_for_update(skip_locked=True) if connection.vendor == "postgresql" else self


class Delivery(models.Model):
    """One event on its way to one destination; the row is all there is. State is only ever changed by
    `deliveries.claims`, `deliveries.outcomes`, `deliveries.endpoints` and `deliveries.again`, along
    `deliveries.states`, by updates guarded by state and try."""

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    team = models.ForeignKey(Team, on_delete=models.PROTECT, related_name="deliveries")
    # None: a batch's event, or a test.
    job = models.ForeignKey(Job, on_delete=models.CASCADE, null=True, related_name="deliveries")
    # The same for all destinations of an event, and for all tries.
    event_id = models.CharField(max_length=100)
    event_type = models.CharField(max_length=64)
    # The CloudEvent but for the job's outputs, which are on the job's row.
    event = models.JSONField()
    # What makes it one of its event's: "url", "endpoint:<id>" or "sink:<name>".
    destination = models.CharField(max_length=64)
    # The database doesn't hold on to it: a job that ends just while it is removed would else be refused its end.
    endpoint = models.ForeignKey(
        Endpoint, on_delete=models.SET_NULL, null=True, db_constraint=False, related_name="deliveries"
    )
    # Empty: a sink's place is the operator's business.
    url = models.CharField(max_length=MAX_URL)
    # Of the URL, with its port, or a sink's destination: what a breaker is for.
    host = models.CharField(max_length=255)
    state = models.CharField(max_length=12, choices=[(s, s) for s in _STATES], default=State.PENDING.value)
    tries = models.PositiveIntegerField(default=0)
    # Since when it is tried, and after how many tries: a redelivery begins anew.
    begun_at = models.DateTimeField(default=timezone.now)
    tries_before = models.PositiveIntegerField(default=0)
    due_at = models.DateTimeField(null=True, default=timezone.now)
    lease_until = models.DateTimeField(null=True)
    created_at = models.DateTimeField(default=timezone.now)
    finished_at = models.DateTimeField(null=True)
    # Of the last try: the status of the answer, or what went wrong.
    status = models.PositiveSmallIntegerField(null=True)
    error = models.CharField(max_length=255, default="", blank=True)

    objects = DeliveryQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "deliveries"
        constraints = [
            models.CheckConstraint(name="delivery_state_is_known", condition=Q(state__in=_STATES)),
            models.CheckConstraint(
                name="delivery_leased_if_and_only_if_delivering",
                condition=Q(state=_DELIVERING, lease_until__isnull=False)
                | (~Q(state=_DELIVERING) & Q(lease_until__isnull=True)),
            ),
            models.CheckConstraint(
                name="delivery_due_if_and_only_if_waiting",
                condition=Q(state__in=_WAITING, due_at__isnull=False)
                | (~Q(state__in=_WAITING) & Q(due_at__isnull=True)),
            ),
            # However often its end is told, an event goes to a destination once.
            models.UniqueConstraint(fields=["event_id", "destination"], name="delivery_one_of_an_event"),
        ]
        indexes = [
            models.Index(fields=["team", "-created_at"], name="delivery_by_team"),
            models.Index(fields=["-created_at"], name="delivery_by_time"),
            models.Index(fields=["due_at", "host"], name="delivery_due", condition=Q(state__in=_WAITING)),
            models.Index(fields=["lease_until"], name="delivery_leased", condition=Q(state=_DELIVERING)),
            models.Index(fields=["endpoint"], name="delivery_open", condition=Q(state__in=_OPEN)),
        ]

    def __str__(self) -> str:
        return f"{self.event_type} to {self.host}"

    @property
    def is_open(self) -> bool:
        """Tell whether it is still on its way."""
        return self.state in OPEN

    @property
    def sink(self) -> str | None:
        """The name of the sink that it goes to, None for an address."""
        return self.destination.removeprefix(SINK) if self.destination.startswith(SINK) else None

    @property
    def batch_id(self) -> UUID | None:
        """The batch that it tells of, None for none."""
        batch = self.event.get("data", {}).get("batch")
        return None if batch is None else UUID(batch)
