"""Where a team wants to hear of what happens, and what it knows our calls by."""

import base64
import secrets
from uuid import uuid4

from django.db import models
from django.utils import timezone

from inference_portal.accounts.callers import Caller
from inference_portal.accounts.models import Team
from inference_portal.deliveries.events import is_wanted

MAX_URL = 2048


def new_secret() -> str:
    """Return a key as Standard Webhooks writes it: 32 bytes in base64 behind `whsec_`."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


class EndpointQuerySet(models.QuerySet["Endpoint"]):
    """What the rest of the portal asks for."""

    def visible_to(self, caller: Caller) -> "EndpointQuerySet":
        """Keep what exists for this caller: every access to an endpoint goes through here."""
        return self if caller.sees_all_teams else self.filter(team_id=caller.team_id)


class Endpoint(models.Model):
    """A registered webhook. Both keys sign while one takes the place of the other."""

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    team = models.ForeignKey(Team, on_delete=models.PROTECT, related_name="endpoints")
    submitted_by = models.CharField(max_length=200)
    url = models.CharField(max_length=MAX_URL)
    # Types of events, or their beginnings with a * behind; none: all.
    events = models.JSONField(default=list)
    enabled = models.BooleanField(default=True)
    # Why the courier turned it off.
    disabled_reason = models.CharField(max_length=255, default="", blank=True)
    secret = models.CharField(max_length=80, default=new_secret)
    old_secret = models.CharField(max_length=80, default="", blank=True)
    old_secret_until = models.DateTimeField(null=True)
    # Of the last call that went well.
    succeeded_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField(default=timezone.now)

    objects = EndpointQuerySet.as_manager()

    class Meta:
        verbose_name = "webhook"
        indexes = [models.Index(fields=["team", "-created_at"], name="endpoint_by_team")]

    def __str__(self) -> str:
        return self.url

    def wants(self, kind: str) -> bool:
        """Tell whether it is to hear of events of this type."""
        return not self.events or is_wanted(kind, self.events)

    @property
    def keys(self) -> list[str]:
        """The keys that sign now, the newest first."""
        old = self.old_secret if self.old_secret_until is not None and self.old_secret_until > timezone.now() else ""
        return [self.secret, old] if old else [self.secret]


class TeamSecret(models.Model):
    """What signs the calls to addresses that a single request names."""

    team = models.OneToOneField(Team, on_delete=models.CASCADE, primary_key=True, related_name="webhook_secret")
    secret = models.CharField(max_length=80, default=new_secret)

    def __str__(self) -> str:
        return f"of team {self.team_id}"
