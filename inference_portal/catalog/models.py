"""The tables: each version's part of the traffic now, and what was done to come there."""

from typing import Any

from django.db import models
from django.db.models import Q


class Traffic(models.Model):
    """A version that somebody has released or retired, and its part of the requests that name no version.

    A model without any weight takes its first version, see `catalog.traffic`. Written by `catalog.releases` alone.
    """

    model = models.CharField(max_length=64)
    version = models.CharField(max_length=9)
    # The model file that was released; another one under the same version takes no traffic.
    sha256 = models.CharField(max_length=64)
    # In percent; those of a model add up to 100.
    weight = models.FloatField(default=0.0)
    retired = models.BooleanField(default=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["model", "version"], name="traffic_of_a_version_once"),
            models.CheckConstraint(name="traffic_weight_is_a_percentage", condition=Q(weight__gte=0, weight__lte=100)),
            models.CheckConstraint(name="traffic_retired_takes_none", condition=Q(retired=False) | Q(weight=0)),
        ]

    def __str__(self) -> str:
        return f"{self.model}:{self.version} {self.weight:g} %"


class Action(models.TextChoices):
    """What can be done to a version."""

    RELEASE = "release", "released"
    ROLLBACK = "rollback", "rolled back"
    RETIRE = "retire", "retired"


# A split as an event keeps it: [{"version": "1", "sha256": "…", "weight": 90.0}, …].
Split = list[dict[str, Any]]


class ReleaseEvent(models.Model):
    """One change of a model's traffic: who made it, when, why and on what grounds. Never changed, never removed."""

    at = models.DateTimeField(auto_now_add=True)
    who = models.CharField(max_length=200)
    reason = models.TextField(default="")
    action = models.CharField(max_length=16, choices=Action)
    model = models.CharField(max_length=64)
    # Of a rollback: the one whose release was taken back.
    version = models.CharField(max_length=9)
    sha256 = models.CharField(max_length=64)
    # The form of the manifest by which the version was released.
    template = models.PositiveSmallIntegerField(null=True)
    before = models.JSONField(default=list)
    after = models.JSONField(default=list)
    # Of a release: the job that answered the golden samples, and how many rows they are.
    golden = models.JSONField(null=True)

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["model", "-id"], name="release_event_by_model")]

    def __str__(self) -> str:
        return f"{self.who}: {self.action} {self.model}:{self.version}"
